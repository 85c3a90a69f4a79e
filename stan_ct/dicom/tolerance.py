"""Reads and writes imperfect headers without warnings, log lines or strict checks, and leaves the process as it was.

Warning filters, loggers and pydicom's strictness belong to the whole process, which may be another's and have many threads.
So what is installed here silences only the threads that are inside :func:`tolerant`, and is removed when the last one leaves.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from pydicom import config

LOGGERS = ("pydicom", "pydicom.pixels.decoders.base", "pydicom.pixels.utils")
"""Loggers of pydicom that report imperfect files, the decoders' with a traceback each."""

MODES = ("reading_validation_mode", "writing_validation_mode")


class _Thread(threading.local):
    depth = 0


class _Silencer(logging.Filter):
    """Stops log records, as a filter of loggers, and warnings, as the module pattern of a warning filter."""

    def filter(self, record: logging.LogRecord) -> bool:
        return _thread.depth == 0

    def match(self, module: str) -> bool:
        return _thread.depth > 0


class _Installation:
    """What the threads inside :func:`tolerant` share."""

    def __init__(self) -> None:
        self.lock, self.threads = threading.Lock(), 0
        self.filters: list[list] = []  # lists of warning filters that hold ours: the host may exchange its list meanwhile
        self.strict: list[str] = []  # modes that were RAISE

    def enter(self) -> None:
        with self.lock:
            self.threads += 1
            filters: list = warnings.filters  # type: ignore[assignment]  # typed as a Sequence, documented as a list
            if not filters or filters[0] is not FILTER:
                filters.insert(0, FILTER)
                self.filters.append(filters)
            for name in LOGGERS:
                logging.getLogger(name).addFilter(_silencer)
            for mode in MODES:
                if getattr(config.settings, mode) == config.RAISE:
                    setattr(config.settings, mode, config.IGNORE)
                    self.strict.append(mode)

    def leave(self) -> None:
        with self.lock:
            self.threads -= 1
            if self.threads:
                return
            for filters in [*self.filters, warnings.filters]:
                while FILTER in filters:
                    filters.remove(FILTER)  # type: ignore[attr-defined]
            for name in LOGGERS:
                logging.getLogger(name).removeFilter(_silencer)
            for mode in self.strict:
                setattr(config.settings, mode, config.RAISE)
            self.filters, self.strict = [], []


_thread, _silencer, _installation = _Thread(), _Silencer(), _Installation()
FILTER = ("ignore", None, Warning, _silencer, 0)


@contextmanager
def tolerant() -> Iterator[None]:
    """Silences what pydicom says of imperfect files, in this thread; reentrant, and safe in any number of threads.

    A host that asked pydicom to be strict (`reading_validation_mode` RAISE) finds it lenient in its other threads meanwhile.
    """
    _thread.depth += 1
    try:
        if _thread.depth == 1:
            _installation.enter()
        try:
            yield
        finally:
            if _thread.depth == 1:
                _installation.leave()
    finally:
        _thread.depth -= 1
