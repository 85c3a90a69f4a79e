"""The spool: slices as they came, and what became of each series, on the disk before anybody is told."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Literal

from stan_ct.node.database import Database
from stan_ct.node.identity import SliceIdentity, Unreadable, read_identity

INCOMING, RECEIVED, STANDARDIZED = "incoming", "received", "standardized"
"""Folders of the spool: slices that are being written, slices as they came, and output directories."""

Stored = Literal["stored", "known", "conflict"]
"""What became of a slice that came: it is new; it was there already; another slice with its UID was there."""

FINAL = ("standardized", "left_alone", "refused", "failed")
"""States of a series about which there is nothing to be done but to send it; the others are receiving and standardizing."""


@dataclass(frozen=True)
class Job:
    """A series that is complete, for whoever standardizes it.

    Attributes:
        key: Key of the series.
        received: Folder with its slices.
        output: Output directory, which this series alone uses.
        starts: How often it has been started, this time included.
    """

    key: str
    received: Path
    output: Path
    starts: int


class Spool:
    """Series on the disk. Safe to use from several threads; one process at a time may have a spool open.

    Args:
        folder: Folder of the spool.
        quiet_time: Seconds without a new slice after which a series is complete.
        slices: Number of slices at which it is complete at once; 0: as many as its headers say, if they do.
    Raises:
        OutputError: If its database is damaged.
        OSError: If it cannot be written.
    """

    def __init__(self, folder: Path, quiet_time: float = 30.0, slices: int = 0) -> None:
        self.folder, self._quiet, self._slices = folder, quiet_time, slices
        shutil.rmtree(folder / INCOMING, ignore_errors=True)  # nobody was told that these are there
        for name in (INCOMING, RECEIVED, STANDARDIZED):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self.database = Database(folder)
        self._arrived: dict[str, float] = {}
        self._storing = Lock()
        self._recover()

    def add(self, identity: SliceIdentity, content: bytes, sender: str) -> Stored:
        """Takes a slice in; when this returns, it is on the disk and in the database.

        Args:
            identity: UIDs of the slice.
            content: The DICOM file.
            sender: AE title of the sender.
        Raises:
            OSError: If it cannot be written; nothing of it is left then.
        """
        key, digest = series_key(identity), hashlib.sha256(content).hexdigest()
        partial = self.folder / INCOMING / uuid.uuid4().hex
        try:
            with open(partial, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            with self._storing:
                return self._enter(key, identity, digest, len(content), sender, partial)
        finally:
            partial.unlink(missing_ok=True)

    def _enter(self, key: str, identity: SliceIdentity, digest: str, size: int, sender: str, partial: Path) -> Stored:
        known = self.database.rows("SELECT sha256 FROM slices WHERE series = ? AND sop_uid = ?", key, identity.sop_uid)
        if known and known[0][0] != digest:
            return "conflict"
        self._arrived[key] = time.monotonic()
        if known:
            self._try_again(key)
            return "known"
        self._forget_files_that_went(key)
        path = self.received(key) / file_name(identity.sop_uid)
        if not path.parent.exists():
            path.parent.mkdir()
            sync_folder(path.parent.parent)
        partial.replace(path)
        sync_folder(path.parent)
        now = time.time()
        with self.database.transaction() as change:
            change.execute(
                "INSERT INTO series (key, study_uid, series_uid, sender, state, received, changed) "
                "VALUES (?, ?, ?, ?, 'receiving', ?, ?) ON CONFLICT (key) DO NOTHING",
                (key, identity.study_uid, identity.series_uid, sender, now, now),
            )
            change.execute(
                "UPDATE series SET slices = slices + 1, bytes = bytes + ?, expected = max(expected, ?), stored = 1, "
                "changed = ?, starts = 0, crashes = 0, state = iif(state = 'standardizing', state, 'receiving') WHERE key = ?",
                (size, identity.expected, now, key),
            )
            change.execute("INSERT INTO slices VALUES (?, ?, ?, ?)", (key, identity.sop_uid, digest, size))
        return "stored"

    def _try_again(self, key: str) -> None:
        """Takes up a series that could not be standardized, and is sent again."""
        if self.database.rows("SELECT 1 FROM series WHERE key = ? AND stored AND state IN ('refused', 'failed')", key):
            with self.database.transaction() as change:
                change.execute("UPDATE series SET state = 'receiving', starts = 0, crashes = 0 WHERE key = ?", (key,))

    def _forget_files_that_went(self, key: str) -> None:
        """Begins a series anew whose files were removed: what is sent again is stored again; what went out stays known."""
        if self.database.rows("SELECT 1 FROM series WHERE key = ? AND NOT stored", key):
            with self.database.transaction() as change:
                change.execute("DELETE FROM slices WHERE series = ?", (key,))
                change.execute("UPDATE series SET slices = 0, bytes = 0, output_bytes = 0, stored = 1 WHERE key = ?", (key,))

    def claim(self) -> Job | None:
        """The next series that is complete; it is standardizing from now on. None if there is none."""
        now = time.monotonic()
        waiting = "SELECT key, slices, expected, starts FROM series WHERE state = 'receiving' ORDER BY received"
        for row in self.database.rows(waiting):
            whole = self._slices or row["expected"]
            if (whole and row["slices"] >= whole) or now - self._arrived.setdefault(row["key"], now) >= self._quiet:
                with self.database.transaction() as change:
                    change.execute(
                        "UPDATE series SET state = 'standardizing', claimed = slices, starts = starts + 1, changed = ? "
                        "WHERE key = ?",
                        (time.time(), row["key"]),
                    )
                key = row["key"]
                return Job(key, self.received(key), self.folder / STANDARDIZED / key, row["starts"] + 1)
        return None

    def received(self, key: str) -> Path:
        """Folder with the slices of a series."""
        return self.folder / RECEIVED / key

    def expire(self, keep_seconds: float, forget_seconds: float) -> int:
        """Removes the images of series about which nothing is left to be done, and forgets those that were done long ago.

        Args:
            keep_seconds: Time since the last change of a series after which its images go.
            forget_seconds: Time after which its UIDs go too.
        Returns:
            Number of series whose images went.
        """
        now = time.time()
        done = f"state IN {FINAL} AND NOT EXISTS (SELECT 1 FROM deliveries WHERE series = key AND state = 'pending')"
        with self._storing:
            old = [
                r[0]
                for r in self.database.rows(
                    f"SELECT key FROM series WHERE stored AND {done} AND changed <= ?", now - keep_seconds
                )
            ]
            with self.database.transaction() as change:
                change.executemany("UPDATE series SET stored = 0 WHERE key = ?", [(key,) for key in old])
                change.execute(f"DELETE FROM series WHERE NOT stored AND {done} AND changed <= ?", (now - forget_seconds,))
            for key in old:
                for place in (RECEIVED, STANDARDIZED):
                    shutil.rmtree(self.folder / place / key, ignore_errors=True)
                self._arrived.pop(key, None)
        return len(old)

    def size(self) -> int:
        """Bytes of all images in the spool."""
        return int(self.database.number("SELECT sum(bytes + output_bytes) FROM series WHERE stored"))

    def close(self) -> None:
        """Closes the database."""
        self.database.close()

    def _recover(self) -> None:
        """Clears what a killed node left, and takes in slices that the database does not know."""
        with self.database.transaction() as change:
            change.execute("UPDATE series SET state = 'receiving' WHERE state = 'standardizing'")
        stored = {row["key"]: row["stored"] for row in self.database.rows("SELECT key, stored FROM series")}
        for place in (RECEIVED, STANDARDIZED):
            for folder in sorted((self.folder / place).iterdir()):
                if not stored.get(folder.name, place == RECEIVED):
                    shutil.rmtree(folder, ignore_errors=True)
        for path in self._unknown_files():
            with suppress(Unreadable):
                self.add(read_identity(content := path.read_bytes()), content, "")

    def _unknown_files(self) -> Iterator[Path]:
        for folder in sorted((self.folder / RECEIVED).iterdir()):
            known = {
                file_name(row[0]) for row in self.database.rows("SELECT sop_uid FROM slices WHERE series = ?", folder.name)
            }
            yield from (path for path in sorted(folder.iterdir()) if path.name not in known)


def series_key(identity: SliceIdentity) -> str:
    """Name of a series in the spool: a hash, since no path is made of what a sender says."""
    return _hashed(f"{identity.study_uid} {identity.series_uid}")


def file_name(sop_uid: str) -> str:
    """File name of a slice in the spool."""
    return f"{_hashed(sop_uid)}.dcm"


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def sync_folder(folder: Path) -> None:
    """Writes the names of the files in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folders: Iterable[Path]) -> None:
    """Writes all files in some folders, and their names, to the disk."""
    for folder in folders:
        for path in folder.iterdir():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
        sync_folder(folder)
