"""A simulated patient's scan as a DICOM study: all series of one raw data set, with headers that say what they are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage

from stan_ct import __version__
from stan_ct.ct.display_windows import LUNG_WINDOW, SOFT_TISSUE_WINDOW
from stan_ct.ct.kernels import Kernel
from stan_ct.dicom.identity import derived_uid
from stan_ct.dicom.write import dicom_file
from stan_ct.simulation.acquisition import (
    DOSES,
    FIELD_OF_VIEW,
    PIXELS,
    STORED_HU,
    Z_STEP,
    Noise,
    Reconstruction,
    Scanner,
    slice_sensitivity,
    to_stored_hu,
)
from stan_ct.simulation.phantom.thorax import ThoraxPhantom

THICKNESSES = (0.5, 20.0)
"""Least and largest nominal slice thickness, mm."""

BODY = (-170.0, 130.0)
"""Extent of the anatomy, mm above the carina."""

CHEST = (-90.0, 60.0)
"""Extent of the slices, mm above the carina, unless `Scan.start` says otherwise or they do not fit."""

COMMENT = "Simulated CT of a mathematical thorax phantom; not a patient. Kernel curves are estimates."


@dataclass(frozen=True)
class Scan:
    """Settings of a scan and its reconstructions; with a seed they determine every byte written.

    Attributes:
        kernels: One or more.
        thicknesses: Nominal slice thicknesses, mm; a series for each kernel and thickness.
        slices: Slices of each series; all series have theirs at the same places.
        increment: Distance of slices, mm; a multiple of `Z_STEP`.
        dose: Range of the patient's dose factor, drawn uniformly in its logarithm.
        start: Position of the lowest slice, mm above the carina; None for one that the seed determines.
        scanner: Parameters of the scanner; its dose is multiplied by the patient's.
    Raises:
        ValueError: If a number is out of its range.
    """

    kernels: tuple[Kernel, ...]
    thicknesses: tuple[float, ...] = (1.0,)
    slices: int = 24
    increment: float = 1.0
    dose: tuple[float, float] = (0.5, 2.0)
    start: float | None = None
    scanner: Scanner = field(default_factory=Scanner)

    def __post_init__(self) -> None:
        names, series = [kernel.name for kernel in self.kernels], [name.lower() for name in self.folders]
        if not names or len(set(map(str.lower, names))) < len(names):
            raise ValueError(f"expected one or more kernels of different names, got {names or 'none'}")
        low, high = THICKNESSES
        if not series or len(set(series)) < len(series) or not all(low <= t <= high for t in self.thicknesses):
            raise ValueError(f"expected different thicknesses of {low:g} to {high:g} mm, got {list(self.thicknesses)}")
        if self.slices < 1 or self.increment <= 0 or self.increment % Z_STEP:
            raise ValueError(
                f"expected at least one slice, at an increment that is a multiple of {Z_STEP:g} mm, got {self.slices} at "
                f"{self.increment:g} mm"
            )
        if not DOSES[0] <= self.dose[0] <= self.dose[1] <= DOSES[1]:
            raise ValueError(
                f"expected a range of doses within {DOSES[0]:g} to {DOSES[1]:g}, lower end first, got {self.dose[0]:g} to "
                f"{self.dose[1]:g}"
            )
        length = (self.slices - 1) * self.increment
        first = sum(CHEST) / 2 - length / 2 if self.start is None else self.start
        if not (first >= BODY[0] and first + length <= BODY[1]) or (self.start or 0) % Z_STEP:
            raise ValueError(
                f"slices must lie within {BODY[0]:g} to {BODY[1]:g} mm of the carina, at a start that is a multiple of "
                f"{Z_STEP:g} mm; these would lie from {first:g} to {first + length:g} mm"
            )

    @cached_property
    def key(self) -> str:
        """Settings that, with the seed, determine the pixels of a slice, as JSON; UIDs are derived from it."""
        parts = {name: value for name, value in asdict(self).items() if name not in ("slices", "start")}
        return json.dumps({"stan_ct": __version__, **parts}, sort_keys=True)

    @property
    def folders(self) -> list[str]:
        """A folder name for every series, in the order of `series`."""
        return [f"{kernel.name.replace('/', '-')}_{thickness:g}mm" for _, kernel, thickness in self.series]

    @property
    def series(self) -> list[tuple[int, Kernel, float]]:
        """(index of the kernel, kernel, thickness) of every series."""
        return [(k, kernel, thickness) for thickness in self.thicknesses for k, kernel in enumerate(self.kernels)]


class Patient:
    """One simulated patient: the phantom, the dose, and where the scan lies, all from a seed.

    Args:
        seed: Any integer from 0 to 999999.
        scan: Settings of the scan.
    """

    def __init__(self, seed: int, scan: Scan) -> None:
        rng = np.random.default_rng((seed, 1))
        self.seed, self.scan, self.name = seed, scan, f"SIM{seed:06d}"
        self.dose = float(np.exp(rng.uniform(*np.log(scan.dose))))
        length = (scan.slices - 1) * scan.increment
        slack = CHEST[1] - CHEST[0] - length  # below 0: the scan goes beyond the chest on both sides
        drawn = CHEST[0] + (rng.uniform(0, slack) if slack > 0 else slack / 2)
        self.start = round((drawn if scan.start is None else scan.start) / Z_STEP) * Z_STEP

    @cached_property
    def phantom(self) -> ThoraxPhantom:
        """The object that is scanned."""
        return ThoraxPhantom(self.seed)

    @property
    def study_uid(self) -> str:
        """Study Instance UID (0020,000D)."""
        return derived_uid(f"simulated study {self.seed} from {self.start:g} mm", self.scan.key)

    def place(self, index: int) -> float:
        """Position of slice `index`, mm above the carina."""
        return self.start + index * self.scan.increment

    def description(self) -> dict:
        """Ground truth about the patient, for a JSON file beside the series."""
        return {
            "simulated": COMMENT,
            "patient": self.name,
            "seed": self.seed,
            "dose": self.dose,
            "first_slice_mm_above_carina": self.start,
            "kernels": [asdict(kernel) for kernel in self.scan.kernels],
            "scanner": asdict(self.scan.scanner),
            "phantom": self.phantom.description,
        }


def acquire(patient: Patient, indices: Sequence[int]) -> Iterator[tuple[int, list[np.ndarray]]]:
    """Scans and reconstructs some slices of a patient.

    Raw slices are made once and dropped as soon as no later slice needs them, so memory does not grow with slices.

    Args:
        patient: The patient to scan.
        indices: Numbers of the slices, ascending.
    Yields:
        Index of the slice, and its images (512, 512) int16 HU, in the order of `Scan.series`.
    """
    scan = patient.scan
    noise = Noise(replace(scan.scanner, dose=scan.scanner.dose * patient.dose))
    reconstruct = Reconstruction(scan.kernels)
    profiles = [slice_sensitivity(thickness) for thickness in scan.thicknesses]
    reach = max(len(profile) // 2 for profile in profiles)
    raw: dict[int, np.ndarray] = {}
    for index in indices:
        centre = round(patient.place(index) / Z_STEP)
        for step in [step for step in raw if step < centre - reach]:
            del raw[step]
        for step in range(centre - reach, centre + reach + 1):
            if step not in raw:
                raw[step] = _raw_slice(patient, noise, step)
        images: list[np.ndarray] = []
        for profile in profiles:
            blurred = np.zeros_like(raw[centre])
            for step, weight in enumerate(profile, centre - len(profile) // 2):
                blurred += np.float32(weight) * raw[step]
            images += map(to_stored_hu, reconstruct(blurred))
        yield index, images


def _raw_slice(patient: Patient, noise: Noise, step: int) -> np.ndarray:
    """Object and noise at `step` * `Z_STEP` mm above the carina; independent of the order of the calls."""
    thing = patient.phantom.slice(step * Z_STEP, noise.pixels)
    rng = np.random.default_rng((patient.seed, 2, step % 2**32))
    return thing + noise(noise.amplitude(thing), rng)


def dicom_slice(patient: Patient, number: int, index: int, image: np.ndarray) -> bytes:
    """One image as a DICOM file.

    Args:
        patient: The patient whose image it is.
        number: Index in `Scan.series`.
        index: Number of the slice.
        image: (512, 512) int16 HU.
    Note:
        Nothing is claimed that is not so: dates, times, KVP and exposure are empty or absent, Manufacturer is the simulator,
        and Quality Control Image and Subject say that this is a phantom. Bytes depend on the seed and the scan alone.
    """
    _, kernel, thickness = patient.scan.series[number]
    ds = _patient_and_study(patient)
    series_key = json.dumps([asdict(kernel), thickness])
    ds.SeriesInstanceUID = derived_uid(f"{patient.study_uid} series", series_key)
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = derived_uid(ds.SeriesInstanceUID, f"{patient.place(index):g} mm")
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SeriesNumber, ds.AcquisitionNumber, ds.InstanceNumber = number + 1, 1, index + 1
    ds.SeriesDescription = f"{kernel.name} {thickness:g} mm simulated"
    ds.ImageComments = (
        f"{COMMENT} {kernel.name}: f50 {kernel.f50:g}, f10 {kernel.f10:g} lp/cm, overshoot {kernel.overshoot:g}. "
        f"Dose {patient.dose:.3g}, noise factor {patient.scan.scanner.noise_factor:g}."
    )
    ds.ConvolutionKernel, ds.SliceThickness = kernel.name.split("/"), f"{thickness:g}"
    ds.SpacingBetweenSlices = f"{patient.scan.increment:g}"
    _set_place(ds, patient.place(index))
    _set_pixels(ds, image)
    return dicom_file(ds)


def _patient_and_study(patient: Patient) -> Dataset:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.PatientName, ds.PatientID = f"Simulated^Thorax {patient.seed:06d}", patient.name
    ds.PatientBirthDate, ds.PatientSex, ds.QualityControlSubject = "", "", "YES"
    ds.StudyInstanceUID, ds.StudyID, ds.AccessionNumber = patient.study_uid, str(patient.seed), ""
    ds.StudyDate, ds.StudyTime, ds.ReferringPhysicianName = "", "", ""
    ds.StudyDescription = "Simulated chest CT"
    ds.Modality, ds.KVP, ds.BodyPartExamined = "CT", "", "CHEST"
    ds.Manufacturer, ds.ManufacturerModelName, ds.SoftwareVersions = "STAN-CT simulator", "STAN-CT simulator", __version__
    ds.QualityControlImage, ds.BurnedInAnnotation = "YES", "NO"
    ds.FrameOfReferenceUID = derived_uid(f"{patient.study_uid} frame", patient.scan.key)
    ds.PositionReferenceIndicator, ds.PatientPosition = "", "HFS"
    return ds


def _set_place(ds: Dataset, z: float) -> None:
    pitch = FIELD_OF_VIEW / PIXELS
    corner = f"{-(PIXELS - 1) / 2 * pitch:g}"
    ds.ReconstructionDiameter = f"{FIELD_OF_VIEW:g}"
    ds.ImagePositionPatient, ds.SliceLocation = [corner, corner, f"{z:g}"], f"{z:g}"
    ds.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    ds.PixelSpacing = [f"{pitch:g}"] * 2


def _set_pixels(ds: Dataset, image: np.ndarray) -> None:
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = image.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = "1", str(STORED_HU[0]), "HU"
    windows = {"LUNG": LUNG_WINDOW, "SOFT TISSUE": SOFT_TISSUE_WINDOW}
    ds.WindowCenter = [f"{window.center:g}" for window in windows.values()]
    ds.WindowWidth = [f"{window.width:g}" for window in windows.values()]
    ds.WindowCenterWidthExplanation = list(windows)
    ds.add_new(0x7FE00010, "OW", (image.astype(np.int32) - STORED_HU[0]).astype("<u2").tobytes())
