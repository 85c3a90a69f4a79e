"""Times of DICOM headers as numbers."""

from __future__ import annotations

import re
from datetime import datetime

TIME = re.compile(r"(?P<date>\d{8}(?=\d\d))?(?P<hour>\d\d):?(?P<minute>\d\d)?:?(?P<second>\d\d(?:\.\d+)?)?(?:[+-]\d{4})?")


def seconds(text: str) -> float | None:
    """Seconds of a time (TM), or date and time (DT), without its time zone; None for anything else.

    Example:
        >>> seconds("100045.5"), seconds("10:00:45"), seconds("20240102000001") - seconds("20240101235959"), seconds("noon")
        (36045.5, 36045.0, 2.0, None)
    """
    found = TIME.fullmatch(text.strip(" \0"))
    if not found:
        return None
    of_day = 3600 * int(found["hour"]) + 60 * int(found["minute"] or 0) + float(found["second"] or 0)
    if not found["date"]:
        return of_day
    try:
        return 86400 * datetime.strptime(found["date"], "%Y%m%d").toordinal() + of_day
    except ValueError:
        return None
