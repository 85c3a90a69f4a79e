"""Which slices can be standardized, by their headers: one named reason for each that cannot."""

from __future__ import annotations

import re

import numpy as np

from stan_ct.dicom.header import MULTI_FRAME_CT, STAMP, Header, number_of, value_of, values_of, vector
from stan_ct.dicom.refusal import Refused

ORTHONORMALITY_TOLERANCE = 0.01
"""Largest error of the scalar products of the direction cosines of rows and columns."""

LARGEST_SIDE = 8192
"""Largest number of rows or columns of a CT slice."""

LARGEST_COORDINATE = 1e5
"""Largest absolute coordinate of Image Position (Patient), mm."""

SPACING_RANGE = (0.01, 100.0)
"""Smallest and largest pixel spacing of a CT slice, mm."""

AXIAL_TILT = 45.0
"""Largest angle between the slice normal and the patient's long axis, degrees; gantries tilt by up to 30."""

SLOPE_RANGE = (0.01, 100.0)
"""Smallest and largest Rescale Slope, HU per stored value."""

LARGEST_INTERCEPT = 40000.0
"""Largest absolute value of Rescale Intercept, HU: more than 16 bits hold."""

HU_NAMES = r"HU|HU_MOD|(HOUNSFIELD|HOUNDSFIELD)( UNITS?)?"
"""Rescale Types (0028,1054), whatever their case, that mean HU."""

PROJECTIONS = "MIP|MINIP|MAX_?IP|MIN_?IP|MAXIMUM_IP|MINIMUM_IP|VRT|SSD|VOLUME[ _]RENDER(ED|ING)|PROJECTION[ _]IMAGE"
"""Words in Image Type of projections and renderings."""

REFORMATS = "MPR|REFORMATTED"
"""Words in Image Type of images that were resampled from other slices."""

MATERIALS = (
    "VMI|MONO(E|CHROME|CHROMATIC|ENERGETIC)?|IODINE|WATER|CALCIUM|URIC|HAP|VNC|VUE|RHO|MD|MATERIAL|EFF_?Z|Z_?EFF|"
    "EFF_ATOMIC_NUM|ELECTRON_DENSITY|MAT_(SPECIFIC|REMOVED|FRACTIONAL|MODIFIED|VALUE_BASED)|PERFUSION|CBF|CBV|MTT|TTP|TMAX"
)
"""Words in Image Type of virtual monoenergetic images, and of maps of materials and perfusion."""

BITS_STORED_RANGE = (12, 16)
"""Smallest and largest Bits Stored (0028,0101) of a CT slice."""


def check_header(header: Header, accept_standardized: bool = False) -> None:
    """Checks that a single slice can be standardized.

    Args:
        header: From :func:`read_header`.
        accept_standardized: Whether slices written by STAN-CT are accepted.
    Raises:
        Refused: With the first reason found.
    """
    sop_class = str(header.get("SOPClassUID") or "")
    if sop_class in MULTI_FRAME_CT or str(value_of(header, "NumberOfFrames", 1) or 1) not in ("0", "1"):
        raise Refused("multi_frame", MULTI_FRAME_CT.get(sop_class, "CT Image Storage") + " with several frames")
    missing = [
        k
        for k in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
        if not header.get(k) or not isinstance(header.get(k), str)
    ]
    if missing:
        raise Refused("no_identity", f"no {', '.join(missing)}")
    if not accept_standardized and str(header.get("DerivationDescription", "")).startswith(STAMP):
        raise Refused("already_standardized", f"Derivation Description {header.DerivationDescription!r}")
    if header.pixel_kind != "integer":
        raise Refused("float_pixel_data" if header.pixel_kind else "no_pixel_data", f"{header.pixel_kind or 'no'} pixel data")
    if header.bytes_missing:
        raise Refused("truncated", f"the last {header.bytes_missing} bytes of the pixels are missing")
    _check_kind(header)
    _check_rescale(header)
    _check_geometry(header)
    keywords = ("SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation")
    if value_of(header, "PhotometricInterpretation", None) not in ("MONOCHROME1", "MONOCHROME2"):
        raise Refused("bad_pixel_format", f"Photometric Interpretation {value_of(header, 'PhotometricInterpretation', None)!r}")
    samples, allocated, stored, high, signed = (value_of(header, keyword, None) for keyword in keywords)
    few, many = BITS_STORED_RANGE
    sound = samples == 1 and allocated == 16 and stored in range(few, many + 1)
    if not sound or high != stored - 1 or signed not in (0, 1):
        raise Refused("bad_pixel_format", f"{stored} bits stored in {allocated}, high bit {high}, {samples} sample(s)")


