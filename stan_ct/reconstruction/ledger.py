"""Records of finished series in an output directory: what makes a rerun skip what is whole, and replace what is not."""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from stan_ct.dicom.series import SeriesFiles
from stan_ct.files import write_together
from stan_ct.reconstruction.lock import STATE

RECORDS, UNWRITTEN = f"{STATE}/records", f"{STATE}/unwritten"
SLICE_FILE = re.compile(r"IM\d{4,}\.dcm")
"""Names of the files of a derived series; no other file in its folder is ours."""


@dataclass(frozen=True)
class FinishedSeries:
    """A derived series that was written.

    Attributes:
        key: Key of the run that made it: models, switches and version, see :attr:`ModelSet.key`.
        input_id: Input that it was made of, see :attr:`Run.input_id`.
        folder: Folder of the derived series, relative to the output directory, with "/".
        sources: SOP Instance UID of each source slice, refused ones included -> SHA-256 of its file.
        outputs: Name of each written file -> SHA-256.
        panels: Caption, file and shape of the images in the report.
        entry: Entry of the manifest, without identifiers.
    """

    key: str
    input_id: str
    folder: str
    sources: dict[str, str]
    outputs: dict[str, str]
    panels: list[dict[str, Any]]
    entry: dict[str, Any]

    def is_whole(self, folder: Path) -> bool:
        """Whether every file that was written is in a folder, with the bytes that were written, and no other slice."""
        return self.is_complete(folder) and all(file_digest(folder / name) == h for name, h in self.outputs.items())

    def is_complete(self, folder: Path) -> bool:
        """Whether every file that was written is in a folder, and no other slice; their bytes are not read."""
        try:
            return {path.name for path in folder.iterdir() if is_slice_file(path.name)} == set(self.outputs)
        except OSError:
            return False

    def is_made_of(self, files: SeriesFiles) -> bool:
        """Whether the source files are, byte for byte, those that it was made of."""
        paths = {instance.uid: instance.path for instance in files.instances}
        return set(paths) == set(self.sources) and all(file_digest(paths[uid]) == h for uid, h in self.sources.items())


@dataclass(frozen=True)
class Unwritten:
    """A series that was not written.

    Attributes:
        key: What the run did that says so: models, switches, version.
        status: `refused`, `failed` or `left_alone`.
        reason: Why, a key of `ADVICE`; empty if it was left alone.
        found: What came instead.
        earlier: Folder of an output of an earlier run that stays.
        entry: Entry of the manifest, without identifiers.
    """

    key: str
    status: str
    reason: str
    found: str
    earlier: str
    entry: dict[str, Any]


def is_slice_file(name: str) -> bool:
    """Whether a file in the folder of a derived series has the name of one of its slices."""
    return SLICE_FILE.fullmatch(name) is not None


def read_record(output_dir: Path, name: str) -> FinishedSeries | None:
    """Record of the series of this name; None if there is none, or if it is not, byte for byte, what was written."""
    try:
        content = json.loads((output_dir / RECORDS / f"{name}.json").read_text(encoding="utf-8"))
        values, digest = content["record"], content["sha256"]
        return FinishedSeries(**values) if digest == _digest(values) and _is_record(values) else None
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def read_unwritten(output_dir: Path, name: str) -> Unwritten | None:
    """Note of the series of this name, see :func:`note_unwritten`; None if there is none."""
    try:
        return Unwritten(**json.loads((output_dir / UNWRITTEN / f"{name}.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return None


def note_unwritten(output_dir: Path, name: str, unwritten: Unwritten | None) -> None:
    """Notes why a series was not written, or, with None, that it was: shards are brought together from their notes.

    A note that cannot be written, as on a full disk, is left out: the series counts as not yet done.
    """
    path = output_dir / UNWRITTEN / f"{name}.json"
    with suppress(OSError):
        if unwritten is None:
            path.unlink(missing_ok=True)
        else:
            write_together(path.parent, {path.name: json.dumps(asdict(unwritten), allow_nan=False) + "\n"})


def read_records(output_dir: Path) -> dict[str, FinishedSeries]:
    """Name of a series -> its record, for every record of an output directory."""
    names = sorted(path.stem for path in (output_dir / RECORDS).glob("*.json"))
    records = ((name, read_record(output_dir, name)) for name in names)
    return {name: record for name, record in records if record is not None}


def write_record(output_dir: Path, name: str, finished: FinishedSeries) -> None:
    """Writes the record of a series, before its folder takes its place: a record without its files counts for nothing."""
    values = asdict(finished)
    text = json.dumps({"sha256": _digest(values), "record": values}, allow_nan=False)
    write_together(output_dir / RECORDS, {f"{name}.json": f"{text}\n"})


def sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file, empty if it cannot be read."""
    try:
        return sha256(path)
    except OSError:
        return ""


def _digest(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _is_record(values: dict[str, Any]) -> bool:
    return values.keys() == {field.name for field in fields(FinishedSeries)}
