"""A node on a disk that is full or read-only, on a spool that was damaged, and under a clock that jumps: nothing is lost."""

import contextlib
import os
import random
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pacs.nodes import LocalNode, Watched
from pacs.senders import send

from stan_ct.cli.main import main
from stan_ct.node import deliveries
from stan_ct.node.database import NAME
from stan_ct.node.identity import read_identity
from stan_ct.node.spool import Spool
from stan_ct.reconstruction.lock import OutputError

SERIES = range(60, 66)


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A file system of 900 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only the superuser can mount a small disk")
    if _mount(folder, "size=900k"):
        pytest.skip("this system mounts no tmpfs")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def _mount(folder: Path, options: str) -> int:
    command = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
    return subprocess.run(command, check=False, capture_output=True).returncode


def all_done(node: Watched, number: int) -> bool:
    """Whether so many series are standardized, and none is under way."""
    return Watched.until(lambda: node.states()["standardized"] == number and not node.states()["standardizing"], 60)


def test_a_full_disk_under_the_node(disk, model, archive, series):
    """What does not fit is refused, so that the sender keeps it; with room again, every series is in the PACS once."""
    folders = [series(number, side=160) for number in SERIES]
    node = LocalNode(disk / "spool", model, min_free_gb=0, send_to=(archive.destination,))
    try:
        kept = {number: send(paths, node.port) for number, paths in enumerate(folders)}
        assert any(kept.values())  # 6 series of 154 kB, and what is made of them, do not fit
        assert node.get("/health")[0] in (200, 503)
        assert _mount(disk, "remount,size=40M") == 0
        for left in kept.values():
            assert send(left, node.port) == []
        assert all_done(node, len(folders))
        assert Watched.until(lambda: 'state="pending"' not in node.get("/metrics")[1], 60)
        assert set(archive.received.values()) == {1}
        assert len(archive.received) == sum(map(len, folders))
        assert "cannot be written" in node.get("/")[1]
    finally:
        node.end()


def test_a_read_only_spool(disk, model, archive, series, capsys):
    """A node on it ends with a word; when it can be written again, what was taken before goes on its way."""
    node = LocalNode(disk / "spool", model, min_free_gb=0, quiet_time=3600)
    assert send(series(1), node.port) == []
    node.end()
    flags = ["--calling=SCANNER", f"--model={model}", "--port=0", "--http_port=-1"]
    assert _mount(disk, "remount,ro") == 0
    for spool in ("spool", "new"):
        assert main(["node", str(disk / spool), *flags]) == 1
        assert re.search("read-?only", capsys.readouterr().err, re.IGNORECASE)
    assert _mount(disk, "remount,rw") == 0
    node = LocalNode(disk / "spool", model, min_free_gb=0, send_to=(archive.destination,))
    assert Watched.until(lambda: len(archive.received) == 3, 60)
    node.end()


@pytest.mark.parametrize("years", [10, -10])
def test_a_clock_that_jumps(start_node, archive, series, monkeypatch, years):
    """A series on its way is complete after its quiet time, standardized and sent, whatever the clock says meanwhile."""
    node = start_node(send_to=(archive.destination,), quiet_time=1.0)
    assert send(series(1), node.port) == []
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + years * 365 * 86400)
    assert send(series(2), node.port) == []
    assert Watched.until(lambda: len(archive.received) == 6, 60)
    assert set(archive.received.values()) == {1}
    monkeypatch.undo()
    assert send(series(3), node.port) == []
    assert Watched.until(lambda: len(archive.received) == 9, 60)
    assert not node.states()["failed"]


def test_a_clock_that_jumps_removes_nothing_that_is_to_be_sent(tmp_path, monkeypatch):
    """Ten years later, images that the PACS does not have are there still."""
    from test_spool import PACS, claimed, slice_of

    from stan_ct.node.jobs import Result, finish

    spool = Spool(tmp_path, quiet_time=0)
    spool.add(*slice_of(1), "A")
    job = claimed(spool)
    finish(spool, job, Result("standardized", outputs=(("1.2.3", "a.dcm"),)), [PACS])
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 10 * 365 * 86400)
    assert spool.expire(72 * 3600, 90 * 86400) == 0
    assert deliveries.pending(spool, PACS) == [job.key]
    assert list(spool.received(job.key).iterdir())


def test_a_damaged_spool_is_refused_or_goes_on(tmp_path, series):
    """Whatever bytes of the database are damaged: it is refused with advice, or every slice that was acknowledged is known."""
    spool, told = Spool(tmp_path / "spool"), []
    contents = [path.read_bytes() for number in (1, 2) for path in series(number)]
    for content in contents:
        spool.add(read_identity(content), content, "A")
    spool.close()
    database, rng = tmp_path / "spool" / NAME, random.Random(0)
    whole = database.read_bytes()
    used = [place for place in range(0, len(whole) - 64, 64) if any(whole[place : place + 64])]
    for place in rng.sample(used, 40):
        database.write_bytes(whole[:place] + rng.randbytes(64) + whole[place + 64 :])
        with contextlib.suppress(OutputError):
            opened = Spool(tmp_path / "spool")
            told.append(opened.database.number("SELECT count(*) FROM slices"))
            opened.close()
        assert len(list((tmp_path / "spool" / "received").rglob("*.dcm"))) == len(contents)
        for left in tmp_path.glob(f"spool/{NAME}*"):
            left.unlink()
    assert all(number >= len(contents) for number in told)
    assert 0 < len(told) < 38
    opened = Spool(tmp_path / "spool")  # without the database, as the advice says
    assert opened.database.number("SELECT count(*) FROM slices") == len(contents)
    opened.close()
