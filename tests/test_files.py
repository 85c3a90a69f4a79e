"""Files of one run belong together."""

import pytest

from stan_ct.files import write_together


def test_files_appear_together(tmp_path):
    """A file that cannot be written leaves the former ones as they were, and no debris."""
    write_together(tmp_path, {"a.txt": "old", "b.txt": "old"})
    with pytest.raises(UnicodeEncodeError):
        write_together(tmp_path, {"a.txt": "new", "b.txt": "\ud800"})
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"a.txt": "old", "b.txt": "old"}


def test_a_directory_in_the_way_is_named(tmp_path):
    """Nothing is written where one of the names is a directory's."""
    (tmp_path / "b.txt").mkdir()
    with pytest.raises(IsADirectoryError, match=r"b\.txt is a directory, .*: move it away"):
        write_together(tmp_path, {"a.txt": "new", "b.txt": "new"})
    assert [p.name for p in tmp_path.iterdir()] == ["b.txt"]
