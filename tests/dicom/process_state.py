"""What of the process belongs to whoever imports STAN-CT. Imports nothing of STAN-CT itself."""

import logging
import signal
import warnings

import pydicom.config
import pydicom.sr.codedict
from pydicom.pixels import get_decoder
from pydicom.pixels.decoders.base import _PIXEL_DATA_DECODERS

LOGGERS = ("", "pydicom", "pydicom.pixels.decoders.base", "pydicom.pixels.utils", "pydicom.encaps")


def process_state() -> dict:
    """pydicom's configuration, loggers and decoders, the warning filters and the signal handlers."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    return {
        "config": {k: v for k, v in vars(pydicom.config).items() if isinstance(v, bool | int | str)},
        "settings": dict(vars(pydicom.config.settings)),
        "loggers": [(g.level, g.propagate, g.disabled, list(g.filters), list(g.handlers)) for g in loggers],
        "decoders": {uid: list(get_decoder(uid)._available) for uid in _PIXEL_DATA_DECODERS},
        "warnings": (list(warnings.filters), warnings.showwarning),
        "signals": {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)},
    }
