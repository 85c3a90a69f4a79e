"""A folder of patch records: what it takes on disk, and which of its files an earlier run has completed.

The folder holds `plan.json`, which determines the bytes of all records; a file PART-PROTOCOL-DIGEST.tfrecord for each pair of
series, with records of equal length; and, once these are complete, `index.json` and lists of SOP Instance UIDs. A file of an
earlier run is kept if the plan is the same and its size is that of the planned records; other files named PART-*.tfrecord or
PART-*.partial are removed.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from stan_ct.files import PARTIAL, write_atomically
from stan_ct.parallel import Workers
from stan_ct.patches.cutting import Shard, cut_shard
from stan_ct.patches.sampling import PATCH_SIZE
from stan_ct.patches.splits import PARTS
from stan_ct.patches.tfrecord import record_length

INDEX, PLAN = "index.json", "plan.json"
INSTANCES = {"validation": "held_back.txt", "test": "test_instances.txt"}
"""Part -> list of the SOP Instance UIDs of its source slices."""

SPARE = 256 * 2**20
"""Bytes that stay free on the disk."""


def make_folder(folder: Path) -> None:
    """Makes the folder and tries to write to it, before the slices are examined, which takes long.

    Args:
        folder: The folder.
    Raises:
        OSError: If it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0")
    except OSError as error:
        raise OSError(f"cannot write to --output_dir={folder} ({error.strerror}): choose another") from error


def start_folder(folder: Path, plan: str, shards: Sequence[Shard]) -> None:
    """Prepares the folder for the records of a plan: removes unfinished files and files of another plan.

    Args:
        folder: The folder, made by :func:`make_folder`.
        plan: Text that determines the bytes of all records.
        shards: All files of the plan.
    Raises:
        OSError: If the disk has too little space; nothing is removed then.
    """
    path = folder / PLAN
    same = path.exists() and path.read_text() == plan
    complete = {shard.path for shard in shards if same and _is_complete(shard)}
    stale = [path for path in _record_files(folder) if path not in complete]
    todo = [shard for shard in shards if shard.path not in complete]
    patches, size = sum(sum(shard.counts) for shard in shards), sum(sum(shard.counts) * _length(shard) for shard in todo)
    cost = f"{size / 1e9:.2f} GB"
    print(
        f"{folder}: {patches} patches in {len(shards)} files, {len(shards) - len(todo)} complete; {cost} to write",
        file=sys.stderr,
    )
    free = shutil.disk_usage(folder).free + sum(p.stat().st_size for p in stale) - SPARE
    if size > free:
        raise OSError(
            f"{folder} needs {cost} for records and its disk has {max(free, 0) / 1e9:.2f} GB to give: free space, choose "
            "another --output_dir, or ask for fewer patches"
        )
    for old in (*stale, *(folder / name for name in (INDEX, *INSTANCES.values()))):
        old.unlink(missing_ok=True)
    write_atomically(path, plan)


def cut_records(shards: Sequence[Shard], pool: Workers) -> dict[Path, int]:
    """Writes the files that are not complete yet, after :func:`start_folder`.

    Args:
        shards: All files.
        pool: Processes that cut.
    Returns:
        Path -> number of records in the file; 0 where there is none.
    """
    todo = [shard for shard in shards if sum(shard.counts) and not shard.path.exists()]
    pool.map(cut_shard, [(shard,) for shard in todo], [sum(shard.counts) for shard in todo], "cut patches")
    return {s.path: s.path.stat().st_size // _length(s) if s.path.exists() else 0 for s in shards}


def _record_files(folder: Path) -> list[Path]:
    """The record files in a folder, unfinished ones included, whatever plan they belong to."""
    named = [path for part in PARTS for pattern in (f"{part}-*", f"{part}.*") for path in folder.glob(pattern)]
    return [path for path in named if path.suffix in (".tfrecord", PARTIAL)]


def _is_complete(shard: Shard) -> bool:
    """Whether the file holds as many records as planned; random sides may yield fewer patches than planned."""
    if not shard.path.exists():
        return False
    count, rest = divmod(shard.path.stat().st_size, _length(shard))
    planned = sum(shard.counts)
    return rest == 0 and 0 < count <= planned and (shard.resized or count == planned)


def _length(shard: Shard) -> int:
    """Length of a record, bytes."""
    return record_length(PATCH_SIZE + 2 * shard.margin, shard.num_images)
