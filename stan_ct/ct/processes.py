"""What every pool of worker processes needs."""

from __future__ import annotations

import multiprocessing
import os
import threading


def usable_cores() -> int:
    """Cores that this process may use, or all of them where the system does not say."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def end_with_parent() -> None:
    """Called in a worker: it ends when its parent was killed, beside whose next run it would go on."""

    def watch() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
