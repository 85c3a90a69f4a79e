"""Which slice a DICOM file is, by its own words, read without its pixels."""

from __future__ import annotations

import re
from dataclasses import dataclass
from io import BytesIO

import pydicom
from pydicom.uid import CTImageStorage

from stan_ct.dicom import header as dicom
from stan_ct.dicom.tolerance import tolerant

UID = re.compile(r"[0-9.]{1,64}")
TAGS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "NumberOfSeriesRelatedInstances")


class Unreadable(Exception):
    """A file is no CT slice whose UIDs can be read; the message says what is wrong."""


@dataclass(frozen=True)
class SliceIdentity:
    """UIDs of a slice.

    Attributes:
        study_uid: Study Instance UID (0020,000D).
        series_uid: Series Instance UID (0020,000E).
        sop_uid: SOP Instance UID (0008,0018).
        expected: Number of Series Related Instances (0020,1209); 0 where it is not stated.
    """

    study_uid: str
    series_uid: str
    sop_uid: str
    expected: int = 0


@tolerant()
def read_identity(content: bytes) -> SliceIdentity:
    """Reads the UIDs of a slice.

    Args:
        content: A DICOM file, with its File Meta Information.
    Raises:
        Unreadable: If it is no CT slice, or its UIDs are none.
    """
    try:
        header = pydicom.dcmread(BytesIO(content), stop_before_pixels=True, specific_tags=list(TAGS))
        values = {tag: str(dicom.value_of(header, tag, "")).strip() for tag in TAGS}
    except Exception as error:  # pydicom raises whatever it meets
        raise Unreadable(f"not readable as DICOM ({type(error).__name__})") from error
    if values["SOPClassUID"] != CTImageStorage:
        raise Unreadable("SOP Class is not CT Image Storage")
    study, series, sop = (values[tag] for tag in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"))
    for name, uid in {"Study": study, "Series": series, "SOP": sop}.items():
        if not UID.fullmatch(uid):
            raise Unreadable(f"{name} Instance UID is {'missing' if not uid else 'no UID'}")
    expected = values["NumberOfSeriesRelatedInstances"]
    return SliceIdentity(study, series, sop, int(expected) if re.fullmatch(r"\d{1,6}", expected) else 0)
