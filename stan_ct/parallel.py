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
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from types import TracebackType
from typing import Any, TypeVar

import cv2
from tqdm import tqdm

from stan_ct import cluster
from stan_ct.cluster import ATTEMPTS, WorkerDied

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


_SCHEDULER: ContextVar[str] = ContextVar("scheduler", default="")


@contextmanager
def on_cluster(scheduler: str) -> Iterator[None]:
    """Context in which :class:`Workers` are those of a Dask cluster.

    Args:
        scheduler: See :func:`stan_ct.cluster.connected`; empty for processes of this machine.
    """
    token = _SCHEDULER.set(scheduler)
    try:
        yield
    finally:
        _SCHEDULER.reset(token)


_most_cores: int | None = None


@contextmanager
def at_most(cores: int) -> Iterator[None]:
    """Context in which :func:`usable_cores` are no more than these: the share of a worker beside others."""
    global _most_cores
    before, _most_cores = _most_cores, cores
    try:
        yield
    finally:
        _most_cores = before


def usable_cores() -> int:
    """Cores that this process may use, or all of them where the system does not say."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _most_cores or cores)


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

    Within :func:`on_cluster` they are the workers of that cluster, however many there are.

    Args:
        count: Number of processes.
        here: Whether they are processes of this machine in any case.
    """

    def __init__(self, count: int, here: bool = False) -> None:
        self._count, self._scheduler = count, "" if here else _SCHEDULER.get()
        self._client: Any = None
        self._stack = ExitStack()
        self._pool: ProcessPoolExecutor | None = None
        context = multiprocessing.get_context("spawn")  # not forked: the parent may have threads by now
        self._context, self._reports = context, context.SimpleQueue()

    @property
    def are_apart(self) -> bool:
        """Whether tasks are done in other processes than this one."""
        return self._count > 1 or self._client is not None

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
        self,
        function: Callable,
        tasks: Sequence[tuple],
        progress: Progress = _ignore,
        given_up: Callable[[int], Any] | None = None,
    ) -> Iterator[tuple[int, Any]]:
        """Calls `function(*task)` for each task.

        A task whose worker dies, as one does that the system ends for want of memory, is tried again, `ATTEMPTS` times in all.

        Args:
            function: Function of a module, so that processes can find it; it may be called twice for a task.
            tasks: Arguments of each call.
            progress: Called in this process with what the tasks :func:`report`.
            given_up: Result of the task of a number, whose workers have died each time; None: :class:`WorkerDied` is raised.
        Yields:
            Number of a task and its result, in the order in which tasks are finished.
        """
        if self._client is None and (self._count == 1 or len(tasks) < 2):
            for i, task in enumerate(tasks):
                token = _PROGRESS.set(progress)
                try:
                    result = function(*task)
                finally:
                    _PROGRESS.reset(token)
                yield i, result
            return
        if self._client is not None:
            yield from cluster.as_completed(self._client, function, tasks, given_up)
            return
        left, suspects, deaths = dict(enumerate(tasks)), deque[int](), 0
        while left:
            some = {suspects[0]: left[suspects[0]]} if suspects else dict(left)
            try:
                for i, result in self._in_pool(function, some, progress):
                    del left[i]
                    yield i, result
            except BrokenProcessPool:
                self._end_pool()
                deaths += 1
                if not suspects:  # the first ones were under way: one by one, they show which of them ends its worker
                    suspects.extend(list(left)[: self._count + 1])
                elif deaths >= ATTEMPTS:
                    if given_up is None:
                        raise WorkerDied(
                            f"a worker died {ATTEMPTS} times at task {suspects[0]}, perhaps for want of memory"
                        ) from None
                    del left[suspects[0]]
                    yield suspects[0], given_up(suspects[0])
            while suspects and suspects[0] not in left:
                suspects.popleft()
                deaths = 0

    def _in_pool(self, function: Callable, tasks: dict[int, tuple], progress: Progress) -> Iterator[tuple[int, Any]]:
        """Numbers and results of tasks in the order in which they are finished; BrokenProcessPool if a worker dies."""
        if self._pool is None:
            self._pool = ProcessPoolExecutor(self._count, self._context, _start_worker, (self._reports,))
        numbers = {self._pool.submit(function, *task): i for i, task in tasks.items()}
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

    def _end_pool(self) -> None:
        """Ends the workers, whatever they are doing."""
        pool, self._pool = self._pool, None
        if pool is not None:
            processes = list((pool._processes or {}).values())
            pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.kill()
            for process in processes:
                process.join()

    def __enter__(self) -> Workers:
        if self._scheduler:
            self._client = self._stack.enter_context(cluster.connected(self._scheduler, self._count))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._client = None
        self._stack.close()
        if kind is not None and not issubclass(kind, Exception):  # stopped: whatever they are doing is not needed
            self._end_pool()
        elif self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)


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
