"""Series of simple bodies in kernels, of any number of patients."""

import numpy as np
from bodies import PITCH, body, reconstruct
from synthetic import write_ct


def soft(f):
    return np.exp(-((f / 4.0) ** 2))


def softer(f):
    return np.exp(-((f / 3.2) ** 2))


def sharp(f):
    return np.exp(-((f / 6.0) ** 2)) * (1 + 0.4 * (f / 4) ** 2 * np.exp(1 - (f / 4) ** 2))


KERNELS = {"SOFT": soft, "SOFTER": softer, "SHARP": sharp}


def write_patient(folder, kernel, seed, dose=1.0, called="", slices=3):
    """A patient in a kernel; clipped at -1024 HU as scanners do."""
    hu = np.stack([reconstruct(*body(100 * seed + z, dose), KERNELS[kernel]) for z in range(slices)])
    stored = np.clip(np.rint(hu) + 1024, 0, 4095).astype(int)

    def edit(header, _):
        header.PatientID, header.StudyInstanceUID = f"P{seed}", f"1.2.3.{seed}"
        header.FrameOfReferenceUID, header.Exposure = f"1.2.4.{seed}", str(int(100 / dose))

    write_ct(folder / f"P{seed}-{kernel}", stored, kernel=called or kernel, spacing=(PITCH, PITCH), series=seed, edit=edit)
    return folder
