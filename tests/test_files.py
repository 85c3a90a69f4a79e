"""Files and folders appear complete or not at all."""

import os

import pytest

from stan_ct.files import open_atomically, remove_partial, replace_folder, write_atomically, write_together


def contents(folder):
    """Relative path -> text of every file."""
    return {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*") if p.is_file()}


def test_a_file_appears_when_it_is_complete(tmp_path):
    """While it is written, the file has its old content and the new one lies beside it under this process's id."""
    write_atomically(tmp_path / "a.txt", "old")
    with open_atomically(tmp_path / "a.txt") as file:
        file.write(b"new")
        assert contents(tmp_path) == {"a.txt": "old", f"a.txt.{os.getpid()}.partial": ""}
    assert contents(tmp_path) == {"a.txt": "new"}


def test_an_error_keeps_the_former_file(tmp_path):
    """A block that raises leaves the file as it was, and no debris; so does text that cannot be encoded."""
    write_atomically(tmp_path / "a.txt", b"old")
    with pytest.raises(TypeError), open_atomically(tmp_path / "a.txt") as file:
        file.writelines([b"new", None])
    with pytest.raises(UnicodeEncodeError):
        write_atomically(tmp_path / "b.txt", "\ud800")
    assert contents(tmp_path) == {"a.txt": "old"}


def test_files_appear_together(tmp_path):
    """A file that cannot be written leaves the former ones as they were, and no debris."""
    write_together(tmp_path, {"a.txt": "old", "b.txt": "old"})
    with pytest.raises(UnicodeEncodeError):
        write_together(tmp_path, {"a.txt": "new", "b.txt": "\ud800"})
    assert contents(tmp_path) == {"a.txt": "old", "b.txt": "old"}


def test_a_directory_in_the_way_is_named(tmp_path):
    """Nothing is written where one of the names is a directory's."""
    (tmp_path / "b.txt").mkdir()
    with pytest.raises(IsADirectoryError, match=r"b\.txt is a directory, .*: move it away"):
        write_together(tmp_path, {"a.txt": "new", "b.txt": "new"})
    assert [p.name for p in tmp_path.iterdir()] == ["b.txt"]


def make_folder(folder, text):
    """A folder with one file."""
    folder.mkdir(parents=True)
    (folder / "a.txt").write_text(text)
    return folder


def test_a_folder_replaces_another(tmp_path):
    """The new folder takes the name, whether it was taken or not, and nothing is left of the former one."""
    for text in ("first", "second"):
        replace_folder(make_folder(tmp_path / "made", text), tmp_path / "deep/out", tmp_path / "old")
        assert contents(tmp_path) == {"deep/out/a.txt": text}
        assert sorted(p.name for p in tmp_path.iterdir()) == ["deep"]


def test_a_folder_that_cannot_be_moved_replaces_none(tmp_path):
    """If the new folder is missing, the former one has its name again, and not one that an earlier run has left."""
    make_folder(tmp_path / "out", "former")
    make_folder(tmp_path / "old", "earlier")
    with pytest.raises(FileNotFoundError):
        replace_folder(tmp_path / "missing", tmp_path / "out", tmp_path / "old")
    assert contents(tmp_path) == {"out/a.txt": "former"}


def test_a_folder_left_by_a_killed_run_is_kept_until_the_new_one_is_there(tmp_path):
    """A run that was killed between two renames leaves the former folder alone: it goes when a new one is there."""
    make_folder(tmp_path / "old", "former")
    replace_folder(make_folder(tmp_path / "made", "new"), tmp_path / "out", tmp_path / "old")
    assert contents(tmp_path) == {"out/a.txt": "new"}


def test_partial_files_are_removed(tmp_path):
    """What a killed process left goes, at any depth; what is complete stays."""
    for name in ("a.txt", "a.txt.17.partial", "deep/b.dcm.4711.partial", "deep/partial.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    remove_partial(tmp_path)
    assert sorted(contents(tmp_path)) == ["a.txt", "deep/partial.txt"]
