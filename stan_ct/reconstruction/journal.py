"""`log.jsonl`: what runs did in an output directory and when, a line of JSON for each event, without patient data."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stan_ct import __version__
from stan_ct.dicom.series import SeriesFiles
from stan_ct.reconstruction.accounts import Record
from stan_ct.reconstruction.wording import counted

LOG = "log.jsonl"
"""Name of the file."""
SHORTEST_TOLD = 60.0
"""Shortest time left that is told, s."""


class Journal:
    """The log of one run; lines of several runs, such as shards, may follow each other in one file.

    A log that cannot be written, as on a full disk, does not stop the run.

    Args:
        output_dir: Directory of the file.
        shard: Name of the shard, empty for a whole run.
    """

    def __init__(self, output_dir: Path, shard: str = "") -> None:
        self._path, self._shard = output_dir / LOG, shard

    def note(self, event: str, **about: Any) -> None:
        """Writes a line: time, host, process, shard, event and what is to be told of it."""
        head = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, "stan_ct": __version__}
        where = {"host": socket.gethostname(), "process": os.getpid()} | ({"shard": self._shard} if self._shard else {})
        line = json.dumps(head | where | about, allow_nan=False) + "\n"
        with suppress(OSError), open(self._path, "ab", buffering=0) as file:
            file.write(line.encode())  # in one piece: other shards write too

    def series(self, record: Record) -> None:
        """Notes what became of a series: its name, which holds no patient data, verdict, reason and seconds."""
        entry = record.entry
        reason = {"reason": record.refusal.reason} if record.refusal else {}
        seconds = {"seconds": entry["seconds"]} if "seconds" in entry and not entry.get("kept") else {}
        findings = {"findings": entry["findings"]} if "findings" in entry else {}
        kept = {"kept": True} if entry.get("kept") else {}
        shape = {"slices": len(record.files.instances), "series_uid": record.files.uid}
        self.note("series", name=record.files.name, status=record.status, **shape, **reason, **kept, **seconds, **findings)


class Forecast:
    """How long the rest of a cohort takes: as long for each slice as those that were standardized.

    Args:
        cohort: All series.
    """

    def __init__(self, cohort: Sequence[SeriesFiles]) -> None:
        self._left = sum(len(files.instances) for files in cohort)
        self._seconds, self._slices = 0.0, 0

    def add(self, record: Record, seconds: float) -> None:
        """Takes a series into account.

        Args:
            record: What became of it.
            seconds: Time since the one before was finished.
        """
        slices = len(record.files.instances)
        self._left -= slices
        self._seconds += seconds
        if not record.entry.get("kept"):
            self._slices += slices

    def words(self) -> str:
        """The time that is left, in words; empty if it is not known, or short."""
        seconds = self._seconds / self._slices * self._left if self._slices else 0.0
        if seconds < SHORTEST_TOLD:
            return ""
        minutes = round(seconds / 60)
        days, hours = divmod(round(minutes / 60), 24)
        if minutes < 120:
            return f"; {counted(minutes, 'minute')} left"
        return (
            f"; {counted(days, 'day')}, {counted(hours, 'hour')} left"
            if days > 1
            else f"; {counted(24 * days + hours, 'hour')} left"
        )
