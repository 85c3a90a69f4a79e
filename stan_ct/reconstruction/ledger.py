"""Records of finished series in an output directory: what makes a rerun skip what is whole, and replace what is not."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stan_ct.dicom.series import SeriesFiles
from stan_ct.files import write_together
from stan_ct.reconstruction.lock import STATE

RECORDS = f"{STATE}/records"


@dataclass(frozen=True)
class FinishedSeries:
    """A derived series that was written.

    Attributes:
        key: Key of the run that made it: models, switches and version, see :attr:`Run.key`.
        folder: Folder of the derived series, relative to the output directory, with "/".
        sources: SOP Instance UID of each source slice -> SHA-256 of its file.
        outputs: Name of each written file -> SHA-256.
        panels: Caption, file and shape of the images in the report.
        entry: Entry of the manifest.
    """

    key: str
    folder: str
    sources: dict[str, str]
    outputs: dict[str, str]
    panels: list[dict[str, Any]]
    entry: dict[str, Any]

    def is_whole(self, output_dir: Path) -> bool:
        """Whether every file that was written is there, with the bytes that were written, and no other file beside them."""
        folder = output_dir / self.folder
        try:
            present = {path.name for path in folder.iterdir()}
            return present == set(self.outputs) and all(sha256(folder / name) == h for name, h in self.outputs.items())
        except OSError:
            return False

    def is_made_of(self, files: SeriesFiles) -> bool:
        """Whether the source files are, byte for byte, those that it was made of."""
        paths = {instance.uid: instance.path for instance in files.instances}
        try:
            return set(paths) == set(self.sources) and all(sha256(paths[uid]) == h for uid, h in self.sources.items())
        except OSError:
            return False


def read_record(output_dir: Path, name: str) -> FinishedSeries | None:
    """Record of the series of this name, None if there is none that can be read."""
    try:
        return FinishedSeries(**json.loads((output_dir / RECORDS / f"{name}.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def read_records(output_dir: Path) -> dict[str, FinishedSeries]:
    """Name of a series -> its record, for every record of an output directory."""
    names = sorted(path.stem for path in (output_dir / RECORDS).glob("*.json"))
    records = ((name, read_record(output_dir, name)) for name in names)
    return {name: record for name, record in records if record is not None}


def write_record(output_dir: Path, name: str, finished: FinishedSeries) -> None:
    """Writes the record of a series, before its folder takes its place: a record without its files counts for nothing."""
    write_together(output_dir / RECORDS, {f"{name}.json": json.dumps(asdict(finished), allow_nan=False) + "\n"})


def sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