def _check_kind(header: Header) -> None:
    for reason, words in (("projection", PROJECTIONS), ("not_hu", MATERIALS)):
        if found := image_type_with(header, words):
            raise Refused(reason, f"Image Type {found!r}")


def image_type_with(header: Header, words: str) -> str:
    """The value of Image Type (0008,0008), from the third on, that contains one of the words; empty if none does.

    Args:
        header: Header of a slice.
        words: Regular expression of words in capitals; letters beside them make another word, "_", digits and blanks do not.
    """
    kinds = (str(value).strip() for value in values_of(header, "ImageType")[2:])
    return next((kind for kind in kinds if re.search(rf"(?<![A-Z])({words})(?![A-Z])", kind.upper())), "")


def _check_rescale(header: Header) -> None:
    slope, intercept = number_of(header, "RescaleSlope", "no_rescale"), number_of(header, "RescaleIntercept", "no_rescale")
    if not (np.isfinite(slope) and np.isfinite(intercept)) or slope == 0:
        raise Refused("no_rescale", f"slope {slope}, intercept {intercept}")
    if not SLOPE_RANGE[0] <= slope <= SLOPE_RANGE[1] or abs(intercept) > LARGEST_INTERCEPT:
        raise Refused("implausible_rescale", f"slope {slope:g}, intercept {intercept:g}")
    kind = str(value_of(header, "RescaleType", "HU") or "HU").strip()
    if not re.fullmatch(HU_NAMES, kind, re.IGNORECASE):
        raise Refused("not_hu", f"Rescale Type {kind!r}")


def _check_geometry(header: Header) -> None:
    for keyword, count in (("ImagePositionPatient", 3), ("ImageOrientationPatient", 6), ("PixelSpacing", 2)):
        values = vector(header, keyword)
        if len(values) != count or not np.isfinite(values).all():
            raise Refused("no_geometry", f"{keyword} {[float(v) for v in values]}")
    axes, spacing = vector(header, "ImageOrientationPatient").reshape(2, 3), vector(header, "PixelSpacing")
    if np.abs(axes @ axes.T - np.eye(2)).max() > ORTHONORMALITY_TOLERANCE or not (
        SPACING_RANGE[0] <= spacing.min() <= spacing.max() <= SPACING_RANGE[1]
    ):
        raise Refused("no_geometry", f"orientation {axes.ravel().tolist()}, spacing {spacing.tolist()} mm")
    if np.abs(vector(header, "ImagePositionPatient")).max() > LARGEST_COORDINATE:
        raise Refused("no_geometry", f"ImagePositionPatient {vector(header, 'ImagePositionPatient').tolist()}")
    if not all(isinstance(n := value_of(header, side, 0), int) and 2 <= n <= LARGEST_SIDE for side in ("Rows", "Columns")):
        raise Refused("no_geometry", f"{header.get('Rows')} x {header.get('Columns')} pixels")


def check_axial(header: Header) -> None:
    """Checks that a slice is axial, gantry tilt included, and no reformat.

    Raises:
        Refused: `not_axial`.
    """
    axes = vector(header, "ImageOrientationPatient").reshape(2, 3)
    normal = np.cross(*axes)
    if abs(normal[2]) < np.cos(np.deg2rad(AXIAL_TILT)):
        plane = ("sagittal", "coronal")[int(np.argmax(np.abs(normal[:2])))] if np.abs(normal[:2]).max() > 0.9 else "oblique"
        raise Refused("not_axial", f"{plane} slices, orientation {axes.ravel().tolist()}")
    if found := image_type_with(header, REFORMATS):
        raise Refused("not_axial", f"Image Type {found!r}")
