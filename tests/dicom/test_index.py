"""The index of headers: a second search finds the same, reads only what has changed, and never trusts a damaged index."""

import os
import sqlite3

import numpy as np
import pytest
from synthetic import random_stored, write_ct

from stan_ct.dicom import examining, index
from stan_ct.dicom.find import find_series


@pytest.fixture
def indexed(tmp_path, monkeypatch):
    """A tree of two series, a localizer, a text and a damaged slice; search of it; an index from the first file on."""
    monkeypatch.setattr(index, "BATCH", 1)
    root = tmp_path / "in"
    write_ct(root / "a", random_stored((3, 8, 6)), series=3)
    write_ct(root / "b", random_stored((2, 8, 6)), series=4, edit=lambda d, z: setattr(d, "ConvolutionKernel", ["B", "31f"]))
    write_ct(root / "c", random_stored((1, 8, 6)), series=5, edit=lambda d, z: setattr(d, "ImageType", ["A", "B", "LOCALIZER"]))
    write_ct(root / "d", random_stored((1, 8, 6)), series=6, edit=lambda d, z: setattr(d, "RescaleSlope", None))
    (root / "text.txt").write_text("no DICOM")
    return root, tmp_path / "out" / "headers.sqlite"


def described(inventory):
    """An inventory as plain values."""
    slices = [(i.file, i.header.values()) for files in inventory.series for i in files.instances]
    return slices, inventory.refusals, inventory.skipped, dict(inventory.series_numbers)


def examined_files(monkeypatch):
    """Paths that are examined from now on."""
    seen: list[str] = []
    original = examining.examine
    monkeypatch.setattr(examining, "examine", lambda path, accept: seen.append(path) or original(path, accept))
    return seen


def test_a_second_search_finds_the_same_without_reading_headers(indexed, monkeypatch):
    """With an index, nothing that has not changed is examined again; what has changed, is new or is gone is seen."""
    root, database = indexed
    first = find_series(root)
    assert described(find_series(root, index=database)) == described(first)
    assert database.stat().st_mode & 0o777 == 0o600
    seen = examined_files(monkeypatch)
    assert described(find_series(root, index=database)) == described(first)
    assert seen == []
    os.utime(root / "a" / "0.dcm", ns=(1, 1))
    (root / "a" / "2.dcm").unlink()
    (new,) = write_ct(root / "e", random_stored((1, 8, 6)), series=7)
    found = find_series(root, index=database)
    assert sorted(seen) == [str(root / "a" / "0.dcm"), str(new)]
    assert [(files.number, len(files.instances)) for files in found.series] == [(3, 2), (4, 2), (7, 1)]


def test_a_file_that_was_replaced_with_its_size_and_time_of_modification_is_examined(indexed):
    """Copies and repairs of headers keep both: the time of change, which nobody sets, tells."""
    root, database = indexed
    find_series(root, index=database)
    for path in (root / "a").iterdir():
        kept = path.stat()
        content = path.read_bytes()
        assert content.count(b"SH\x02\x00B ") == 1  # Convolution Kernel
        path.write_bytes(content.replace(b"SH\x02\x00B ", b"SH\x02\x00C "))
        os.utime(path, ns=(kept.st_atime_ns, kept.st_mtime_ns))
        assert (path.stat().st_size, path.stat().st_mtime_ns) == (kept.st_size, kept.st_mtime_ns)
    assert [files.kernel for files in find_series(root, index=database).series] == ["C", "B/31f"]


@pytest.mark.parametrize("damage", ["bytes", "other format", "directory"])
def test_an_index_that_is_damaged_is_made_anew_or_left_out(indexed, damage, monkeypatch):
    """Whatever lies in the place of the index, the search finds the same; a damaged index serves again the time after."""
    root, database = indexed
    first = find_series(root, index=database)
    if damage == "bytes":
        database.write_bytes(b"no database" * 1000)
    elif damage == "directory":
        database.unlink()
        database.mkdir()
    else:
        with sqlite3.connect(database) as connection:
            connection.execute("UPDATE format SET name = 'of another version'")
            connection.execute("UPDATE files SET content = '[]'")
        connection.close()
    for _ in range(2):
        assert described(find_series(root, index=database)) == described(first)
    seen = examined_files(monkeypatch)
    assert described(find_series(root, index=database)) == described(first)
    assert (seen == []) == (damage != "directory")


def test_unreadable_files_are_examined_again(indexed, monkeypatch):
    """What could not be read may be readable later."""
    root, database = indexed
    slice_bytes = (root / "a" / "0.dcm").read_bytes()
    (root / "a" / "bad.dcm").write_bytes(slice_bytes.replace(b"\x28\x00\x10\x00US", b"\x28\x00\x10\x00XX"))
    find_series(root, index=database)
    seen = examined_files(monkeypatch)
    assert find_series(root, index=database).refusals
    assert seen == [str(root / "a" / "bad.dcm")]


def test_small_trees_have_no_index_and_another_way_of_accepting_leaves_it_alone(indexed, tmp_path, monkeypatch):
    """Fewer files than a batch make no index; neither does a search that accepts what STAN-CT wrote."""
    root, database = indexed
    find_series(root, index=database, accept_standardized=True)
    assert not database.exists()
    monkeypatch.setattr(index, "BATCH", 1000)
    find_series(root, index=database)
    assert not database.exists()


def test_several_processes_examine_a_large_tree(indexed, monkeypatch):
    """Processes find what one finds, in the same order, and fill the index."""
    root, database = indexed
    first = find_series(root)
    monkeypatch.setattr(examining, "MANY", 4)
    monkeypatch.setattr(examining, "CHUNK", 3)
    assert described(find_series(root, index=database, workers=2)) == described(first)
    assert described(find_series(root, index=database, workers=2)) == described(first)


def test_the_index_takes_less_than_a_kilobyte_a_file(tmp_path):
    """The index of 1,000 slices takes less than 1 KB each."""
    write_ct(tmp_path / "in", np.zeros((1000, 2, 2), np.int32))
    find_series(tmp_path / "in", index=tmp_path / "headers.sqlite")
    assert 100_000 < (tmp_path / "headers.sqlite").stat().st_size < 1_024_000
