"""Stopping a run with SIGTERM or Ctrl-C: between two steps, after a checkpoint."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any


class Stopped(Exception):
    """The run was told to stop (SIGTERM) and has written a checkpoint; no error, so no StanCTError."""


class Signals:
    """Context manager that records SIGTERM and Ctrl-C; a second Ctrl-C interrupts at once.

    Attributes:
        received: Number of the signal; 0 for none.
    """

    def __init__(self) -> None:
        self.received = 0

    def __enter__(self) -> Signals:
        self._before: dict[int, Any] = {}
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._record)
        except ValueError:  # signals reach the main thread only
            pass
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def stop(self) -> BaseException:
        """Exception that ends the run."""
        return KeyboardInterrupt() if self.received == signal.SIGINT else Stopped()

    def _record(self, number: int, _: FrameType | None) -> None:
        if number == self.received == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number
