"""An index of headers, kept from one search of a large tree to the next: an SQLite database."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from stan_ct import __version__
from stan_ct.dicom.examine import Examined
from stan_ct.dicom.kept import KEPT, KeptHeader

BATCH = 1000
"""Files that are written at a time. A search that examines fewer is not worth an index, and makes none."""
BUSY = 5.0
"""Seconds to wait for another process that uses the index."""
TABLES = """
CREATE TABLE format (name TEXT);
CREATE TABLE shared (id INTEGER PRIMARY KEY, content TEXT UNIQUE);
CREATE TABLE files (path BLOB PRIMARY KEY, size INTEGER, modified INTEGER, changed INTEGER, shared INTEGER, content TEXT)
WITHOUT ROWID;
"""
FORMAT = hashlib.sha256(f"{__version__} {' '.join(KEPT)} {TABLES}".encode()).hexdigest()
"""What the records of an index depend on; one of another format is made anew."""
Stamp = tuple[int, int, int]
"""Size in bytes, and times of modification and of change in ns: the former can be set, as copies do, the latter cannot."""


class HeaderIndex:
    """What files are, by path, size and times of modification and change; a context, which writes what is new when it ends.

    The index only saves time: one that is damaged, in use or on a full disk counts as empty, and is not written.

    Args:
        path: The database; made, readable by its owner alone, once `BATCH` files were examined. None: nothing is remembered.
        writable: Whether what is new is written.
    """

    def __init__(self, path: Path | None, writable: bool = True) -> None:
        self._path, self._writable = path, writable
        self._database: sqlite3.Connection | None = None
        self._batch: list[tuple[bytes, Stamp, Examined]] = []
        self._shared: dict[int, tuple] = {}
        self._numbers: dict[tuple, int] = {}
        self._lookups = 0

    def __enter__(self) -> HeaderIndex:
        if self._path is not None and self._path.exists():
            self._attempt(self._open)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._database is not None:
            self._attempt(self._flush)
            self._attempt(self._drop_if_stale)
        if self._database is not None:
            self._database.close()
            self._database = None

    def known(self, path: str, stamp: Stamp) -> Examined | None:
        """What a file is, if it has not changed since it was examined; None if that is not known."""
        self._lookups += 1
        if self._database is None:
            return None
        query = "SELECT shared, content FROM files WHERE path = ? AND size = ? AND modified = ? AND changed = ?"
        try:
            row = self._database.execute(query, (os.fsencode(path), *stamp)).fetchone()
            return None if row is None else self._examined(path, *row)
        except (sqlite3.Error, ValueError, TypeError, KeyError):
            return None

    def remember(self, path: str, stamp: Stamp, examined: Examined) -> None:
        """Keeps what a file is. Files that could not be read are not kept, since they may be readable later."""
        header = examined.header
        readable = examined.reason != "unreadable" and examined.kind != "no permission to read"
        if self._path is None or not self._writable or not readable or (header and not _is_plain(header)):
            return
        self._batch.append((os.fsencode(path), stamp, examined))
        if len(self._batch) >= BATCH:
            if self._database is None:
                self._attempt(self._open)
            self._attempt(self._flush)
            self._batch.clear()

    def _attempt(self, action: Any) -> None:
        """Runs an action; an index that fails is given up, and one that is damaged removed."""
        try:
            action()
        except (sqlite3.Error, OSError) as error:
            if self._database is not None:
                self._database.close()
                self._database = None
            damaged = isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
            if self._path is not None and damaged and self._writable:
                self._path.unlink(missing_ok=True)
            self._writable = False

    def _open(self) -> None:
        if self._path is None:
            return
        if self._writable:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
        mode = "rw" if self._writable else "ro"
        self._database = sqlite3.connect(f"{self._path.resolve().as_uri()}?mode={mode}", timeout=BUSY, uri=True)
        names = [name for (name,) in self._database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = self._database.execute("SELECT name FROM format").fetchone() if "format" in names else None
        if found == (FORMAT,):
            return
        if not self._writable:
            self._database.close()
            self._database = None
            return
        for name in names:
            self._database.execute(f'DROP TABLE "{name}"')
        self._database.executescript(TABLES)
        self._database.execute("INSERT INTO format VALUES (?)", (FORMAT,))
        self._database.commit()

    def _flush(self) -> None:
        if self._database is None:
            return
        rows = [(path, *stamp, *self._row(examined)) for path, stamp, examined in self._batch]
        self._database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)", rows)
        self._database.commit()

    def _drop_if_stale(self) -> None:
        """Removes an index most of whose files are gone."""
        if self._database is None or not self._writable:
            return
        (count,) = self._database.execute("SELECT COUNT(*) FROM files").fetchone()
        if count > 2 * self._lookups + BATCH and self._path is not None:
            self._path.unlink(missing_ok=True)

    def _row(self, examined: Examined) -> tuple[int | None, str]:
        header = examined.header
        study = [examined.study_uid, examined.number]
        if header is None:
            return None, _text([*study, examined.kind, examined.reason, examined.found, examined.series_uid])
        own, shared = header.values()
        return self._number(shared), _text([*study, *own])

    def _number(self, shared: tuple) -> int:
        """Number of what slices have in common."""
        if shared not in self._numbers and self._database is not None:
            content = _text(shared)
            self._database.execute("INSERT OR IGNORE INTO shared (content) VALUES (?)", (content,))
            (number,) = self._database.execute("SELECT id FROM shared WHERE content = ?", (content,)).fetchone()
            self._numbers[shared] = number
        return self._numbers[shared]

    def _examined(self, path: str, number: int | None, content: str) -> Examined:
        study_uid, series_number, *values = _tuple(json.loads(content))
        if number is None:
            kind, reason, found, series_uid = values
            return Examined(None, kind, reason, found, series_uid, study_uid, series_number)
        if number not in self._shared and self._database is not None:
            (text,) = self._database.execute("SELECT content FROM shared WHERE id = ?", (number,)).fetchone()
            self._shared[number] = _tuple(json.loads(text))
        return Examined(KeptHeader(path, tuple(values), self._shared[number]), study_uid=study_uid, number=series_number)


def stamp_of(path: str) -> Stamp | None:
    """Size and times of a file; None if it is gone."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _is_plain(header: KeptHeader) -> bool:
    """Whether JSON can hold the values."""
    return not any(isinstance(value, bytes) for values in header.values() for value in values)


def _text(values: Sequence) -> str:
    return json.dumps(values, separators=(",", ":"))


def _tuple(values: list) -> tuple:
    return tuple(tuple(value) if isinstance(value, list) else value for value in values)
