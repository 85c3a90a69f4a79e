"""What a file is: a CT slice that can be standardized, one that is refused, or something else."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pydicom.uid import UID, MediaStorageDirectoryStorage

from stan_ct.dicom import header as dicom
from stan_ct.dicom.acceptance import check_header
from stan_ct.dicom.kept import WANTED, KeptHeader, kept_of_dataset, kept_of_scan
from stan_ct.dicom.refusal import Refused
from stan_ct.dicom.scan import FIRST_READ, scan
from stan_ct.dicom.tolerance import tolerant

NO_DICOM, NO_IMAGE = "not DICOM", "DICOM without an image"
"""Kinds of skipped files that may have been slices."""


@dataclass(frozen=True, slots=True)
class Examined:
    """What a file is.

    Attributes:
        header: Header of a slice to standardize; None for any other file.
        kind: Kind of a file that is skipped ("not DICOM", "localizer", "MR Image Storage" ...).
        reason: Why a slice is refused; empty if it is not.
        found: What came instead, in the user's words.
        series_uid: Series Instance UID of a refused slice, empty where it is not known.
        study_uid: Study Instance UID of a file of any modality that states a Series Number.
        number: That Series Number.
    """

    header: KeptHeader | None = None
    kind: str = ""
    reason: str = ""
    found: str = ""
    series_uid: str = ""
    study_uid: str = ""
    number: int | None = None


@tolerant()
def examine(path: str, accept_standardized: bool = False) -> Examined:
    """Examines a file by its header.

    Args:
        path: The file.
        accept_standardized: Whether slices written by STAN-CT are accepted.
    """
    study: tuple[str, int | None] = ("", None)
    try:
        try:
            header, media = _read(path)
        except PermissionError:
            return Examined(kind="no permission to read")
        except OSError as error:
            raise Refused("unreadable", dicom.first_line(error)) from error
        if header is None:
            return Examined(kind=media)
        study = _study(header)
        if kind := _skipped(header, media):
            return Examined(None, kind, "", "", "", *study)
        try:
            check_header(header, accept_standardized)
        except Refused as refused:
            return Examined(None, "", refused.reason, refused.found, dicom.series_uid(header), *study)
        return Examined(header.accepted(), "", "", "", "", *study)
    except Refused as refused:
        return Examined(None, "", refused.reason, refused.found, refused.series_uid, *study)
    except Exception as error:  # pydicom converts values when they are asked for, and raises whatever it meets
        return Examined(None, "", "unreadable", dicom.first_line(error), "", *study)


def _read(path: str) -> tuple[KeptHeader | None, str]:
    """Header of a file and its Media Storage SOP Class UID; None and the kind of a file that is no image."""
    with open(path, "rb", buffering=0) as file:
        head, size = file.read(FIRST_READ), os.fstat(file.fileno()).st_size
        if not dicom.starts_as_dicom(head):
            return None, NO_DICOM
        scanned = scan(file, head, size, WANTED)
    if scanned is not None:
        header, media = kept_of_scan(path, scanned), scanned.sop_class
    else:
        dataset = dicom.read_header(Path(path))
        header, media = kept_of_dataset(path, dataset), dicom.media_sop_class(dataset)
    return (None, "DICOMDIR") if media == MediaStorageDirectoryStorage else (header, media)


def _study(header: KeptHeader) -> tuple[str, int | None]:
    """Study Instance UID and Series Number, where both are stated."""
    number = dicom.series_number(header)
    study = header.get("StudyInstanceUID") if number is not None else None
    return (str(study), number) if study else ("", None)


def _skipped(header: KeptHeader, media: str) -> str:
    """Kind of a file that is skipped; empty for a CT image."""
    if not dicom.is_ct(header):
        if dicom.is_ct_class(media):
            raise Refused("unreadable", "File Meta Information says CT, but the header ends before it says so")
        sop_class = header.get("SOPClassUID")
        return (UID(sop_class).name if isinstance(sop_class, str) else "") or NO_IMAGE
    return "localizer" if dicom.is_localizer(header) else ""
