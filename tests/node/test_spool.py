"""The spool: what it says is on the disk is there, and a series is done once."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import time

import pytest

from stan_ct.node import deliveries
from stan_ct.node.database import NAME
from stan_ct.node.destinations import destination
from stan_ct.node.identity import SliceIdentity, Unreadable, read_identity
from stan_ct.node.jobs import MOST_CRASHES, Job, Result, crashed, finish
from stan_ct.node.overview import FAILURES, series_lines, states, write_failures
from stan_ct.node.spool import Spool, file_name, series_key
from stan_ct.reconstruction.lock import OutputError

PACS = destination("PACS@127.0.0.1:104")


def slice_of(number: int, series: str = "1.2.3", expected: int = 0) -> tuple[SliceIdentity, bytes]:
    """Identity and content of a slice."""
    return SliceIdentity("1.2", series, f"{series}.{number}", expected), f"slice {number} of {series}".encode() * 50


def fill(spool: Spool, slices: int = 3, **options) -> str:
    """Adds a series; its key."""
    for number in range(slices):
        identity, content = slice_of(number, **options)
        assert spool.add(identity, content, "SCANNER") == "stored"
    return series_key(identity)


def claimed(spool: Spool) -> Job:
    job = spool.claim()
    assert job is not None
    return job


def result(job: Job, slices: int) -> Result:
    """A result with files on the disk."""
    folder = job.output / "series" / "x"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(slices):
        (folder / f"IM{number:04d}.dcm").write_bytes(b"derived")
    return Result("standardized", "B", "filter", outputs=[(f"9.{n}", f"series/x/IM{n:04d}.dcm") for n in range(slices)])


def send_all(spool: Spool, key: str) -> list[str]:
    """Sends what is pending; the UIDs that went out."""
    went = list(deliveries.parcel(spool, PACS, key).files)
    for uid in went:
        deliveries.arrived(spool, PACS, key, uid)
    return went


def test_a_slice_is_stored_once(tmp_path):
    """New, known and conflicting slices are told apart; the file is what came, under a name made of a hash."""
    spool = Spool(tmp_path)
    identity, content = slice_of(1)
    assert [spool.add(identity, c, "A") for c in (content, content, content + b"x")] == ["stored", "known", "conflict"]
    path = spool.received(series_key(identity)) / file_name(identity.sop_uid)
    assert path.read_bytes() == content
    assert list(tmp_path.rglob("*.dcm")) == [path]
    assert spool.size() == len(content)


def test_what_cannot_be_forced_to_the_disk_is_not_stored(tmp_path, monkeypatch):
    """If fsync fails, the sender gets no success, and nothing is left."""
    spool = Spool(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            spool.add(*slice_of(1), "A")
    assert [p for p in tmp_path.rglob("*") if p.is_file() and p.name[:5] != "spool"] == []
    assert spool.add(*slice_of(1), "A") == "stored"


def test_content_is_on_the_disk_before_the_database_says_so(tmp_path, monkeypatch):
    """Order: content, its name, the entry."""
    spool, order = Spool(tmp_path), []
    fsync = os.fsync

    def seen(descriptor: int) -> None:
        order.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", seen)
        transaction = spool.database.transaction
        patch.setattr(spool.database, "transaction", lambda: (order.append("entry"), transaction())[1])
        spool.add(*slice_of(1), "A")
    assert order == ["file", "folder", "folder", "entry"]
    assert spool.database.number("PRAGMA synchronous") == 2
    assert spool.database.rows("PRAGMA journal_mode")[0][0] == "wal"


def test_a_series_is_complete_after_a_quiet_time(tmp_path, monkeypatch):
    """Not before; and no clock that somebody sets changes that."""
    spool = Spool(tmp_path, quiet_time=0.3)
    key = fill(spool)
    monkeypatch.setattr(time, "time", lambda: 4e9)
    assert spool.claim() is None
    time.sleep(0.35)
    assert claimed(spool).key == key
    assert spool.claim() is None
    assert states(spool)["standardizing"] == 1


@pytest.mark.parametrize(("slices", "expected"), [(3, 0), (0, 3)])
def test_a_series_is_complete_by_count(tmp_path, slices, expected):
    """Of the settings, or of the headers; one fewer is not enough."""
    spool = Spool(tmp_path, quiet_time=1000, slices=slices)
    fill(spool, 2, expected=expected)
    assert spool.claim() is None
    spool.add(*slice_of(2, expected=expected), "A")
    assert claimed(spool).starts == 1


def test_late_slices_are_standardized_too_and_nothing_is_sent_twice(tmp_path):
    """During standardization: it does not count. After sending: the series is done again, and the new slices alone go out."""
    spool = Spool(tmp_path, quiet_time=0)
    key = fill(spool, 2)
    job = claimed(spool)
    spool.add(*slice_of(2), "A")
    assert not finish(spool, job, result(job, 2), [PACS])
    job = claimed(spool)
    assert finish(spool, job, result(job, 3), [PACS])
    assert deliveries.pending(spool, PACS) == [key]
    assert send_all(spool, key) == ["9.0", "9.1", "9.2"]
    assert deliveries.pending(spool, PACS) == []
    spool.add(*slice_of(3), "A")
    job = claimed(spool)
    assert finish(spool, job, result(job, 4), [PACS])
    assert send_all(spool, key) == ["9.3"]
    assert states(spool)["standardized"] == 1


def test_a_series_at_which_the_process_crashes_is_given_up_and_taken_up_when_sent_again(tmp_path):
    """Three crashes; failures.csv names it; sent again, it is tried again."""
    spool = Spool(tmp_path, quiet_time=0)
    fill(spool)
    gave_up = [crashed(spool, claimed(spool), "signal 11") for _ in range(MOST_CRASHES)]
    assert gave_up == [False] * (MOST_CRASHES - 1) + [True]
    assert spool.claim() is None
    write_failures(spool)
    assert "1.2.3,1.2,SCANNER,3,failed,crashed,signal 11," in (tmp_path / FAILURES).read_text()
    assert spool.add(*slice_of(0), "A") == "known"
    assert claimed(spool).starts == 1
    spool.close()


def test_done_series_stay_done_when_sent_again(tmp_path):
    """A sender that repeats itself changes nothing, also after the images were removed."""
    spool = Spool(tmp_path, quiet_time=0)
    key = fill(spool)
    job = claimed(spool)
    finish(spool, job, result(job, 3), [PACS])
    send_all(spool, key)
    assert spool.add(*slice_of(0), "A") == "known"
    assert spool.expire(0, 3600) == 1
    assert list(tmp_path.rglob("*.dcm")) == []
    assert spool.add(*slice_of(0), "A") == "known"
    assert spool.claim() is None
    assert spool.size() == 0


def test_retention_keeps_what_is_not_delivered(tmp_path):
    """Images go once everything is sent, UIDs later; then the series would be done again."""
    spool = Spool(tmp_path, quiet_time=0)
    key = fill(spool)
    assert spool.expire(0, 0) == 0
    job = claimed(spool)
    finish(spool, job, result(job, 3), [PACS])
    assert spool.expire(0, 0) == 0
    send_all(spool, key)
    assert spool.expire(3600, 7200) == 0
    assert spool.expire(0, 7200) == 1
    assert states(spool)["standardized"] == 1
    spool.expire(0, 0)
    assert states(spool)["standardized"] == 0
    assert spool.add(*slice_of(0), "A") == "stored"


def test_late_slices_after_the_images_went_begin_the_series_anew(tmp_path):
    """What was sent is not sent again."""
    spool = Spool(tmp_path, quiet_time=0)
    key = fill(spool, 2)
    job = claimed(spool)
    finish(spool, job, result(job, 2), [PACS])
    send_all(spool, key)
    spool.expire(0, 3600)
    assert spool.add(*slice_of(2), "A") == "stored"
    assert [spool.add(*slice_of(n), "A") for n in range(2)] == ["stored", "stored"]
    job = claimed(spool)
    assert len(list(job.received.iterdir())) == 3
    finish(spool, job, result(job, 3), [PACS])
    assert send_all(spool, key) == ["9.2"]


def test_a_killed_node_leaves_a_spool_that_goes_on(tmp_path):
    """What was being standardized is complete again; half-written slices go; what the database lost is taken in again."""
    spool = Spool(tmp_path, quiet_time=0)
    key = fill(spool)
    claimed(spool)
    (tmp_path / "incoming" / "half").write_bytes(b"x")
    (tmp_path / "standardized" / "unknown").mkdir()
    spool.close()
    again = Spool(tmp_path, quiet_time=0)
    assert not list((tmp_path / "incoming").iterdir())
    assert not (tmp_path / "standardized" / "unknown").exists()
    assert claimed(again).key == key


def test_files_are_taken_in_again_where_the_database_is_gone(tmp_path, series):
    """The slices in the spool are enough to go on."""
    spool, paths = Spool(tmp_path / "a", quiet_time=0), series(1)
    for path in paths:
        spool.add(read_identity(path.read_bytes()), path.read_bytes(), "A")
    spool.close()
    for path in (tmp_path / "a").glob(f"{NAME}*"):
        path.unlink()
    again = Spool(tmp_path / "a", quiet_time=0)
    assert states(again)["receiving"] == 1
    assert again.database.number("SELECT count(*) FROM slices") == len(paths)
    assert {p.read_bytes() for p in claimed(again).received.iterdir()} == {p.read_bytes() for p in paths}


@pytest.mark.parametrize("damage", [b"this is no database at all, but long enough to be one" * 100, None])
def test_a_damaged_database_is_refused_with_advice(tmp_path, damage):
    """Not a database, or pages of it overwritten: the message says what to do."""
    spool = Spool(tmp_path)
    for number in range(30):
        spool.add(*slice_of(number, series=f"1.2.{number}"), "A")
    spool.close()
    path = tmp_path / NAME
    content = path.read_bytes()
    path.write_bytes(damage or content[:4096] + bytes(len(content) - 4096))
    for name in ("-wal", "-shm"):
        (tmp_path / f"{NAME}{name}").unlink(missing_ok=True)
    with pytest.raises(OutputError, match=r"is damaged.*move it away"):
        Spool(tmp_path)


def test_a_later_version_is_refused(tmp_path):
    """Its tables may mean something else."""
    Spool(tmp_path).close()
    with sqlite3.connect(tmp_path / NAME) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(OutputError, match="later version"):
        Spool(tmp_path)


def test_deliveries_that_are_refused_or_have_nowhere_to_go_are_named(tmp_path):
    """Given up after five refusals, tried once more after a restart; of a destination that is gone, cancelled."""
    spool = Spool(tmp_path, quiet_time=0)
    key = fill(spool)
    job = claimed(spool)
    finish(spool, job, result(job, 3), [PACS])
    assert [deliveries.refused(spool, PACS, key, "C-STORE status A900") for _ in range(5)] == [False] * 4 + [True]
    assert deliveries.pending(spool, PACS) == []
    assert series_lines(spool)[0].light == "bad"
    write_failures(spool)
    assert ",not delivered,PACS@127.0.0.1:104,C-STORE status A900," in (tmp_path / FAILURES).read_text()
    deliveries.retry_refused(spool)
    assert deliveries.pending(spool, PACS) == [key]
    assert deliveries.cancel_others(spool, []) == 1
    assert series_lines(spool)[0].sent == ["PACS@127.0.0.1:104: cancelled (no destination any more)"]


def test_spreadsheets_get_no_formulas(tmp_path):
    """A sender may be called =1+1."""
    spool = Spool(tmp_path, quiet_time=0)
    spool.add(*slice_of(1), "=1+1")
    job = claimed(spool)
    finish(spool, job, Result("refused", reason="not_hu", found="a\nb"), [])
    write_failures(spool)
    assert ",'=1+1,1,refused,not_hu,a b," in (tmp_path / FAILURES).read_text()


def test_identity_is_of_ct_with_real_uids(series):
    """Paths and words are no UIDs; other images are no CT."""
    content = series(1)[0].read_bytes()
    assert read_identity(content).sop_uid.endswith(".1.1")
    uid = read_identity(content).sop_uid.encode()
    with pytest.raises(Unreadable, match="SOP Instance UID is no UID"):
        read_identity(content.replace(uid, b"../../" + uid[6:]))
    with pytest.raises(Unreadable, match="not CT Image Storage"):
        read_identity(content.replace(b"1.2.840.10008.5.1.4.1.1.2\0", b"1.2.840.10008.5.1.4.1.1.4\0"))
    with pytest.raises(Unreadable):
        read_identity(b"\0" * 128 + b"DICM" + os.urandom(500))


def test_a_folder_that_is_gone_is_made_again(tmp_path):
    """Somebody removed what came: the next slices still come in."""
    spool = Spool(tmp_path)
    key = fill(spool, 1)
    shutil.rmtree(spool.received(key))
    assert spool.add(*slice_of(5), "A") == "stored"
