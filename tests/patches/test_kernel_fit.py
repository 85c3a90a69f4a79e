"""A kernel fitted to a pair of series: when the fit is taken, and when its numbers are extrapolated."""

from dataclasses import replace

import numpy as np
import pytest

from stan_ct.ct.filters import RadialFilter
from stan_ct.ct.kernels import KERNELS, read_kernels, write_kernels
from stan_ct.patches.kernel_fit import WORST_FIT, KernelFit

FREQUENCY = np.linspace(0, 7, 96)
KNOWN, OTHER = KERNELS["BL64"], KERNELS["BR40"]
RATIO = OTHER.mtf(FREQUENCY) / KNOWN.mtf(FREQUENCY)


def fit(gain):
    """BR40 as the fit of a measured ratio."""
    return KernelFit(OTHER, KNOWN, RadialFilter(tuple(FREQUENCY.tolist()), tuple(gain.tolist())), 3)


def test_a_ratio_that_is_met():
    """The ratio of the two curves leaves no error; one that lies 0.05 beside it everywhere an error of 0.05."""
    assert fit(RATIO).error == pytest.approx(0, abs=1e-12)
    assert fit(RATIO + 0.05).error == pytest.approx(0.05)


def test_the_last_fifth_does_not_count():
    """There the ratio is aliased: whatever was measured, the error stays 0."""
    assert fit(np.where(FREQUENCY > 0.8 * 7, RATIO + 0.2, RATIO)).error == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("factor", "acceptable"), [(0.99, True), (1.01, False)])
def test_limit_of_the_error(factor, acceptable):
    """An error 1 % below a tenth of the highest ratio is acceptable, one 1 % above it is not."""
    offset = WORST_FIT * factor / (1 - WORST_FIT * factor)  # of a ratio whose highest value is 1 + offset
    assert max(RATIO) == pytest.approx(1)
    assert fit(RATIO + offset).acceptable is acceptable
    assert WORST_FIT == 0.1


@pytest.mark.parametrize(("f50", "extrapolated"), [(6.99, False), (7.01, True)])
def test_beyond_nyquist(f50, extrapolated):
    """An f50 beyond the last frequency of the series, 7 lp/cm, is extrapolated."""
    assert replace(fit(RATIO), kernel=replace(OTHER, f50=f50, f10=1.4 * f50)).extrapolated is extrapolated


def test_kernels_there_and_back(tmp_path):
    """What is written is read again, number for number."""
    write_kernels(tmp_path / "kernels.json", KERNELS)
    assert read_kernels(tmp_path / "kernels.json") == KERNELS
    assert [path.name for path in tmp_path.iterdir()] == ["kernels.json"]
