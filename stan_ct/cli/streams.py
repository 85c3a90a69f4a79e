"""Standard streams that neither stop a run nor obey what file names hold."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO


class Unbreakable:
    """A text stream that swallows text when nobody reads any more, or when the disk that it goes to is full.

    Args:
        stream: Stream that is written to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._closed = False

    def write(self, text: str) -> int:
        """Writes text, if it can be written."""
        self._attempt(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Flushes the stream, if anybody reads it."""
        self._attempt(self._stream.flush)

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

    def close(self) -> None:
        """Leaves the stream open, which is the caller's; a handler of log messages may want to close it."""

    def release(self) -> TextIO:
        """The stream, flushed; where nobody reads it, it leads nowhere, so that the interpreter does not fail at its end."""
        self.flush()
        if self._closed:
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
        return self._stream

    def _attempt(self, action: Callable[[], object]) -> None:
        if not self._closed:
            try:
                action()
            except (OSError, ValueError):  # a broken pipe, a closed stream: the run goes on
                self._closed = True


class PlainText(Unbreakable):
    """An unbreakable stream that writes control characters as escapes: a terminal takes no orders from file names."""

    def write(self, text: str) -> int:
        """Writes text, if it can be written."""
        super().write("".join(c if c.isprintable() or c in "\n\t" else _escaped(c) for c in text))
        return len(text)


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
    sys.stderr = Unbreakable(sys.stderr)  # progress bars move the cursor


def release_streams() -> None:
    """Flushes what is left, and puts the streams back."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, Unbreakable):
            setattr(sys, name, stream.release())
