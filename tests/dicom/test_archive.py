"""Archives are unpacked with care: nothing outside of the folder, no more than the disk holds, nothing left behind."""

import os
import stat
import zipfile

import pytest
from commands import run
from faulty.runs import save_filter
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage
from synthetic import random_stored, write_ct

from stan_ct.dicom import archive
from stan_ct.dicom.archive import folder_of_medium, is_archive, missing_from_medium, unpacked
from stan_ct.dicom.find import find_series
from stan_ct.errors import UsageError


def write_zip(path, members, **options):
    """An archive of (name or ZipInfo, content)."""
    with zipfile.ZipFile(path, "w", **options) as opened:
        for name, content in members:
            opened.writestr(name, content)
    return path


def link(name, target):
    """A member that is a symbolic link."""
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return info, target


def test_what_was_packed_is_found_and_nothing_is_left(tmp_path):
    """Slices in folders of an archive are found in a folder of the owner alone, which is gone in the end, as are old ones."""
    paths = write_ct(tmp_path / "in", random_stored((3, 8, 6)))
    packed = write_zip(tmp_path / "a.zip", [(f"x/y/{path.name}", path.read_bytes()) for path in paths])
    assert is_archive(packed)
    assert not is_archive(paths[0])
    with unpacked(packed, tmp_path / "out") as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        assert [path.read_bytes() for path in sorted(folder.rglob("*.dcm"))] == [path.read_bytes() for path in paths]
        assert find_series(folder).slices == 3
        left = folder.with_name(folder.name.rpartition(".")[0] + ".999999999")  # of a process that is no more
        left.mkdir()
        with pytest.raises(OSError, match="exists"), unpacked(packed, tmp_path / "out"):
            pass  # not while this process has one
        assert not left.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "in"]


@pytest.mark.parametrize(
    "member",
    [
        ("../evil.dcm", b"x"),
        ("a/../../evil.dcm", b"x"),
        ("/tmp/evil.dcm", b"x"),
        ("..\\evil.dcm", b"x"),
        ("C:evil.dcm", b"x"),
        link("a", "/etc"),
        ("c/./../../evil.dcm", b"x"),
        ("//server/share/evil.dcm", b"x"),
        ("NUL\\..\\..\\evil.dcm", b"x"),
    ],
)
def test_members_outside_of_the_archive_are_refused(tmp_path, member):
    """Paths that lead out of it, and links, are refused before anything is written."""
    packed = write_zip(tmp_path / "a.zip", [("good.dcm", b"x"), member])
    with pytest.raises(UsageError, match="is a link, or lies outside"), unpacked(packed, tmp_path / "out"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]
    assert not (tmp_path.parent / "evil.dcm").exists()


