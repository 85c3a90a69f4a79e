"""HU, spectrum and tissues of validation patches, on images where they are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from stan_ct.training import quality
from stan_ct.training.quality import MIN_TISSUE, QUALITY, Quality

RNG = np.random.default_rng(1)
TARGET = np.stack([RNG.normal(level, 20, (256, 256)) for level in (60, -90, -750)])
"""Soft tissue, fat and lung."""


def test_the_target_is_perfect():
    """Nothing is wrong with it."""
    assert Quality(TARGET)(TARGET) == dict.fromkeys(QUALITY, 0.0)


def test_bias_is_that_of_the_worst_tissue():
    """+2 HU in fat, -5 HU in lung: 5 HU, and an RMSE of sqrt((0 + 4 + 25) / 3); the spectrum does not see it."""
    output = TARGET + np.array([0, 2, -5])[:, None, None]
    found = Quality(TARGET)(output)
    assert found["tissue_bias"] == pytest.approx(5, abs=1e-6)
    assert found["hu_rmse"] == pytest.approx(np.sqrt(29 / 3))
    assert found["spectrum_error"] == pytest.approx(0, abs=1e-6)


def test_spectrum_error_by_hand():
    """1.1 times the detail has 1.21 times its power in every band: .21; blurred by 1 px, most of it is gone."""
    mean = TARGET.mean((1, 2), keepdims=True)
    assert Quality(TARGET)(mean + 1.1 * (TARGET - mean))["spectrum_error"] == pytest.approx(0.21, abs=0.002)
    assert Quality(TARGET)(ndimage.gaussian_filter(TARGET, (0, 1, 1)))["spectrum_error"] > 0.7


@pytest.mark.parametrize(("least", "bias"), [(65_536, 3.0), (65_537, 0.0)])
def test_a_rare_tissue_does_not_count(monkeypatch, least, bias):
    """A patch of soft tissue, 65,536 pixels, counts where so many are asked for, and not where one more is."""
    assert MIN_TISSUE == 1000
    monkeypatch.setattr(quality, "MIN_TISSUE", least)
    target = np.full((1, 256, 256), 60.0)
    assert Quality(target)(target + 3)["tissue_bias"] == bias
