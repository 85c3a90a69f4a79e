"""Re-filtered series that an earlier run has written: which of them are whole, and made of the same files in the same way."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from stan_ct.dicom.series import SeriesFiles
from stan_ct.files import write_atomically

RECORD = "refilter.json"
"""Name of the file in the output directory that holds the records."""


@dataclass(frozen=True)
class KeptSeries:
    """A re-filtered series that was written.

    Attributes:
        key: Version, curves and gain that it was made with.
        sources: SOP Instance UID of each source slice -> SHA-256 of its file.
        outputs: Name of each written file -> SHA-256.
    """

    key: str
    sources: dict[str, str]
    outputs: dict[str, str]


def read_kept(output_dir: Path) -> dict[str, KeptSeries]:
    """Folder name -> series that was written there; none where there is no record, or it is damaged."""
    try:
        return {name: KeptSeries(**values) for name, values in json.loads((output_dir / RECORD).read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def write_kept(output_dir: Path, kept: dict[str, KeptSeries]) -> None:
    """Writes the records."""
    write_atomically(output_dir / RECORD, json.dumps({name: asdict(one) for name, one in kept.items()}, indent=1) + "\n")


def source_hashes(files: SeriesFiles) -> dict[str, str]:
    """SOP Instance UID of each slice -> SHA-256 of its file.

    Raises:
        OSError: If one cannot be read.
    """
    return {instance.uid: _sha256(instance.path) for instance in files.instances}


def output_hashes(folder: Path) -> dict[str, str]:
    """Name of each file of a folder -> SHA-256; empty where there is no folder.

    Raises:
        OSError: If one cannot be read.
    """
    return {path.name: _sha256(path) for path in sorted(folder.iterdir())} if folder.is_dir() else {}


def is_kept(kept: KeptSeries | None, key: str, files: SeriesFiles, folder: Path) -> bool:
    """Whether a folder holds, byte for byte, what would be made of these files with this key."""
    try:
        return kept is not None and kept == KeptSeries(key, source_hashes(files), output_hashes(folder)) and bool(kept.outputs)
    except OSError:
        return False


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
