"""A display window is what a workstation shows."""

import doctest

import numpy as np
import pytest

from stan_ct.ct import display_windows
from stan_ct.ct.display_windows import BONE_WINDOW, DISPLAY_WINDOWS, LUNG_WINDOW, SOFT_TISSUE_WINDOW, kernel_window


def test_windows_are_the_usual_ones():
    """Centre and width of lung, soft tissue and bone, and the HU that are black and white."""
    assert list(DISPLAY_WINDOWS.values()) == [(-600, 1500), (40, 400), (400, 1800)]
    assert (LUNG_WINDOW.low, LUNG_WINDOW.high) == (-1350, 150)
    assert (SOFT_TISSUE_WINDOW.low, SOFT_TISSUE_WINDOW.high) == (-160, 240)
    assert (BONE_WINDOW.low, BONE_WINDOW.high) == (-500, 1300)


def test_black_and_white_begin_at_the_ends_of_the_window():
    """One gray level is 400 / 255 HU: half a level inside each end is not yet black or white, less is."""
    step = 400 / 255
    assert SOFT_TISSUE_WINDOW.to_gray(np.array([-160 + 0.49 * step, -160 + 0.51 * step])).tolist() == [0, 1]
    assert SOFT_TISSUE_WINDOW.to_gray(np.array([240 - 0.51 * step, 240 - 0.49 * step])).tolist() == [254, 255]


@pytest.mark.parametrize("kernel", ["BL64", "BL57", "Bl64d/3", " bl64 ", "FC51", "lung", "LUNG"])
def test_lung_kernels_open_in_a_lung_window(kernel):
    """Whatever the case, with the suffixes of Siemens."""
    assert kernel_window(kernel) == (-600, 1500)


def test_kernel_l_opens_in_the_window_of_its_scanner():
    """As series of Philips' L do."""
    assert kernel_window("L") == (-600, 1600)


@pytest.mark.parametrize("kernel", ["", "B", "BR40", "B31f", "BL", "UB", "LX", "FC13", "FC5", "STANDARD"])
def test_other_kernels_have_no_window_of_their_own(kernel):
    """None is better than a wrong one."""
    assert kernel_window(kernel) is None


def test_docstrings():
    """The examples hold."""
    result = doctest.testmod(display_windows, extraglobs={"np": np})
    assert (result.failed, result.attempted) == (0, 2)
