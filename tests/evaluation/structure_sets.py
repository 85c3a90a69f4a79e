"""RT Structure Sets on the series of `write_series`, written without the product's code."""

from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

STUDY = "1.2.826.0.1.3680043.8.498.1"
CORNER, SPACING = -50.0, 0.7
"""Centre of the first voxel of `write_series`, mm, and from one voxel to the next."""


def square(location, low, high):
    """A contour, (4, 3) mm, that runs half a voxel outside the rows and columns low .. high of the slice at a location."""
    start, end = CORNER + (low - 0.5) * SPACING, CORNER + (high + 0.5) * SPACING
    return np.array([[start, start, location], [end, start, location], [end, end, location], [start, end, location]])


def structure_set(rois, kind="CLOSED_PLANAR", study=STUDY, frame=""):
    """A structure set of ROIs: pairs of a name and contours (points, 3) mm."""
    ds = FileDataset(None, {}, file_meta=FileMetaDataset(), preamble=b"\0" * 128)
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = "1.2.3"
    ds.Modality, ds.StudyInstanceUID, ds.StructureSetROISequence, ds.ROIContourSequence = "RTSTRUCT", study, [], []
    for number, (roi_name, polygons) in enumerate(rois, 7):
        name, roi = Dataset(), Dataset()
        name.ROINumber, name.ROIName, roi.ReferencedROINumber, roi.ContourSequence = number, roi_name, number, []
        name.ReferencedFrameOfReferenceUID = frame
        for polygon in polygons:
            contour = Dataset()
            contour.ContourGeometricType, contour.NumberOfContourPoints = kind, len(polygon)
            contour.ContourData = [pydicom.valuerep.format_number_as_ds(float(x)) for x in np.ravel(polygon)]
            roi.ContourSequence.append(contour)
        ds.StructureSetROISequence.append(name)
        ds.ROIContourSequence.append(roi)
    return ds


def write_structures(path: Path, rois, **options):
    """Writes a structure set of ROIs by name."""
    structure_set(rois.items(), **options).save_as(path, enforce_file_format=True)
    return path
