"""What a node counts and remembers while it runs: numbers for the metrics, and the last refusals for the status page."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from dataclasses import dataclass
from threading import Lock

REMEMBERED = 100
"""Refusals that the status page shows at most."""


@dataclass(frozen=True)
class RefusedCall:
    """A connection, an association or a slice that was refused.

    Attributes:
        time: Seconds since 1970.
        what: `connection`, `association` or `slice`.
        who: AE title, or address of the peer where it said none.
        reason: Why.
    """

    time: float
    what: str
    who: str
    reason: str


class Tally:
    """Counts, from several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts: defaultdict[tuple[str, str], float] = defaultdict(float)
        self._refused: deque[RefusedCall] = deque(maxlen=REMEMBERED)
        self._states: dict[str, str] = {}

    def count(self, name: str, label: str = "", amount: float = 1) -> None:
        """Adds to a number."""
        with self._lock:
            self._counts[name, label] += amount

    def refuse(self, what: str, who: str, reason: str) -> None:
        """Counts a refusal, and remembers it."""
        with self._lock:
            self._counts["refused", f"{what}: {reason}"] += 1
            self._refused.appendleft(RefusedCall(time.time(), what, who, reason))

    def note(self, about: str, state: str) -> None:
        """Remembers the state of something, such as a destination; empty: all is well."""
        with self._lock:
            self._states[about] = state

    @property
    def counts(self) -> dict[tuple[str, str], float]:
        """(name, label) -> number."""
        with self._lock:
            return dict(self._counts)

    @property
    def refused(self) -> list[RefusedCall]:
        """The last refusals, the newest first."""
        with self._lock:
            return list(self._refused)

    @property
    def states(self) -> dict[str, str]:
        """What was noted."""
        with self._lock:
            return dict(self._states)
