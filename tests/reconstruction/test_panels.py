"""The images of the report show what they say, and residuals are not computed twice."""

import doctest

import cv2
import numpy as np
import pytest

from stan_ct.ct.filters import RadialFilter
from stan_ct.ct.source_slice import SourceSlice
from stan_ct.reconstruction import panels as module
from stan_ct.reconstruction.panels import COLOURS, NOT_JUDGED, file_name, in_colours, panels, shown_slices
from stan_ct.reconstruction.throttle import Throttle


class Files:
    """What `panels` asks of the files of a series."""

    name, pixel_spacing = "3-Chest", (0.7, 0.7)


class Instance:
    """A slice at a location, mm."""

    def __init__(self, location):
        self.location = location


class SeriesOf:
    """A series of a volume without padding."""

    def __init__(self, volume):
        self.volume, self.padding, self.files = volume, np.zeros(volume.shape, bool), Files()
        self.instances = [Instance(-2.5 * z) for z in range(len(volume))]

    def slice(self, z):
        """One of its slices."""
        return SourceSlice(self.volume[z], self.padding[z], self.files.pixel_spacing)


FLAT = RadialFilter(np.array([0.0, 1.0]), np.array([1.0, 1.0]))


def tiles(panel):
    """The six images of a panel, (6, H, W, 3), red, green, blue."""
    image = cv2.imdecode(np.frombuffer(panel.jpeg, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(int)
    (height, width), rows = panel.shape, image.shape[0] // panel.shape[0]
    return image.reshape(rows, height, 2, width, 3).swapaxes(1, 2).reshape(-1, height, width, 3)


def test_slices_are_spread_over_the_series():
    """Three of many, fewer of few."""
    assert [shown_slices(n) for n in (1, 2, 4, 100)] == [[0], [0, 1], [1, 2, 3], [25, 50, 75]]


def test_a_panel_shows_both_windows_the_difference_and_what_is_not_explained():
    """Gray levels by the windows, blue where the output is darker, gray where nothing is judged."""
    source = np.full((1, 32, 48), -600, np.float32)
    rest = np.zeros((32, 48))
    rest[:, 24:] = 60
    judged = np.ones((32, 48), bool)
    judged[:16] = False
    (panel,) = panels(SeriesOf(source), source - 300, FLAT, {0: (rest, judged)})
    assert (panel.caption, panel.file, panel.shape) == ("Slice 1 of 1, 0 mm", "report_files/3-Chest_0001.jpg", (32, 48))
    images = tiles(panel)
    assert [np.ptp(image, axis=(0, 1)).max() <= 3 for image in images[:5]] == [True] * 5
    assert [image[0, 0].tolist() for image in images[:4]] == [[128] * 3, [76] * 3, [0] * 3, [0] * 3]
    np.testing.assert_allclose(images[4][0, 0], COLOURS[0], atol=3)
    np.testing.assert_allclose(images[5][4, 4], NOT_JUDGED, atol=3)
    np.testing.assert_allclose(images[5][28, 4], COLOURS[2], atol=3)
    np.testing.assert_allclose(images[5][28, 44], COLOURS[-1], atol=3)


def test_residuals_that_are_there_are_not_computed_again(monkeypatch):
    """One that is missing is."""
    computed = []

    def residual(source, *others):
        computed.append(source.hu[0, 0])
        return np.zeros(source.hu.shape), np.ones(source.hu.shape, bool)

    monkeypatch.setattr(module, "residual", residual)
    volume = np.arange(4, dtype=np.float32)[:, None, None] * np.ones((1, 8, 8), np.float32)
    known = {z: (np.zeros((8, 8)), np.ones((8, 8), bool)) for z in (1, 3)}
    panels(SeriesOf(volume), volume, FLAT, known)
    assert computed == [2]


@pytest.mark.parametrize(("hu", "colour"), [(-60, 0), (-61, 0), (-30, 1), (0, 2), (30, 3), (60, 4), (1000, 4)])
def test_colours_of_differences(hu, colour):
    """Blue below, white at zero, red above; beyond the limit as at the limit."""
    assert in_colours(np.array([[float(hu)]]), 60.0).tolist() == [[list(COLOURS[colour])]]


def test_file_names_are_safe_and_different():
    """What a folder of the output is called, as it is where it is safe."""
    assert file_name("3-Chest_1.5") == "3-Chest_1.5"
    names = [file_name(name) for name in ("../etc", "/etc", "a b", "a/b", "a&b", "é", "..")]
    assert len(set(names)) == len(names)
    assert [name for name in names if set(name) & set("/\\ &<>\"'") or name.startswith(".")] == []


def test_a_throttle_lets_through_once_per_interval():
    """Just before its end not yet, at its end again; what is held back does not start another."""
    now = [100.0]
    throttle = Throttle(1.0, lambda: now[0])
    due = []
    for now[0] in (100.0, 100.0, 100.99, 101.0, 101.99, 102.5, 103.0, 103.5):
        due.append(throttle.due())
    assert due == [True, False, False, True, False, True, False, True]


def test_docstrings():
    """The example holds."""
    result = doctest.testmod(module, extraglobs={"np": np})
    assert (result.failed, result.attempted) == (0, 1)
