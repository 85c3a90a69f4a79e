"""UIDs, Series Number and creation time of a derived series, determined by the source and the run."""

from __future__ import annotations

import os
import re
import uuid
from datetime import UTC, datetime
from itertools import chain

from pydicom.uid import UID

from stan_ct.dicom.series import SeriesFiles

NAMESPACE = uuid.UUID(int=194182156483646159208963397163532125889)
IMPLEMENTATION_CLASS_UID = UID(f"2.25.{NAMESPACE.int}")


def creation_time() -> datetime:
    """The time to write into derived series: now, or SOURCE_DATE_EPOCH (then UTC), for bit-identical repeats.

    Raises:
        ValueError: If SOURCE_DATE_EPOCH is set and no whole number of seconds.
    """
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if epoch is None:
        return datetime.now().astimezone()
    if not re.fullmatch(r"\d{1,11}", epoch):
        raise ValueError(f"SOURCE_DATE_EPOCH must be seconds since 1970, such as 1700000000, not {epoch!r}")
    return datetime.fromtimestamp(int(epoch), UTC)


def derived_uid(source_uid: str, key: str) -> str:
    """UID of the object derived from `source_uid` with `key`: "2.25." and a UUID as an integer; equal for equal input."""
    return f"2.25.{uuid.uuid5(NAMESPACE, f'{source_uid} {key}').int}"


def derived_series_uid(files: SeriesFiles, key: str) -> str:
    """Series Instance UID of the series derived from `files`; each pixel grid gives a series of its own."""
    return derived_uid(f"{files.uid}/{files.grid}", key)


def free_series_number(source_number: int | None, taken: set[int]) -> int:
    """The first free Series Number (0020,0011) from 1000 above the source's; neither the source's nor in `taken`.

    Example:
        >>> free_series_number(3, {3, 4, 1003})
        1004
    """
    largest = 2**31 - 1  # of an Integer String
    start = min(max((source_number or 0) + 1000, 1), largest)
    return next(n for n in chain(range(start, largest + 1), range(1, start)) if n not in taken and n != source_number)
