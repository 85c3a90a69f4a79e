"""How a run is told to stop: SIGTERM or Ctrl-C, obeyed between two steps, when a checkpoint is whole."""

from __future__ import annotations

import signal
from types import FrameType


class Stopped(Exception):
    """The run was told to stop (SIGTERM) and has written a checkpoint."""


class Signals:
    """Takes note of SIGTERM and Ctrl-C while it is entered; a second Ctrl-C does not wait.

    Attributes:
        told: The signal that came; 0 for none.
    """

    def __init__(self) -> None:
        self.told = 0

    def __enter__(self) -> Signals:
        self._before = {}
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._take_note)
        except ValueError:  # signals reach the main thread only
            pass
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def stop(self) -> BaseException:
        """What ends the run."""
        return KeyboardInterrupt() if self.told == signal.SIGINT else Stopped()

    def _take_note(self, number: int, _: FrameType | None) -> None:
        if number == self.told == signal.SIGINT:
            raise KeyboardInterrupt
        self.told = number
