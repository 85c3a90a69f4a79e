"""Work that is repeated often, done not too often."""

from __future__ import annotations

import time
from collections.abc import Callable


class Throttle:
    """Tells when the next repetition is due.

    Args:
        seconds: Least time between repetitions.
        clock: Clock in seconds.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds, self._clock = seconds, clock
        self._last = -float("inf")

    def due(self) -> bool:
        """Whether enough time has passed since the last call that returned True; the first call does."""
        now = self._clock()
        if now - self._last < self.seconds:
            return False
        self._last = now
        return True
