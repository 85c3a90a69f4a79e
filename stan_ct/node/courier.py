"""One destination, and what it is to receive: sent until it is there, however long the destination is away."""

from __future__ import annotations

import logging
import time

from stan_ct.node import deliveries
from stan_ct.node.destinations import Destination
from stan_ct.node.log import log
from stan_ct.node.send import RefusedThere, Unreachable, send
from stan_ct.node.settings import NodeSettings
from stan_ct.node.spool import Spool
from stan_ct.node.tally import Tally

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 300.0
"""Seconds until a destination that is away is tried again: doubled each time, up to the longest."""
REFUSED_PAUSE = 30.0
"""Seconds until a series that a destination refused is sent to it again, times the number of refusals."""


class Courier:
    """Sends to one destination. Pauses are measured by a clock that nobody sets, and end with the process.

    Args:
        destination: Where to.
        settings: AE title, certificates, authorization.
        spool: What is to be sent.
        tally: Where it is counted.
    """

    def __init__(self, destination: Destination, settings: NodeSettings, spool: Spool, tally: Tally) -> None:
        self.destination = destination
        self._settings, self._spool, self._tally = settings, spool, tally
        self._pause, self._next = FIRST_PAUSE, 0.0
        self._next_of: dict[str, float] = {}

    def step(self) -> bool:
        """Sends the next series, if there is one and it is time.

        Returns:
            Whether a series was given up.
        """
        if time.monotonic() < self._next:
            return False
        for key in deliveries.pending(self._spool, self.destination):
            if time.monotonic() >= self._next_of.get(key, 0.0):
                return self._send(key)
        return False

    def _send(self, key: str) -> bool:
        name, parcel = self.destination.name, deliveries.parcel(self._spool, self.destination, key)
        try:
            for uid in send(self.destination, parcel.files, self._settings):
                deliveries.arrived(self._spool, self.destination, key, uid)
                self._tally.count("sent", name)
        except Unreachable as error:
            if not self._tally.states.get(name):
                log("destination away; trying again", logging.WARNING, destination=name, found=str(error))
            self._tally.note(name, str(error))
            self._next = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            return False
        except RefusedThere as error:
            self._reached()
            self._next_of[key] = time.monotonic() + REFUSED_PAUSE * (parcel.attempts + 1)
            log("refused by the destination", logging.WARNING, destination=name, series=key[:8], found=str(error))
            return deliveries.refused(self._spool, self.destination, key, str(error))
        self._reached()
        self._next_of.pop(key, None)
        log("sent", destination=name, series=key[:8], slices=len(parcel.files))
        return False

    def _reached(self) -> None:
        self._tally.note(self.destination.name, "")
        self._pause = FIRST_PAUSE
