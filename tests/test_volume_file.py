"""Volumes on disk."""

import os
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from synthesizers import Scripted, scripted_model
from synthetic import random_stored, write_ct

from stan_ct.dicom.find import find_series
from stan_ct.dicom.series import load_series
from stan_ct.volume_file import VolumeFile, take, zeros, zeros_like


@pytest.mark.parametrize("dtype", [np.float32, bool])
def test_what_is_written_is_read_back_by_any_number_of_threads(tmp_path, dtype):
    """Every slice, as it was written; one that was not is 0."""
    values = (np.random.default_rng(0).normal(size=(20, 30, 41)) > 0).astype(dtype)
    volume = VolumeFile(values.shape, dtype, tmp_path)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda z: volume.__setitem__(z, values[z]), range(19)))
        found = list(pool.map(volume.__getitem__, range(20)))
    np.testing.assert_array_equal(found[:19], values[:19])
    assert not found[19].any()
    np.testing.assert_array_equal(list(volume), found)
    assert found[0].dtype == volume.dtype


def test_a_slice_of_a_volume_on_disk_is_a_copy(tmp_path):
    """What is done to it stays in memory until it is assigned."""
    volume = VolumeFile((2, 3, 4), np.float32, tmp_path)
    image = volume[1]
    image[:] = 7
    assert not volume[1].any()
    volume[1] = image
    assert volume[1].tolist() == image.tolist()
    with pytest.raises(ValueError, match=r"a slice of this volume is \(3, 4\), not \(4, 3\)"):
        volume[0] = image.T


def test_a_volume_on_disk_leaves_nothing_behind(tmp_path):
    """Its file has no name."""
    volume = VolumeFile((2, 3, 4), np.float32, tmp_path)
    volume[0] = np.ones((3, 4), np.float32)
    assert os.listdir(tmp_path) == []


def test_some_slices_and_another_volume_like_it(tmp_path):
    """In memory or on disk alike."""
    for folder in (None, tmp_path):
        volume = zeros((4, 2, 2), np.float32, folder)
        for z in range(4):
            volume[z] = np.full((2, 2), z, np.float32)
        some = take(take(volume, [0, 1, 3]), [1, 2])
        assert ([float(image[0, 0]) for image in some], some.shape) == ([1.0, 3.0], (2, 2, 2))
        other = zeros_like(volume)
        assert (type(other), other.shape, other.dtype) == (type(volume), volume.shape, volume.dtype)
        assert not other[3].any()


def test_a_series_on_disk_is_the_one_in_memory(tmp_path):
    """Volume, padding, and what a model makes of them and writes, also where a slice is refused."""
    paths = write_ct(tmp_path / "in", random_stored((5, 16, 12)), edit=lambda ds, z: setattr(ds, "PixelPaddingValue", 7))
    paths[2].write_bytes(paths[2].read_bytes()[:-9])
    (tmp_path / "kept").mkdir()
    files = find_series(tmp_path / "in").series[0]
    made = []
    for name, folder in (("memory", None), ("disk", tmp_path / "kept")):
        series = load_series(files, folder=folder)
        result = scripted_model(Scripted(3.0)).standardize(series)
        result.write(tmp_path / name, 7, datetime(2020, 1, 1, tzinfo=UTC))
        made.append((series, result))
    (memory, one), (disk, other) = made
    assert isinstance(disk.volume, VolumeFile)
    for a, b in ((memory.volume, disk.volume), (memory.padding, disk.padding), (one.volume, other.volume)):
        np.testing.assert_array_equal(a, list(b))
    assert one.findings == other.findings
    for path in (tmp_path / "memory").iterdir():
        assert path.read_bytes() == (tmp_path / "disk" / path.name).read_bytes()


class Forgetful(Scripted):
    """Keeps no patches."""

    def __call__(self, patches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Gives them back."""
        made = super().__call__(patches)
        self.seen.clear()
        return made


def test_memory_does_not_grow_with_the_slices_of_a_series_on_disk(tmp_path):
    """30 slices more take a tenth of what their source, its padding and their output would take in memory, headers included."""
    (tmp_path / "kept").mkdir()
    peaks = []
    write_ct(tmp_path / "in", random_stored((46, 192, 192)))
    files = find_series(tmp_path / "in").series[0]
    for number in (16, 16, 46):
        few = replace(files, instances=files.instances[:number])
        tracemalloc.start()
        result = scripted_model(Forgetful()).standardize(load_series(few, folder=tmp_path / "kept"))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(result.slices) == number
    assert peaks[2] - peaks[1] < 0.2 * 30 * 192 * 192 * (4 + 1 + 4)
