"""The same function on many tasks: in several processes, with progress, or in threads."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from contextvars import ContextVar
from types import TracebackType
from typing import Any, TypeVar

import cv2
from tqdm import tqdm

POLLING = 0.5
"""Seconds after which reported progress is shown, though no task is finished."""

Item = TypeVar("Item")
Result = TypeVar("Result")

Progress = Callable[[int], None]
"""Takes the amount of work done since its last call."""


def _ignore(amount: int) -> None:
    """Progress that nobody follows."""


_PROGRESS: ContextVar[Progress] = ContextVar("progress", default=_ignore)


def report(amount: int) -> None:
    """Called in a task: reports work done to the `progress` of :meth:`Workers.as_completed`, from whatever process."""
    _PROGRESS.get()(amount)


def usable_cores() -> int:
    """Cores that this process may use, or all of them where the system does not say."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def end_with_parent() -> None:
    """Called in a worker: ends it when its parent is killed, so that it does not work beside the parent's next run."""
    parent = multiprocessing.parent_process()
    if parent is None:
        raise RuntimeError("this process has no parent to end with: call end_with_parent in a worker")

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class Workers:
    """Processes that live as long as the `with` block; with one worker everything happens in this process.

    Args:
        count: Number of processes.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._pool: ProcessPoolExecutor | None = None
        context = multiprocessing.get_context("spawn")  # not forked: the parent may have threads by now
        self._context, self._reports = context, context.SimpleQueue()

    def map(self, function: Callable, tasks: Sequence[tuple], weights: Sequence[int], name: str) -> list:
        """Calls `function(*task)` for each task, with a progress bar.

        Args:
            function: Function of a module, so that processes can find it.
            tasks: Arguments of each call.
            weights: Amount of work in each task, for the progress bar.
            name: Name of the progress bar.
        Returns:
            The results, in the order of the tasks.
        """
        results: list = [None] * len(tasks)
        with tqdm(total=sum(weights), desc=name, disable=None) as bar:
            for i, result in self.as_completed(function, tasks):
                results[i] = result
                bar.update(weights[i])
        return results

    def as_completed(
        self, function: Callable, tasks: Sequence[tuple], progress: Progress = _ignore
    ) -> Iterator[tuple[int, Any]]:
        """Calls `function(*task)` for each task.

        Args:
            function: Function of a module, so that processes can find it.
            tasks: Arguments of each call.
            progress: Called in this process with what the tasks :func:`report`.
        Yields:
            Number of a task and its result, in the order in which tasks are finished.
        """
        if self._count == 1 or len(tasks) < 2:
            for i, task in enumerate(tasks):
                token = _PROGRESS.set(progress)
                try:
                    result = function(*task)
                finally:
                    _PROGRESS.reset(token)
                yield i, result
            return
        if self._pool is None:
            self._pool = ProcessPoolExecutor(self._count, self._context, _start_worker, (self._reports,))
        numbers = {self._pool.submit(function, *task): i for i, task in enumerate(tasks)}
        finished: queue.SimpleQueue[Future] = queue.SimpleQueue()
        for future in list(numbers):
            future.add_done_callback(finished.put)
        while numbers:
            done = None
            with suppress(queue.Empty):
                done = finished.get(timeout=POLLING)
            while not self._reports.empty():
                progress(self._reports.get())
            if done is not None:
                yield numbers.pop(done), done.result()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._pool is not None:  # Ctrl-C ends the workers too, so there is nothing to wait for
            self._pool.shutdown(wait=kind is None or issubclass(kind, Exception), cancel_futures=True)


def _start_worker(reports: multiprocessing.SimpleQueue) -> None:
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends a worker without a traceback
    cv2.setNumThreads(1)  # one process is one thread
    _PROGRESS.set(reports.put)


def threaded(function: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """Calls a function for each item in threads of this process, a few items ahead of whoever takes the results.

    Args:
        function: Function; it is worth threads if it leaves Python, as NumPy, OpenCV and TensorFlow do.
        items: Its arguments.
        threads: Number of threads; with one, items are worked on here, as their results are asked for.
    Yields:
        The results, in the order of the items.
    """
    if threads < 2:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(threads) as pool:
        pending: deque[Future] = deque()
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
