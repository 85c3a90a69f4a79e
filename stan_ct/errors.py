"""The errors that STAN-CT raises on purpose: what was expected, what came, what to do."""

from __future__ import annotations


class StanCTError(Exception):
    """The root of them all; the message says what to do."""


class UsageError(StanCTError, ValueError):
    """The request cannot be carried out as given."""


class NotComparable(StanCTError, ValueError):
    """The directories hold nothing that can be compared as requested."""
