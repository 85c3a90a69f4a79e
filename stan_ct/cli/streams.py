"""Standard streams that neither stop a run nor obey what file names hold."""

from __future__ import annotations

import os
import sys
from typing import TextIO


class PlainText:
    """A text stream that writes control characters as escapes, and swallows text when nobody reads any more.

    Args:
        stream: Stream that is written to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._closed = False

    def write(self, text: str) -> int:
        """Writes text; a terminal takes no orders from it."""
        if not self._closed:
            try:
                self._stream.write("".join(c if c.isprintable() or c in "\n\t" else _escaped(c) for c in text))
            except (OSError, ValueError):  # a broken pipe, a closed stream: the run goes on
                self._closed = True
        return len(text)

    def flush(self) -> None:
        """Flushes the stream, if anybody reads it."""
        if not self._closed:
            try:
                self._stream.flush()
            except (OSError, ValueError):
                self._closed = True

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return not self._closed and self._stream.isatty()

    @property
    def encoding(self) -> str:
        """Encoding of the stream."""
        return self._stream.encoding

    def fileno(self) -> int:
        """File descriptor of the stream."""
        return self._stream.fileno()


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"


def prepare_streams() -> None:
    """Makes standard output and error safe to write to; for programs, not for a library."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:  # closed by the caller: another file would get its number
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 # lives as long as the process
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, stream)
    sys.stdout = PlainText(sys.stdout)  # as much of a stream as print and tqdm need


def release_streams() -> None:
    """Flushes what is left; where nobody reads it, the interpreter must not fail at its end."""
    sys.stdout.flush()
    try:
        sys.stderr.flush()
    except (OSError, ValueError):
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if isinstance(sys.stdout, PlainText):
        stream = sys.stdout._stream
        if sys.stdout._closed:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.stdout = stream
