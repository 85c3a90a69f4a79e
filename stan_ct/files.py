"""Files and folders that appear complete or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

PARTIAL = ".partial"
"""Ends the name of a file that is being written: NAME.<process id>.partial, so that no two processes share one."""


@contextmanager
def open_atomically(path: Path) -> Iterator[BinaryIO]:
    """Opens a file for writing that takes its name when the block ends without an error.

    Args:
        path: The file; one that exists is replaced, or kept if the block raises.
    Yields:
        The unfinished file beside it.
    Raises:
        OSError: If it cannot be written.
    """
    partial = _partial(path)
    try:
        with open(partial, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file, text as UTF-8; it appears complete or not at all.

    Args:
        path: The file; one that exists is replaced.
        content: What it will hold.
    Raises:
        OSError: If it cannot be written.
    """
    with open_atomically(path) as file:
        file.write(_encoded(content))


def write_together(output_dir: Path, files: Mapping[str, str | bytes]) -> None:
    """Writes several files, text as UTF-8; none takes its name before all are on disk.

    Args:
        output_dir: The directory; made if it is missing.
        files: Name -> content, renamed in this order.
    Raises:
        IsADirectoryError: If a name is a directory's; nothing is written then.
        OSError: If the directory cannot be written.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    for name in files:
        if (output_dir / name).is_dir():
            raise IsADirectoryError(f"{output_dir / name} is a directory, where a file is to be written: move it away")
    partial = {name: _partial(output_dir / name) for name in files}
    try:
        for name, content in files.items():
            partial[name].write_bytes(_encoded(content))
        for name in files:
            partial[name].replace(output_dir / name)
    finally:
        for path in partial.values():
            path.unlink(missing_ok=True)


def without_formula(value: object) -> object:
    """A value for a cell of a table, which no spreadsheet takes for a formula: text that begins as one gets an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def replace_folder(complete: Path, folder: Path, former: Path) -> None:
    """Moves a complete folder to where another may be.

    A folder cannot be renamed onto one that holds files, so the other is renamed first and removed last: a process that is
    killed in between leaves it as `former`.

    Args:
        complete: The folder to move.
        folder: Its new name.
        former: Where the folder that had this name lies meanwhile; what is there is removed.
    Raises:
        OSError: If a folder cannot be renamed; `folder` is then as it was.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists():
        shutil.rmtree(former, ignore_errors=True)
        folder.rename(former)
    try:
        complete.rename(folder)
    except OSError:
        if former.exists():
            former.rename(folder)
        raise
    shutil.rmtree(former, ignore_errors=True)


def remove_partial(folder: Path) -> None:
    """Removes the unfinished files in a folder and below that a killed process has left; no other may be writing there."""
    for path in folder.rglob(f"*{PARTIAL}"):
        path.unlink()


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}.{os.getpid()}{PARTIAL}")


def _encoded(content: str | bytes) -> bytes:
    return content if isinstance(content, bytes) else content.encode("utf-8")
