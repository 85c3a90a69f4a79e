"""Memory that a process has freed and will soon need again."""

from __future__ import annotations

import ctypes
import sys

TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4
"""Parameters of glibc's `mallopt`."""
KEPT, PAD = 2**31 - 1, 64 * 2**20
"""Freed memory at the top of the heap that is kept, and memory that is asked for at a time, bytes."""


def keep_freed_memory() -> bool:
    """Tells the C library to keep large blocks that are freed, for the whole process.

    TensorFlow asks for the same large tensors in every training step. glibc gives each of them back to the system, and
    every page is faulted in and cleared anew, which can take a third of the processor time of a step.

    Returns:
        Whether the C library has taken it; False where it is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # another C library, such as musl
        return False
    return all(mallopt(name, value) == 1 for name, value in ((MMAP_MAX, 0), (TRIM_THRESHOLD, KEPT), (TOP_PAD, PAD)))
