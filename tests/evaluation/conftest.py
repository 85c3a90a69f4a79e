"""Small CT series on disk, written without the product's code."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

STUDY = "1.2.826.0.1.3680043.8.498.1"


@pytest.fixture
def write_series():
    """`write_series(folder, volume)`: HU (Z, H, W), whole numbers from -1024 on -> one DICOM file per slice."""

    def write(folder: Path, volume: np.ndarray, series: int = 1, study: str = STUDY, shift=(0.0, 0.0, 0.0), **attributes):
        folder.mkdir(parents=True, exist_ok=True)
        for z, hu in enumerate(volume):
            position = [-50.0 + shift[0], -50.0 + shift[1], 2.0 * z + shift[2]]
            _slice(hu, f"{study}.{series}", z, study, position, attributes).save_as(
                folder / f"{series}-{z}.dcm", enforce_file_format=True
            )
        return [f"{study}.{series}.{z + 1}" for z in range(len(volume))]

    return write


def _slice(hu: np.ndarray, series_uid: str, z: int, study: str, position: list[float], attributes: dict) -> pydicom.Dataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.Modality, ds.ImageType = CTImageStorage, "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID = study, series_uid, f"{series_uid}.{z + 1}"
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    ds.PatientID, ds.SeriesNumber, ds.InstanceNumber = "TEST", 1, z + 1
    ds.ImagePositionPatient, ds.ImageOrientationPatient, ds.PixelSpacing = position, [1, 0, 0, 0, 1, 0], [0.7, 0.7]
    ds.Rows, ds.Columns = hu.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    ds.PixelData = (np.asarray(hu) + 1024).astype("<u2").tobytes()
    return ds
