"""Many series: standardize, write, and account for each of them; what an earlier run finished is kept."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from stan_ct.dicom.find import Inventory
from stan_ct.dicom.identity import creation_time
from stan_ct.dicom.refusal import Refusal
from stan_ct.dicom.series import SeriesFiles
from stan_ct.reconstruction.accounts import Accounts, Record
from stan_ct.reconstruction.journal import Forecast, Journal
from stan_ct.reconstruction.lock import OutputError, locked
from stan_ct.reconstruction.one_series import standardize_one
from stan_ct.reconstruction.request import INCOMPLETE, Run
from stan_ct.reconstruction.rerun import check_output, plan_numbers, recover

__all__ = ["Executor", "Outcome", "OutputError", "Run", "Task", "check_output", "standardize_cohort"]


@dataclass(frozen=True)
class Task:
    """A series to standardize: its files, the creation time and the Series Number of what is made of it."""

    files: SeriesFiles
    created: datetime
    series_number: int


Executor = Callable[[Sequence[Task], Callable[[], None]], Iterator[Record]]
"""Standardizes series somewhere: takes the tasks, and a function to call from time to time; yields records as they come."""


@dataclass(frozen=True)
class Outcome:
    """A finished run."""

    records: list[Record]
    refusals: list[Refusal]

    @property
    def exit_code(self) -> int:
        """0 all good; 2 some series or slices were refused or failed; 3 no series was standardized."""
        if all(r.status in ("refused", "failed") for r in self.records):
            return 3
        return 2 if self.refusals or any(r.refused for r in self.records) else 0

    def count(self, status: str) -> int:
        """Number of series of a status: `written`, `refused`, `failed`, `left_alone`."""
        return sum(record.status == status for record in self.records)

    @property
    def kept(self) -> int:
        """Number of written series that are of an earlier run."""
        return sum(bool(record.entry.get("kept")) for record in self.records)


def standardize_cohort(
    inventory: Inventory,
    run: Run,
    progress: Callable,
    say: Callable[[str], None] = print,
    executor: Executor | None = None,
    shard: str = "",
    chosen: Sequence[SeriesFiles] | None = None,
) -> Outcome:
    """Standardizes every series found and writes manifest, tables and report.

    A series that cannot be standardized, or that fails, never stops the others. A series that an earlier run finished with the
    same settings, of the same source files, is kept; another one is replaced only by a complete new one.

    Args:
        inventory: Series that were found.
        run: Directories, models and choices.
        progress: Wrapper of the iteration over slices: `progress(slices, description)`; only of series that are standardized in
            this process.
        say: Function that prints a line.
        executor: Where series are standardized; None: in this process, one after the other.
        chosen: Series to standardize; None for all. The others only count in choosing Series Numbers.
        shard: `i/n` for every n-th series from the i-th on, beside other shards; no account is written then, see
            :func:`~stan_ct.reconstruction.shards.merge_shards`. Empty for all.
    Raises:
        OutputError: If another run uses the output directory, or it cannot be used, see :func:`check_output`.
        OSError: If manifest, tables or report cannot be written.
    """
    run.output_dir.mkdir(parents=True, exist_ok=True)
    cohort = replace(inventory, series=list(inventory.series if chosen is None else chosen))
    chosen = series_of_shard(cohort.series, shard)
    with locked(run.output_dir, shard=shard.replace("/", "-of-")):
        recover(run.output_dir, {files.name for files in chosen} if shard else None)
        check_output(run, inventory)  # another run may have ended meanwhile
        created, numbers = creation_time(), plan_numbers(inventory, run.output_dir)
        tasks = [Task(files, created, numbers[files.name]) for files in chosen]
        journal, forecast = Journal(run.output_dir, shard), Forecast(chosen)
        accounts = Accounts(run.input_dir, run.output_dir, cohort, run.models, run.command, created, run.show_identifiers)
        refresh = _nothing if shard else accounts.refresh
        (accounts.withdraw if shard else refresh)()  # those of an earlier run may not be true much longer
        journal.note("started", series=len(chosen), slices=sum(len(files.instances) for files in chosen))
        labels = {files.name: f"[{n}/{len(chosen)}] {files.name}" for n, files in enumerate(chosen, 1)}
        before = time.monotonic()
        try:
            for record in (executor or _in_turn(run, progress, labels))(tasks, refresh):
                now = time.monotonic()
                forecast.add(record, now - before)
                before = now
                accounts.add(record)
                refresh()
                journal.series(record)
                say(f"{labels[record.files.name]}: {record.summary()}{forecast.words()}")
            if not shard:
                accounts.write()
        except BaseException as error:
            journal.note("stopped", why=type(error).__name__)
            raise
        finally:
            if not shard:
                shutil.rmtree(run.output_dir / INCOMPLETE, ignore_errors=True)
        outcome = Outcome(accounts.records, inventory.refusals)
        journal.note("finished", **{status: outcome.count(status) for status in ("written", "refused", "failed", "left_alone")})
    return outcome


def series_of_shard(series: Sequence[SeriesFiles], shard: str) -> list[SeriesFiles]:
    """Every n-th series from the i-th on, for a shard `i/n`; all without one."""
    first, _, count = shard.partition("/")
    return list(series[int(first) - 1 :: int(count)] if shard else series)


def _nothing() -> None:
    """A shard has no accounts to refresh."""


def _in_turn(run: Run, progress: Callable, labels: dict[str, str]) -> Executor:
    """Standardizes one series after the other in this process."""

    def executor(tasks: Sequence[Task], refresh: Callable[[], None]) -> Iterator[Record]:
        for task in tasks:

            def followed(slices: Iterable, label: str = labels[task.files.name]) -> Iterator:
                for item in progress(slices, label):
                    refresh()
                    yield item

            yield standardize_one(task.files, run, task.created, task.series_number, followed)

    return executor
