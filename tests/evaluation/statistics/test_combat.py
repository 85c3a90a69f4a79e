"""ComBat takes location and scale of a protocol away, and says so where it is not installed."""

import sys

import numpy as np
import pytest

from stan_ct.evaluation.statistics.agreement import concordance
from stan_ct.evaluation.statistics.combat import NoCombat, combat

RNG = np.random.default_rng(0)
TRUE = RNG.normal(size=(60, 6)) * [1, 2, 3, 4, 5, 6] + 10
SOURCE = 3 * TRUE + [5, -4, 3, -2, 1, 0] + RNG.normal(0, 0.05, TRUE.shape)


def test_location_and_scale_of_the_protocols_become_one():
    """Features three times as large and shifted agree after it: means and spreads are equal, concordance goes to 1."""
    pytest.importorskip("neuroCombat")
    source, target = combat(SOURCE, TRUE)
    np.testing.assert_allclose(source.mean(axis=0), target.mean(axis=0), atol=0.05 * TRUE.std())
    np.testing.assert_allclose(source.std(axis=0), target.std(axis=0), rtol=0.06)
    np.testing.assert_allclose((source + target).mean(axis=0), (SOURCE + TRUE).mean(axis=0), rtol=0.01)
    assert concordance(SOURCE, TRUE).max() < 0.6
    assert concordance(source, target).min() > 0.99


def test_features_that_do_not_vary_or_are_undefined_come_back_as_they_are():
    """A constant one and one with a NaN do not spoil the others."""
    pytest.importorskip("neuroCombat")
    x, y = SOURCE.copy(), TRUE.copy()
    x[:, 0], y[3, 1] = 7.0, np.nan
    source, target = combat(x, y)
    np.testing.assert_array_equal(source[:, :2], x[:, :2])
    np.testing.assert_array_equal(target[:, :2], y[:, :2])
    assert concordance(source[:, 2:], target[:, 2:]).min() > 0.99


def test_it_keeps_quiet(capfd):
    """What neuroCombat tells of its steps is not printed."""
    pytest.importorskip("neuroCombat")
    combat(SOURCE, TRUE)
    assert capfd.readouterr().out == ""


def test_without_the_package_it_says_how_to_install_it(monkeypatch):
    """The extra by its name, as an ImportError that a table can turn into a note."""
    monkeypatch.setitem(sys.modules, "neuroCombat", None)
    with pytest.raises(NoCombat, match=r"pip install 'stan-ct\[combat\]'"):
        combat(SOURCE, TRUE)
