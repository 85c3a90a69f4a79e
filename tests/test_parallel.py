"""Processes that share work: they answer in order, and none outlives its parent."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tasks import die_at_first

from stan_ct.parallel import WorkerDied, Workers, at_most, end_with_parent, report, threaded, usable_cores
from stan_ct.reconstruction import preparation

ROOT = Path(__file__).parents[1]
AT_WORK = r"""
import os
import time
from stan_ct.parallel import Workers

def work(number):
    os.write(1, f"{number}\n".encode())  # whole, whoever else writes
    time.sleep(600)

if __name__ == "__main__":
    with Workers(2) as pool:
        pool.map(work, [(1,), (2,)], [1, 1], "work")
"""


@pytest.mark.parametrize("count", [1, 3])
def test_results_are_in_order(count):
    """Whoever is done first, results come in the order of the tasks."""
    with Workers(count) as pool:
        assert pool.map(divmod, [(17, 5), (9, 3), (7, 4)], [1, 2, 3], "divide") == [(3, 2), (3, 0), (1, 3)]


def report_twice(amount):
    """A task that reports its progress in two steps; returns the process it ran in."""
    report(amount)
    report(amount)
    return os.getpid()


@pytest.mark.parametrize("count", [1, 2])
def test_tasks_report_progress(count):
    """What tasks report arrives in the caller's process before the last result; outside a pool nobody listens."""
    reported, at_result = [], []
    with Workers(count) as pool:
        for number, process in pool.as_completed(report_twice, [(1,), (10,), (100,)], reported.append):
            at_result.append((number, sum(reported)))
            assert (process == os.getpid()) == (count == 1)
    assert sorted(reported) == [1, 1, 10, 10, 100, 100]
    assert sorted(number for number, _ in at_result) == [0, 1, 2]
    assert at_result[-1][1] == 222
    assert report_twice(5) == os.getpid()
    assert len(reported) == 6


def raise_error(text):
    """A task that fails."""
    raise ValueError(text)


@pytest.mark.parametrize("count", [1, 2])
def test_an_error_in_a_task_reaches_the_caller(count):
    """The first error ends the work."""
    with pytest.raises(ValueError, match="no slice"), Workers(count) as pool:
        pool.map(raise_error, [("no slice",), ("no slice",)], [1, 1], "fail")


def test_a_task_whose_worker_dies_is_tried_again(tmp_path):
    """Workers that die at two of eight tasks are replaced; every task has its result, few are done again."""
    tasks = [(tmp_path, number, {1: 1, 5: 2}.get(number, 0)) for number in range(8)]
    with Workers(2) as pool:
        assert sorted(pool.as_completed(die_at_first, tasks)) == [(number, number) for number in range(8)]
    calls = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert calls["1"] >= 2
    assert calls["5"] == 3
    assert sum(calls.values()) <= 8 + 3 + 2 * 3  # what was under way beside them is done again


def test_a_task_that_always_ends_its_worker_is_given_up(tmp_path):
    """The others are finished; without a result to give instead, it is an error that says so."""
    tasks = [(tmp_path, number, 99 if number == 1 else 0) for number in range(4)]
    with Workers(2) as pool:
        found = dict(pool.as_completed(die_at_first, tasks, given_up=lambda number: f"no {number}"))
    assert found == {0: 0, 1: "no 1", 2: 2, 3: 3}
    with pytest.raises(WorkerDied, match="died 3 times at task 0"), Workers(2) as pool:
        list(pool.as_completed(die_at_first, [(tmp_path, number, 999) for number in (7, 8)]))


def test_only_a_worker_ends_with_its_parent():
    """Outside a worker there is no parent to end with, which is said."""
    with pytest.raises(RuntimeError, match="call end_with_parent in a worker"):
        end_with_parent()


@pytest.mark.usefixtures("signals_arrive")
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_worker_outlives_its_parent(tmp_path, end):
    """Workers in the middle of a task of 10 min are gone within 2 min of their parent's death: nobody holds their output.

    Ctrl-C goes to all processes of a terminal, the other signals to the parent alone.
    """
    script = tmp_path / "at_work.py"
    script.write_text(AT_WORK)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as parent:
        try:
            assert {parent.stdout.readline(), parent.stdout.readline()} == {"1\n", "2\n"}
            (os.killpg if end == signal.SIGINT else os.kill)(parent.pid, end)
            assert parent.communicate(timeout=120)[0] == ""
            assert parent.returncode == -end
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(parent.pid, signal.SIGKILL)  # where the promise is broken, nobody stays either


def test_usable_cores(monkeypatch):
    """The cores of this process where the system tells them; all of the machine, at least one, where it does not."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {2, 5, 7}, raising=False)
    assert usable_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    for known, expected in ((12, 12), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda known=known: known)
        assert usable_cores() == expected


def test_a_share_of_the_cores(monkeypatch):
    """No more than the share, nor than there are; all of them again afterwards, whatever happened."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {2, 5, 7}, raising=False)
    for share, expected in ((1, 1), (2, 2), (3, 3), (4, 3)):
        with at_most(share):
            assert usable_cores() == expected
    with pytest.raises(ValueError, match="fault"), at_most(1):
        raise ValueError("fault")
    assert usable_cores() == 3


def test_a_worker_computes_on_its_share(monkeypatch):
    """Its engine too, which would otherwise start threads on the cores of the other workers."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {2, 5, 7}, raising=False)
    monkeypatch.setattr(preparation, "_run_of", lambda settings, at_once: None)
    monkeypatch.setattr(preparation, "standardize_one", lambda *_: usable_cores())
    assert preparation.standardize_there(None, 2, None, None, 1) == 2
    assert usable_cores() == 3


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_work_a_few_items_ahead(threads):
    """Results come in the order of the items; no more items are taken than whoever asks needs, and a few."""
    taken = []
    results = threaded(lambda item: -item, (taken.append(k) or k for k in range(20)), threads)
    assert [next(results) for _ in range(3)] == [0, -1, -2]
    assert len(taken) <= 3 + threads
    assert list(results) == [-k for k in range(3, 20)]
