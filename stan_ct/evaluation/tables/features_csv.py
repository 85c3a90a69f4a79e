"""Features of regions of interest for other software, such as R or pandas: `features.csv`.

features = pandas.read_csv("features.csv", dtype={"patient_id": str})
features <- read.csv("features.csv", colClasses = c(patient_id = "character"))
"""

from __future__ import annotations

import csv
import io
import math
from itertools import product

from stan_ct.dicom.header import Header
from stan_ct.evaluation.measure.region_features import Measure, RoiRows
from stan_ct.report.sections import slug

NAME = "features.csv"
"""Name of the file."""

IDENTITY = (
    *("patient_id", "study_instance_uid", "source_series_instance_uid", "region", "image"),
    *("series_instance_uid", "kernel", "slice_thickness"),
)
"""Columns that say what a row is of: patient, study and series of the source, and the series of the image."""

VOXELS = ("voxels_drawn", "voxels_on_missing_slices", "voxels")
"""Columns of numbers of voxels: of the mask, of these on slices that not all images have, and measured."""


def features_csv(rows: RoiRows) -> str:
    """A line for each region and image, a column for each feature; empty where a feature is undefined.

    Args:
        rows: Measurements of the regions, with their origins.
    """
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow([*IDENTITY, *VOXELS, *map(column_name, rows.measures)])
    for (r, roi), (i, image) in product(enumerate(rows.rois), enumerate(rows.images)):
        origin = rows.origins[r]
        lost = sum(loss.voxels for loss in rows.lost.get(roi, ()))
        source = origin.headers[rows.images[0]]
        about_source = (origin.patient, origin.study_uid, str(source.SeriesInstanceUID))
        identity = (*about_source, origin.roi, image, *_protocol(origin.headers[image]))
        voxels = (int(rows.drawn[r]), lost, int(rows.voxels[r]))
        lines.writerow([*map(_clean, identity), *voxels, *map(_number, rows.values[r, i].tolist())])
    return text.getvalue()


def column_name(measure: Measure) -> str:
    """Name of a feature's column: letters, digits and "_", the family of the feature first.

    Example:
        >>> column_name(Measure("25 HU, 2.5D merged", "contrast"))
        'glcm_25_hu_2_5d_merged_contrast'
        >>> column_name(Measure("25 HU, GLRLM, 2.5D merged", "run_percentage"))
        'glrlm_25_hu_2_5d_merged_run_percentage'
        >>> column_name(Measure("first-order, 25 HU", "entropy"))
        'first_order_25_hu_entropy'
    """
    parts = measure.group.split(", ")
    if parts[0] != "first-order":
        parts.insert(0, parts.pop(1) if len(parts) == 3 else "GLCM")
    return slug(" ".join([*parts, measure.feature]))


def _protocol(header: Header) -> tuple[str, str, str]:
    """Series Instance UID, Convolution Kernel and Slice Thickness in mm; empty where they are not stated."""
    kernel = header.get("ConvolutionKernel") or ""
    thickness = header.get("SliceThickness")
    return (
        str(header.get("SeriesInstanceUID") or ""),
        kernel if isinstance(kernel, str) else "/".join(map(str, kernel)),
        "" if thickness is None else str(thickness),
    )


def _clean(text: str) -> str:
    """Text without the padding and control characters that headers may hold."""
    return "".join(c for c in text if c.isprintable()).strip()


def _number(value: float) -> str:
    return "" if math.isnan(value) else repr(value)
