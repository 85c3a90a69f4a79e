"""The same function on many tasks, in several processes, with a progress bar."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed

import cv2
from tqdm import tqdm


def usable_cores() -> int:
    """Cores that this process may use, or all of them where the system does not say."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def end_with_parent() -> None:
    """Called in a worker: it ends when its parent was killed, beside whose next run it would go on."""

    def watch() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class Workers:
    """Processes that live as long as the `with` block; with one worker all happens in this process.

    Args:
        count: How many.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._pool: ProcessPoolExecutor | None = None

    def map(self, function: Callable, tasks: Sequence[tuple], weights: Sequence[int], name: str) -> list:
        """Calls `function(*task)` for each task.

        Args:
            function: Of a module, so that processes can find it.
            tasks: Its arguments.
            weights: What each task counts for on the progress bar.
            name: Of the progress bar.
        Returns:
            The results, in the order of the tasks.
        """
        results: list = [None] * len(tasks)
        with tqdm(total=sum(weights), desc=name, disable=None) as bar:
            for i, result in self._results(function, tasks):
                results[i] = result
                bar.update(weights[i])
        return results

    def _results(self, function: Callable, tasks: Sequence[tuple]):
        if self._count == 1 or len(tasks) < 2:
            yield from ((i, function(*task)) for i, task in enumerate(tasks))
            return
        if self._pool is None:
            # Not forked: the parent may have threads by now.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self._count, context, initializer=_start_worker)
        numbers = {self._pool.submit(function, *task): i for i, task in enumerate(tasks)}
        yield from ((numbers[future], future.result()) for future in as_completed(numbers))

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    cv2.setNumThreads(1)  # one process is one thread
