"""Series that are standardized in other processes, on this machine or on others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from stan_ct.parallel import Workers, usable_cores
from stan_ct.reconstruction.accounts import Record
from stan_ct.reconstruction.cohort import Executor, Task
from stan_ct.reconstruction.one_series import worker_died
from stan_ct.reconstruction.preparation import ReconstructSettings, standardize_there
from stan_ct.reconstruction.request import Run


def in_workers(settings: ReconstructSettings, run: Run, pool: Workers) -> Executor:
    """Executor that shares series out to workers; a series whose worker dies is tried again by another one.

    Args:
        settings: The request, from which each worker prepares the run.
        run: The run.
        pool: Workers; the cores of this machine are shared out among them.
    """
    at_once = max(1, usable_cores() // settings.workers)

    def executor(tasks: Sequence[Task], refresh: Callable[[], None]) -> Iterator[Record]:
        calls = [(settings, at_once, task.files, task.created, task.series_number) for task in tasks]
        found = pool.as_completed(
            standardize_there, calls, lambda _: refresh(), lambda number: worker_died(tasks[number].files, run)
        )
        for number, record in found:
            yield replace(record, files=tasks[number].files)

    return executor
