"""One run at a time in an output directory, or the shards of one; one process at a time on a series."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from stan_ct.errors import UsageError

STATE = ".stan_ct"
"""Folder in the output directory for locks, the records of finished series and the index of headers."""
SLOTS = 256
"""Number of locks that the series of an output directory share."""
PATIENCE = 10.0
"""Seconds in which other shards, which start at the same time, have looked whether a whole run is under way."""


class OutputError(UsageError):
    """The output directory cannot be used; the message says why and what to do."""


@contextmanager
def locked(output_dir: Path, flag: str = "output_dir", shard: str = "") -> Iterator[None]:
    """Context in which no other run uses the output directory, or, of a shard, other shards alone.

    The operating system releases the lock of a process that ends, however it ends, so the lock of a dead run is taken over.

    Args:
        output_dir: The directory; made if it is missing.
        flag: The flag that names it.
        shard: Name of a shard; empty for a whole run.
    Raises:
        OutputError: If another run holds it; the message names the process.
        OSError: If the directory cannot be written.
    """
    state = output_dir / STATE
    state.mkdir(parents=True, exist_ok=True)
    name = f"shard-{shard}" if shard else ""
    with _taken(output_dir, name, flag):
        if shard:
            _check_free(output_dir, "", flag, PATIENCE)
        else:
            for holder in sorted(state.glob("shard-*.lock")):
                _check_free(output_dir, holder.stem, flag)
        yield


@contextmanager
def series_lock(output_dir: Path, name: str) -> Iterator[None]:
    """Context in which no other process writes a series; it waits for one that does.

    Args:
        output_dir: The output directory.
        name: Name of the series.
    Raises:
        OSError: If the directory cannot be written.
    """
    folder = output_dir / STATE / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    slot = int(hashlib.sha256(name.encode()).hexdigest(), 16) % SLOTS
    with FileLock(folder / f"{slot:02x}"):
        yield


@contextmanager
def _taken(output_dir: Path, name: str, flag: str) -> Iterator[None]:
    lock, holder = _lock(output_dir, name), _holder(output_dir, name)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise _in_use(output_dir, name, flag) from error
    try:
        started = datetime.now().astimezone().isoformat(timespec="seconds")
        holder.write_text(json.dumps({"process": os.getpid(), "host": socket.gethostname(), "started": started}))
        yield
    finally:
        with suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()


def _check_free(output_dir: Path, name: str, flag: str, patience: float = 0.0) -> None:
    """Raises OutputError if another run holds a lock for longer than some seconds."""
    end = time.monotonic() + patience
    while True:
        try:
            with _lock(output_dir, name).acquire(blocking=False):
                return
        except Timeout as error:
            if time.monotonic() >= end or _holder(output_dir, name).exists():
                raise _in_use(output_dir, name, flag) from error
            time.sleep(0.1)


def _lock(output_dir: Path, name: str) -> FileLock:
    return FileLock(output_dir / STATE / (f"{name}.lock" if name else "lock"))


def _holder(output_dir: Path, name: str) -> Path:
    return output_dir / STATE / (f"{name}.json" if name else "holder.json")


def _in_use(output_dir: Path, name: str, flag: str) -> OutputError:
    return OutputError(
        f"{output_dir} is in use by {_describe(_holder(output_dir, name))}: wait for it, or choose another --{flag}"
    )


def _describe(holder: Path) -> str:
    try:
        values = json.loads(holder.read_text())
        return f"process {values['process']} on {values['host']}, started {values['started']}"
    except (OSError, ValueError, KeyError, TypeError):  # it has the lock and is about to write its name, or to go
        return "another run"
