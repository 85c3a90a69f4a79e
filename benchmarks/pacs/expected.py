"""What an archive must hold in the end, from the output directory of an undisturbed run."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pydicom

from pacs.wire import encoded


def digests(output: Path) -> dict[str, dict[str, str]]:
    """Series Instance UID -> SOP Instance UID -> SHA-256 of the data set of a derived slice."""
    found: dict[str, dict[str, str]] = {}
    for path in sorted((output / "series").rglob("*.dcm")):
        series = str(pydicom.dcmread(path, specific_tags=["SeriesInstanceUID"], stop_before_pixels=True).SeriesInstanceUID)
        uid, content = encoded(path)
        found.setdefault(series, {})[uid] = hashlib.sha256(content).hexdigest()
    return found
