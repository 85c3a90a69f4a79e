"""Workers of a Dask cluster: on this machine, at the address of a scheduler, or as jobs of SLURM."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import cv2

from stan_ct.errors import UsageError

if TYPE_CHECKING:
    from distributed import Client

LOCAL, SLURM = "local", "slurm"
"""Names of clusters that are started for a run: processes of this machine, and jobs of SLURM."""
ATTEMPTS = 3
"""How often a task is tried whose worker dies."""
WAITING = 60
"""Seconds to wait for a scheduler."""


class WorkerDied(BrokenProcessPool):
    """The worker of a task has died, each time that it was tried, in a pool of this machine or on a cluster."""


@contextmanager
def connected(scheduler: str, workers: int) -> Iterator[Client]:
    """Context with a client of a cluster.

    Args:
        scheduler: `local`, `slurm`, or the address of a scheduler, such as `tcp://10.0.0.1:8786`. Resources of SLURM jobs are
            those of Dask's configuration (`~/.config/dask/jobqueue.yaml`).
        workers: Number of workers of a cluster that is started.
    Raises:
        UsageError: If Dask is not installed, or the cluster cannot be had.
    """
    try:
        import dask
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise UsageError("a scheduler needs Dask: pip install 'stan-ct[cluster]'") from error
    settings = {"distributed.scheduler.allowed-failures": ATTEMPTS - 1, "distributed.admin.tick.limit": "1h"}
    with dask.config.set(settings), ExitStack() as stack:
        try:
            address: Any = scheduler
            if scheduler == LOCAL:
                address = LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None, silence_logs=50)
            elif scheduler == SLURM:
                from dask_jobqueue import SLURMCluster

                address = SLURMCluster()
                address.scale(jobs=workers)
            if address is not scheduler:
                stack.enter_context(address)
            client = stack.enter_context(Client(address, timeout=WAITING, set_as_default=False))
        except (OSError, ValueError, ImportError, RuntimeError) as error:
            raise UsageError(f"--scheduler={scheduler} cannot be used: {error}") from error
        yield client


def as_completed(
    client: Client,
    function: Callable,
    tasks: Sequence[tuple],
    given_up: Callable[[int], Any] | None = None,
) -> Iterator[tuple[int, Any]]:
    """Calls `function(*task)` for each task on the workers of a cluster; one whose worker dies is tried again elsewhere.

    Args:
        client: Client of the cluster.
        function: Function of a module that the workers can import; it may be called twice for a task.
        tasks: Arguments of each call.
        given_up: Result of the task of a number, whose workers have died each time; None: :class:`WorkerDied` is raised.
    Yields:
        Number of a task and its result, in the order in which tasks are finished.
    """
    suspects = []
    for number, result in _results(client, function, dict(enumerate(tasks))):
        if isinstance(result, WorkerDied):
            suspects.append(number)
        else:
            yield number, result
    for number in suspects:  # alone, since all tasks that wait at a worker are blamed for its death
        for _, result in _results(client, function, {number: tasks[number]}):
            if isinstance(result, WorkerDied) and given_up is None:
                raise result
            yield number, given_up(number) if isinstance(result, WorkerDied) and given_up else result


def _results(client: Client, function: Callable, tasks: Mapping[int, tuple]) -> Iterator[tuple[int, Any]]:
    """Numbers and results of tasks as they come; :class:`WorkerDied` as the result of those that Dask has given up."""
    from distributed import KilledWorker
    from distributed import as_completed as finished

    futures = {client.submit(_call, function, task, pure=False): number for number, task in tasks.items()}
    try:
        for future in finished(list(futures), loop=client.loop):
            try:
                result = future.result()
            except KilledWorker:
                result = WorkerDied(f"a worker died {ATTEMPTS} times at task {futures[future]}, perhaps for want of memory")
            future.release()
            yield futures[future], result
    finally:
        client.cancel(list(futures))


def _call(function: Callable, task: tuple) -> Any:
    """A task of a worker: it is one thread, and may start processes of its own, such as the one that decodes JPEG."""
    cv2.setNumThreads(1)
    multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined] # Dask's are daemons
    return function(*task)
