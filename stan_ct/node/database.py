"""The database of a spool: SQLite, whose every transaction is on the disk when it ends, whatever happens to the process."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any

from stan_ct.reconstruction.lock import OutputError

NAME, VERSION = "spool.sqlite", 1
"""File name of the database, and version of its tables."""

TABLES = """
CREATE TABLE series (
    key TEXT PRIMARY KEY,
    study_uid TEXT NOT NULL,
    series_uid TEXT NOT NULL,
    sender TEXT NOT NULL,
    state TEXT NOT NULL,
    slices INTEGER NOT NULL DEFAULT 0,
    expected INTEGER NOT NULL DEFAULT 0,
    claimed INTEGER NOT NULL DEFAULT 0,
    starts INTEGER NOT NULL DEFAULT 0,
    crashes INTEGER NOT NULL DEFAULT 0,
    kernel TEXT NOT NULL DEFAULT '',
    model TEXT NOT NULL DEFAULT '',
    reason TEXT NOT NULL DEFAULT '',
    found TEXT NOT NULL DEFAULT '',
    advice TEXT NOT NULL DEFAULT '',
    bytes INTEGER NOT NULL DEFAULT 0,
    output_bytes INTEGER NOT NULL DEFAULT 0,
    stored INTEGER NOT NULL DEFAULT 1,
    received REAL NOT NULL,
    changed REAL NOT NULL
) STRICT;
CREATE TABLE slices (
    series TEXT NOT NULL REFERENCES series (key) ON DELETE CASCADE,
    sop_uid TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (series, sop_uid)
) STRICT;
CREATE TABLE outputs (
    series TEXT NOT NULL REFERENCES series (key) ON DELETE CASCADE,
    destination TEXT NOT NULL,
    sop_uid TEXT NOT NULL,
    path TEXT NOT NULL,
    sent REAL,
    PRIMARY KEY (series, destination, sop_uid)
) STRICT;
CREATE TABLE deliveries (
    series TEXT NOT NULL REFERENCES series (key) ON DELETE CASCADE,
    destination TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    error TEXT NOT NULL DEFAULT '',
    changed REAL NOT NULL,
    PRIMARY KEY (series, destination)
) STRICT;
CREATE INDEX series_by_state ON series (state, received);
CREATE INDEX deliveries_by_state ON deliveries (destination, state);
"""
"""What the spool knows. `claimed` is the number of slices that were there when standardization began; `stored` tells whether
files of the series lie in the spool; times are seconds since 1970."""


class Database:
    """One connection, shared by the threads of a node.

    Args:
        folder: Folder of the spool.
    Raises:
        OutputError: If its database is damaged, or of a later version.
        OSError: If it cannot be opened.
    """

    def __init__(self, folder: Path) -> None:
        self._lock = RLock()
        path = self._path = folder / NAME
        try:
            self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._connection.row_factory = sqlite3.Row
            self._prepare(path)
        except UnicodeDecodeError as error:  # in place of a name
            raise _damaged(path, error) from error
        except sqlite3.DatabaseError as error:
            if "unable to open" in str(error) or "disk is full" in str(error) or "readonly" in str(error):
                raise OSError(f"{path} cannot be written: {error}") from error
            raise _damaged(path, error) from error

    def _prepare(self, path: Path) -> None:
        run = self._connection.execute
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = FULL")
        run("PRAGMA foreign_keys = ON")
        run("PRAGMA trusted_schema = OFF")
        if (said := run("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise _damaged(path, said)
        version = run("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise OutputError(f"{path} is of a later version of STAN-CT: use that one, or another --spool_dir")
        if version == 0:
            with self.transaction() as connection:
                for statement in TABLES.split(";\n"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {VERSION}")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Context in which changes are made, all of them or none; when it ends without an error, they are on the disk.

        Raises:
            OSError: If they cannot be written.
        """
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException as error:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                if isinstance(error, sqlite3.DatabaseError):
                    raise self._failure("written", error) from error
                raise

    def rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        """Rows that a query finds.

        Raises:
            OSError: If the database cannot be read.
            OutputError: If it is damaged.
        """
        with self._lock:
            try:
                return self._connection.execute(query, values).fetchall()
            except sqlite3.DatabaseError as error:
                raise self._failure("read", error) from error

    def _failure(self, done: str, error: sqlite3.DatabaseError) -> Exception:
        """What a failed query means: the disk cannot be used, or the database is damaged."""
        if isinstance(error, sqlite3.OperationalError) and "decode" not in str(error):
            return OSError(f"the spool cannot be {done}: {error}")
        return error if isinstance(error, sqlite3.IntegrityError) else _damaged(self._path, error)

    def number(self, query: str, *values: Any) -> float:
        """The number that a query finds; 0 where there is none."""
        return (self.rows(query, *values)[0][0]) or 0

    def close(self) -> None:
        """Closes the connection."""
        with self._lock:
            self._connection.close()


def _damaged(path: Path, found: object) -> OutputError:
    return OutputError(
        f"{path} is damaged ({str(found).splitlines()[0][:120]}): move it away, with its -wal and -shm, and start again. "
        "Slices that lie in the spool are taken in anew, and what was sent is sent again under the same UIDs"
    )