@pytest.mark.parametrize("names", [("a", "a/b.dcm"), ("a" * 300,), ("a/" * 3000 + "b.dcm",)])
def test_names_that_no_file_system_takes(tmp_path, names):
    """A file in the place of a folder, and names that are too long, are an error of the run; nothing is left."""
    packed = write_zip(tmp_path / "a.zip", [(name, b"x") for name in names])
    with pytest.raises(OSError, match=r"Not a directory|File exists|name too long"), unpacked(packed, tmp_path / "out"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_a_name_ends_at_its_first_zero(tmp_path):
    """What follows a NUL in a name is not part of it, as for every program in C: the file lies below the folder."""
    packed = write_zip(tmp_path / "a.zip", [("a.dcmX../../evil.dcm", b"x")])
    packed.write_bytes(packed.read_bytes().replace(b"a.dcmX", b"a.dcm\0"))
    with unpacked(packed, tmp_path / "out") as folder:
        assert [path.name for path in folder.rglob("*")] == ["a.dcm"]


def test_archives_in_archives_stay_packed(tmp_path):
    """An archive in an archive is a file that is no DICOM: nesting multiplies nothing."""
    inner = write_zip(tmp_path / "inner.zip", [("0", bytes(10_000_000))], compression=zipfile.ZIP_DEFLATED)
    packed = write_zip(tmp_path / "a.zip", [(f"{n}.zip", inner.read_bytes()) for n in range(20)])
    with unpacked(packed, tmp_path / "out") as folder:
        assert sum(path.stat().st_size for path in folder.iterdir()) < 300_000
        assert dict(find_series(folder).skipped) == {"not DICOM": 20}


def test_a_file_twice_is_refused(tmp_path):
    """Of two files of one name nobody knows which is meant."""
    with pytest.warns(UserWarning, match="Duplicate name"):
        packed = write_zip(tmp_path / "a.zip", [("a.dcm", b"x"), ("a.dcm", b"y")])
    with pytest.raises(UsageError, match="a file twice"), unpacked(packed, tmp_path / "out"):
        pass


def test_bombs_are_refused(tmp_path, monkeypatch):
    """What unpacks to far more than its size, to more than the disk holds, or to too many files, is refused; less is not."""
    zeros = write_zip(tmp_path / "zeros.zip", [("a", bytes(10_000_000))], compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(UsageError, match="made to fill disks"), unpacked(zeros, tmp_path / "out"):
        pass
    plain = write_zip(tmp_path / "plain.zip", [("a", os.urandom(1000)), ("b", os.urandom(1000))])
    monkeypatch.setattr(archive, "MOST_FILES", 1)
    with pytest.raises(UsageError, match="2 files, more than 1"), unpacked(plain, tmp_path / "out"):
        pass
    monkeypatch.setattr(archive, "MOST_FILES", 2)
    with unpacked(plain, tmp_path / "out") as folder:
        assert len(list(folder.iterdir())) == 2
    monkeypatch.setattr(
        archive.shutil, "disk_usage", lambda folder: os.terminal_size((0, 0)) and type("Usage", (), {"free": 2222})
    )
    with pytest.raises(UsageError, match="2000 bytes, and 1999 are free"), unpacked(plain, tmp_path / "out"):
        pass


def test_an_archive_that_states_less_than_it_holds_is_stopped(tmp_path):
    """Sizes in the directory of an archive may lie: what is unpacked counts."""
    packed = write_zip(tmp_path / "a.zip", [("a", bytes(range(256)) * 400)])
    data = packed.read_bytes()
    packed.write_bytes(data.replace((256 * 400).to_bytes(4, "little"), (100).to_bytes(4, "little")))
    with pytest.raises(UsageError), unpacked(packed, tmp_path / "out"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize("end", [20, 200, 0])
def test_damaged_archives_are_named(tmp_path, end):
    """An archive whose bytes are damaged is bad usage, with advice."""
    packed = write_zip(tmp_path / "a.zip", [("a", os.urandom(500))])
    data = bytearray(packed.read_bytes())
    data[60 + end : 64 + end] = b"\0\0\0\0"
    packed.write_bytes(data)
    with pytest.raises(UsageError, match="cannot be unpacked"), unpacked(packed, tmp_path / "out"):
        pass


def test_an_archive_that_was_cut_short_is_called_so(tmp_path):
    """Its list of files lies at its end: without it, it is a damaged archive, no file that is none."""
    packed = write_zip(tmp_path / "a.zip", [("a", os.urandom(500))])
    packed.write_bytes(packed.read_bytes()[:300])
    assert is_archive(packed)
    with pytest.raises(UsageError, match="cannot be unpacked"), unpacked(packed, tmp_path / "out"):
        pass
    (tmp_path / "text").write_text("PK is no archive")
    assert not is_archive(tmp_path / "text")
    assert not is_archive(tmp_path)
    assert not is_archive(tmp_path / "missing")


def write_dicomdir(folder, names):
    """The index of a medium, which names images."""
    index = Dataset()
    index.file_meta = FileMetaDataset()
    index.file_meta.MediaStorageSOPClassUID, index.file_meta.MediaStorageSOPInstanceUID = MediaStorageDirectoryStorage, "1.2.3"
    index.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    index.FileSetID, index.DirectoryRecordSequence = "CD", [Dataset() for _ in names]
    for record, name in zip(index.DirectoryRecordSequence, names, strict=True):
        record.DirectoryRecordType, record.ReferencedFileID = "IMAGE", name
    index.save_as(folder / "DICOMDIR", enforce_file_format=True)
    return folder / "DICOMDIR"


def test_a_dicomdir_stands_for_its_folder(tmp_path):
    """The index of a medium is taken for its folder; a slice for itself."""
    paths = write_ct(tmp_path / "in", random_stored((2, 8, 6)))
    write_dicomdir(tmp_path / "in", [])
    assert folder_of_medium(tmp_path / "in" / "DICOMDIR") == tmp_path / "in"
    assert find_series(folder_of_medium(tmp_path / "in" / "DICOMDIR")).slices == 2
    assert folder_of_medium(paths[0]) == paths[0]
    assert folder_of_medium(tmp_path) == tmp_path


def test_images_that_a_dicomdir_names_are_missed(tmp_path):
    """Those that are gone are named, however the file system writes the others; of an index without images none is missing."""
    root = tmp_path / "in"
    slices = write_ct(root / "ct", random_stored((3, 8, 6)))
    paths = [path.rename(path.with_name(name)) for path, name in zip(slices, ["IM1", "im2", "IM3.;1"], strict=True)]
    index = write_dicomdir(root, [["CT", "IM1"], ["CT", "IM2"], ["CT", "IM3"], "DICOMDIR"])
    assert missing_from_medium(index) == []
    paths[1].unlink()
    (refusal,) = missing_from_medium(index)
    assert (refusal.reason, refusal.found) == ("missing_files", "1 of 4 images that DICOMDIR names are missing")
    assert refusal.paths == (root / "CT" / "IM2",)
    assert missing_from_medium(paths[0]) == missing_from_medium(root) == missing_from_medium(write_dicomdir(root, [])) == []
    assert find_series(root).slices == 2


def test_the_output_of_a_medium_lies_beside_it(tmp_path):
    """What DICOMDIR names and is gone makes exit code 2 and is named; the medium stays as it was."""
    write_ct(tmp_path / "CD" / "IMAGES", random_stored((2, 64, 64)) // 16 + 1000)
    index = write_dicomdir(tmp_path / "CD", [])
    before = sorted((tmp_path / "CD").rglob("*"))
    save_filter(tmp_path / "model")
    assert run("reconstruct", index, f"--model={tmp_path / 'model'}").returncode == 0
    assert (tmp_path / "CD_standardized" / "report.html").is_file()
    write_dicomdir(tmp_path / "CD", [["IMAGES", "LOST"]])
    again = run("reconstruct", index, f"--model={tmp_path / 'model'}")
    assert (again.returncode, again.stdout.count("missing_files: 1 of 1 images")) == (2, 1)
    assert sorted((tmp_path / "CD").rglob("*")) == before
