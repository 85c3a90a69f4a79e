"""`compare`: the paper's errors, concordance and differences in HU of two images against the target."""

import doctest
import math

import numpy as np
import pytest

from stan_ct.evaluation import comparison as module
from stan_ct.evaluation.comparison import compare
from stan_ct.features.glcm import FEATURES, Discretization, features

RNG = np.random.default_rng(0)
TARGET = RNG.normal(50, 60, (5, 20, 24)) * np.linspace(0.5, 1.5, 5)[:, None, None]
SOURCE, SYNTHESIZED = TARGET * 0.5, TARGET * 0.9 + 4


def phi(volume):
    return np.array([features(hu, Discretization.fixed_number()) for hu in volume])


def test_errors_are_eq_8_of_every_slice():
    """Their mean over the slices; of the target itself they are 0."""
    found = compare(SOURCE, SYNTHESIZED, TARGET)
    for hu, agreement in ((SOURCE, found.source), (SYNTHESIZED, found.synthesized)):
        expected = (np.abs(phi(hu) - phi(TARGET)) / np.abs(phi(TARGET))).mean(axis=0)
        np.testing.assert_allclose([agreement.texture_errors[name] for name in FEATURES], expected, rtol=1e-9)
        assert agreement.hu.rmse == pytest.approx(np.sqrt(np.square(hu - TARGET).mean()))
        assert agreement.hu.bias == pytest.approx((hu - TARGET).mean())
    itself = compare(SOURCE, TARGET, TARGET).synthesized
    assert set(itself.texture_errors.values()) == {0.0}
    assert list(itself.concordance.values()) == [1.0] * 5
    assert (itself.hu.mae, itself.hu.rmse, itself.hu.bias, itself.hu.pixels) == (0, 0, 0, TARGET.size)


def test_concordance_is_lin_s_over_the_slices():
    """2 cov / (var + var + shift^2) of a feature's values."""
    x, y = phi(SOURCE)[:, 1], phi(TARGET)[:, 1]
    expected = 2 * np.cov(x, y, ddof=0)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)
    assert compare(SOURCE, SYNTHESIZED, TARGET).source.concordance["contrast"] == pytest.approx(expected)


@pytest.mark.parametrize(("slices", "defined"), [(3, True), (2, False)])
def test_few_slices_have_no_concordance(slices, defined):
    """Of two slices it would be chance; their errors stand."""
    found = compare(SOURCE[:slices], SYNTHESIZED[:slices], TARGET[:slices]).source
    assert [math.isnan(value) for value in found.concordance.values()] == [not defined] * 5
    assert found.texture_errors["contrast"] > 0


def test_only_pixels_of_the_mask_count():
    """Texture and HU: what lies outside is not looked at."""
    mask = np.zeros(TARGET.shape, bool)
    mask[:, 2:14, 3:18] = True
    spoiled = np.where(mask, SYNTHESIZED, 3000)
    inside = np.s_[:, 2:14, 3:18]
    assert compare(SOURCE, spoiled, TARGET, mask=mask) == compare(SOURCE[inside], SYNTHESIZED[inside], TARGET[inside])


def test_a_slice_is_enough_and_a_flat_target_slice_is_left_out():
    """Of a single slice; and of slices of which one has no contrast in the target, the others."""
    one = compare(SOURCE[0], SYNTHESIZED[0], TARGET[0])
    assert one.source.texture_errors["contrast"] == pytest.approx(
        abs(phi(SOURCE[:1])[0, 1] - phi(TARGET[:1])[0, 1]) / phi(TARGET[:1])[0, 1]
    )
    flat = np.concatenate([np.zeros((1, 20, 24)), TARGET])
    more = compare(np.concatenate([SOURCE[:1], SOURCE]), flat, flat)
    assert more.source.texture_errors["contrast"] == compare(SOURCE, TARGET, TARGET).source.texture_errors["contrast"]


def test_shapes_must_agree():
    """Named, with what came."""
    with pytest.raises(ValueError, match=r"of one shape, got \{'source': \(5, 20, 24\), 'synthesized': \(4, 20, 24\)"):
        compare(SOURCE, SYNTHESIZED[:4], TARGET)
    with pytest.raises(ValueError, match="'mask': "):
        compare(SOURCE, SYNTHESIZED, TARGET, mask=np.ones((20, 24), bool))


def test_examples_in_the_docstrings():
    """They are true."""
    assert doctest.testmod(module).attempted > 0
    assert doctest.testmod(module).failed == 0
