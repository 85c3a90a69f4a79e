"""Arrays on disk: what was saved comes back, and whatever else a file holds is named, and never executed."""

import io
import pickle
import zipfile

import numpy as np
import pytest

from stan_ct.arrays import DamagedArrays, read_arrays

ARRAYS = {
    "a": np.arange(6, dtype=np.float16).reshape(2, 3),
    "b": np.asfortranarray(np.arange(6.0).reshape(3, 2)),
    "c": np.array(7),
    "d": np.zeros((0, 4), np.float32),
    "e": np.array([True, False]),
}


@pytest.fixture
def path(tmp_path):
    np.savez(tmp_path / "arrays.npz", **ARRAYS)
    return tmp_path / "arrays.npz"


def refused(path, match):
    with pytest.raises(DamagedArrays, match=match) as error:
        read_arrays(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_round_trip(path):
    """Values, shapes and types of all arrays."""
    found = read_arrays(path)
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
        assert found[name].flags.writeable


def test_every_flipped_bit_is_seen_or_harmless(path):
    """A bit that is flipped anywhere is refused, or an array is missing, or it was in a date: no value ever changes."""
    data = path.read_bytes()
    seen = 0
    for position in range(len(data)):
        path.write_bytes(data[:position] + bytes([data[position] ^ 4]) + data[position + 1 :])
        try:
            found = read_arrays(path)
        except DamagedArrays:
            seen += 1
        else:
            assert all(np.array_equal(found[name], ARRAYS[name]) for name in found)
    assert seen > 0.7 * len(data)


@pytest.mark.parametrize("kept", [0, 1, 30, 200, -1])
def test_truncated(path, kept):
    """An empty file, and one that ends early wherever it does."""
    path.write_bytes(path.read_bytes()[:kept])
    refused(path, "is not a whole archive of numbers: ")


def test_no_file(tmp_path):
    """A missing file is an error of its own."""
    with pytest.raises(FileNotFoundError):
        read_arrays(tmp_path / "none.npz")


def member(content):
    """An archive with one member."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.npy", content)
    return file.getvalue()


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return open, (str(self.trace), "w")


def test_a_pickle_is_never_loaded(tmp_path):
    """Objects inside an array, in place of an array, or in place of the archive: refused, and not executed."""
    trace, path = tmp_path / "executed", tmp_path / "arrays.npz"
    pickled = pickle.dumps(Bomb(trace))
    np.savez(path, a=np.array([Bomb(trace)], object))
    refused(path, "type object, expected numbers")
    for content in (member(pickled), pickled):
        path.write_bytes(content)
        refused(path, "is not a whole archive of numbers")
    assert not trace.exists()


def header(text):
    """An `.npy` file with this header and no values."""
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    "content",
    [
        member(header("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }\n")),
        member(header("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 0), }\n")),
        member(header("{'descr': '<U5', 'fortran_order': False, 'shape': (0,), }\n")),
        member(header("__import__('os').getcwd()\n")),
        member(header("(" * 5000)),
        member(b"\x93NUMPY\x09\x00"),
        member(b""),
    ],
    ids=["huge", "negative", "text", "code", "nested", "version", "empty"],
)
def test_odd_headers(tmp_path, content):
    """A header that asks for more than there is, or for anything but numbers, is refused before memory is taken."""
    (tmp_path / "arrays.npz").write_bytes(content)
    refused(tmp_path / "arrays.npz", "is not a whole archive of numbers")


def test_compressed_archives_are_refused(tmp_path):
    """They may unpack to any size."""
    np.savez_compressed(tmp_path / "arrays.npz", a=np.zeros(10**6))
    refused(tmp_path / "arrays.npz", r"it is compressed, expected the format of numpy\.savez")


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_two_arrays_of_one_name(tmp_path):
    """Which of them would count is not known."""
    with zipfile.ZipFile(tmp_path / "arrays.npz", "w") as archive:
        for _ in range(2):
            archive.writestr("a.npy", b"")
    refused(tmp_path / "arrays.npz", "two arrays have one name")
