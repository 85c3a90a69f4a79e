"""One run at a time in an output directory."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from stan_ct.errors import UsageError

STATE = ".stan_ct"
"""Folder in the output directory for the lock, the records of finished series and the index of headers."""


class OutputError(UsageError):
    """The output directory cannot be used; the message says why and what to do."""


@contextmanager
def locked(output_dir: Path, flag: str = "output_dir") -> Iterator[None]:
    """Context in which no other run uses the output directory.

    The operating system releases the lock of a process that ends, however it ends, so the lock of a dead run is taken over.

    Args:
        output_dir: The directory; made if it is missing.
        flag: The flag that names it.

    Raises:
        OutputError: If another run holds it; the message names the process.
        OSError: If the directory cannot be written.
    """
    state = output_dir / STATE
    state.mkdir(parents=True, exist_ok=True)
    lock, holder = FileLock(state / "lock"), state / "holder.json"
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise OutputError(f"{output_dir} is in use by {_describe(holder)}: wait for it, or choose another --{flag}") from error
    try:
        started = datetime.now().astimezone().isoformat(timespec="seconds")
        holder.write_text(json.dumps({"process": os.getpid(), "host": socket.gethostname(), "started": started}))
        yield
    finally:
        with suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()


def _describe(holder: Path) -> str:
    try:
        values = json.loads(holder.read_text())
        return f"process {values['process']} on {values['host']}, started {values['started']}"
    except (OSError, ValueError, KeyError, TypeError):  # it has the lock and is about to write its name, or to go
        return "another run"
