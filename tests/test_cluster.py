"""Workers of a Dask cluster: results as of processes here, tasks tried again, and clear words where there is no cluster."""

import multiprocessing
import os
import sys

import pytest
from tasks import die_at_first

from stan_ct import cluster
from stan_ct.cli.main import main
from stan_ct.errors import UsageError
from stan_ct.parallel import Workers, on_cluster


def ask_another_process(number):
    """A task that starts a process of its own, as one that decodes JPEG does."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return os.getpid(), pool.apply(abs, (-number,))


def test_tasks_are_tried_again_and_given_up(tmp_path, monkeypatch):
    """On a cluster of this machine, one that ends its worker once is done, one that always does is given up."""
    monkeypatch.setattr(cluster, "ATTEMPTS", 2)
    tasks = [(tmp_path, number, {1: 1, 2: 99}.get(number, 0)) for number in range(4)]
    with on_cluster("local"), Workers(2) as pool:
        assert pool.are_apart
        found = dict(pool.as_completed(die_at_first, tasks, given_up=lambda number: f"no {number}"))
        assert found == {0: 0, 1: 1, 2: "no 2", 3: 3}
        ((process, answer),) = pool.map(ask_another_process, [(5,)], [1], "ask")
        assert answer == 5
        assert process != os.getpid()
    assert (tmp_path / "1").stat().st_size >= 2


def test_outside_of_a_cluster_processes_are_of_this_machine():
    """The context ends with its block; what is to stay here stays."""
    with on_cluster("tcp://127.0.0.1:1"):
        assert list(Workers(1, here=True).as_completed(abs, [(-1,), (-2,)])) == [(0, 1), (1, 2)]
    assert not Workers(1).are_apart


def test_a_cluster_that_cannot_be_had_is_named(monkeypatch):
    """Without Dask, with an address that is none, or with two clusters: bad usage, and what to do."""
    with pytest.raises(UsageError, match="--scheduler=nonsense://x cannot be used"), on_cluster("nonsense://x"), Workers(1):
        pass
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match=r"pip install 'stan-ct\[cluster\]'"), on_cluster("local"), Workers(1):
        pass


def test_two_clusters_are_refused(capsys):
    """--slurm and --scheduler exclude each other."""
    assert main(["reconstruct", "in", "out", "--slurm", "--scheduler=local"]) == 1
    assert "choose one" in capsys.readouterr().err
