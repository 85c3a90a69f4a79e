"""Reasons for which a slice or a series cannot be standardized, and advice for each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stan_ct.errors import StanCTError

ADVICE = {
    "unreadable": "The file is damaged or not valid DICOM: export it again, or repair it (dcmtk: dcmconv).",
    "missing_files": "The medium was not copied as a whole: copy it again, with all folders that its DICOMDIR names.",
    "no_identity": "A CT slice needs SOP, Series and Study Instance UIDs: export it as CT Image Storage.",
    "multi_frame": "Enhanced (multi-frame) CT is not read: export it as single-frame CT Image Storage.",
    "no_pixel_data": "Only the header came: export the series with its images.",
    "float_pixel_data": "CT Image Storage holds integers: export it with integer Pixel Data and a rescale.",
    "truncated": "The file is shorter than its header says: copy or export it again.",
    "excess_bytes": "The file is longer than its header says, so its pixels may be shifted: copy or export it again.",
    "undecodable": "No installed decoder reads this compression: decompress it first (dcmtk: dcmdjpeg; gdcmconv --raw).",
    "no_rescale": "Without Rescale Slope and Intercept there are no HU: export from the scanner or PACS again.",
    "not_hu": "The stored values are not Hounsfield units of one X-ray tube voltage: choose the original CT series.",
    "no_geometry": "Position, orientation or pixel spacing is missing or invalid: choose the original axial series.",
    "bad_pixel_format": "CT Image Storage is one 16-bit sample of 12..16 bits stored per pixel: choose the original series.",
    "stored_value_overflow": "Stored values exceed Bits Stored, so their HU are not certain: export the series again.",
    "several_phases": "Several images lie in one place: export each phase as a series of its own.",
    "implausible_rescale": "Rescale Slope is negative or absurd, so the HU are not certain: export from the scanner again.",
    "unwritable_header": "An element of the header cannot be written: repair the file (dcmtk: dcmconv), or export it again.",
    "not_axial": "Reformats, such as coronal and sagittal ones, are not standardized: choose the original axial series.",
    "projection": "Projections and renderings are not standardized: choose the original axial series.",
    "conflicting_instances": "Several different files claim one SOP Instance UID: keep the right one.",
    "already_standardized": "STAN-CT wrote this series: standardize its source instead.",
    "out_of_protocol": "The model was not made for this series: choose one that was, or make one of scans of both kernels "
    "(stan-ct adapt); --allow_out_of_protocol goes on anyway.",
    "standard_protocol": "It needs no standardization: use it as it is; --allow_out_of_protocol goes on anyway.",
    "unwritable": "The output could not be written: free space, or choose another --output_dir.",
    "out_of_memory": "This machine has too little memory for the series: use one with more, or close other programs.",
    "failed": "This is a fault of STAN-CT, not of your data: please report it with the message.",
}
"""Reason -> what the user can do. The names appear in the summary, `manifest.json` and the tests."""


class Refused(StanCTError):
    """A slice or series cannot be standardized.

    Args:
        reason: A key of `ADVICE`.
        found: What came, in the user's words.
        series_uid: Series Instance UID of what is refused, empty where it is not known.
    """

    def __init__(self, reason: str, found: str, series_uid: str = "") -> None:
        super().__init__(f"{reason}: {found}. {ADVICE[reason]}")
        self.reason, self.found, self.series_uid = reason, found, series_uid


@dataclass(frozen=True)
class Refusal:
    """One refused slice or series: the reason's name, what came, and the files it concerns."""

    reason: str
    found: str
    paths: tuple[Path, ...]
    series_uid: str = ""

    @property
    def advice(self) -> str:
        """What the user can do."""
        return ADVICE[self.reason]
