"""The log of a node: a JSON object a line, without patient data."""

from __future__ import annotations

import json
import logging
from datetime import datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

FILE, LARGEST, OLDER = "node.log", 10_000_000, 5
"""Name of the log in the spool, its largest size in bytes, and how many older ones are kept."""

_LOGGER = logging.getLogger("stan_ct.node")


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds")
        entry = {"time": time, "level": record.levelname.lower(), "event": record.getMessage(), **getattr(record, "about", {})}
        return json.dumps(entry, default=str)


def open_log(folder: Path) -> None:
    """Starts the log of a spool, in place of that of another one."""
    close_log()
    _LOGGER.setLevel(logging.INFO)
    _LOGGER.propagate = False
    for handler in (RotatingFileHandler(folder / FILE, maxBytes=LARGEST, backupCount=OLDER), logging.StreamHandler()):
        handler.setFormatter(_JsonLines())
        handler.handleError = lambda record: None  # type: ignore[method-assign] # a full disk does not stop the node
        _LOGGER.addHandler(handler)
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)  # it would log what strangers send


def close_log() -> None:
    """Ends the log."""
    for handler in list(_LOGGER.handlers):
        _LOGGER.removeHandler(handler)
        handler.close()


def log(event: str, level: int = logging.INFO, **about: Any) -> None:
    """Writes a line: what happened, and about what."""
    _LOGGER.log(level, event, extra={"about": about})


def log_fault(event: str, error: BaseException, **about: Any) -> None:
    """Writes a line about an error that nobody foresaw: its type and where it was raised; its message may hold anything."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else ""
    log(event, logging.ERROR, error=type(error).__name__, place=place, **about)
