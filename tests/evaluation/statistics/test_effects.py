"""Ranks within sites, and effects of covariates that a difference of sites can neither feign nor hide."""

import numpy as np
import pytest
from scipy import stats

from stan_ct.evaluation.statistics.effects import (
    effect_p,
    median_stability,
    pooled_effect,
    rank_stability,
    rho_interval,
    within_site_effect,
)

RNG = np.random.default_rng(0)
SITES = np.repeat(["A", "B"], [30, 20])
AGE = RNG.normal(60, 10, 50)


def test_with_one_site_it_is_spearman_s():
    """As SciPy has it, ties included."""
    values, one = np.round(RNG.normal(size=(50, 3)), 1), np.zeros(50)
    expected = [stats.spearmanr(column, AGE).statistic for column in values.T]
    np.testing.assert_allclose(within_site_effect(values, AGE, one), expected, atol=1e-12)
    np.testing.assert_allclose(pooled_effect(values, AGE), expected, atol=1e-12)
    np.testing.assert_allclose(rank_stability(values, values[:, [1, 2, 0]])[0], stats.spearmanr(*values[:, :2].T).statistic)


def test_a_difference_of_sites_feigns_no_effect_and_hides_none():
    """A feature that differs by site and a covariate that does: pooled they go together, within sites they do not."""
    older = AGE + 40 * (SITES == "B")
    noise, shift = RNG.normal(size=(50, 1)), 50 * (SITES == "B")[:, None]
    assert pooled_effect(noise + shift, older)[0] > 0.6
    assert abs(within_site_effect(noise + shift, older, SITES)[0]) < 0.35
    true = 0.1 * AGE[:, None] + 0.1 * noise
    assert within_site_effect(true - shift, AGE, SITES)[0] == pytest.approx(within_site_effect(true, AGE, SITES)[0])
    assert within_site_effect(true - shift, AGE, SITES)[0] > 0.9
    assert pooled_effect(true - shift, AGE)[0] < 0.7


def test_p_is_uniform_without_an_effect():
    """5 % of 2000 features that have nothing to do with age have p < .05; degrees of freedom count the sites."""
    p = effect_p(within_site_effect(RNG.normal(size=(50, 2000)), AGE, SITES), 50, 2)
    assert np.mean(p < 0.05) == pytest.approx(0.05, abs=0.015)
    assert effect_p(np.array([1.0]), 50, 2)[0] == 0
    assert np.isnan(effect_p(np.array([0.5]), 3, 2)).all()


def test_ranks_are_stable_under_any_rising_map_and_not_under_noise():
    """Median 1, and an interval that begins a little below; noise of the features' own spread takes it far below .95."""
    values = RNG.normal(size=(20, 9))
    median, interval = median_stability(values, np.exp(values) * 5)
    assert (median, interval.high) == (pytest.approx(1), pytest.approx(1))
    assert 0.99 < interval.low < 1
    median, interval = median_stability(values, values + RNG.normal(size=(20, 9)))
    assert 0.4 < median < 0.9
    assert interval.low < median < interval.high < 0.95


@pytest.mark.parametrize("n", [8, 25])
def test_the_interval_of_rho_covers_the_truth(n):
    """95 % of cohorts of normal features with rho = .9, each with an interval of its own; 300 of them."""
    rng, r = np.random.default_rng(5), 2 * np.sin(np.pi * 0.9 / 6)  # Pearson's r of normal variables with this rho
    before = rng.normal(size=(n, 300))
    after = r * before + np.sqrt(1 - r**2) * rng.normal(size=(n, 300))
    intervals = [rho_interval(float(rho), n) for rho in rank_stability(before, after)]
    assert np.mean([interval.low <= 0.9 <= interval.high for interval in intervals]) == pytest.approx(0.95, abs=0.04)


def test_few_patients_in_the_same_order_have_a_wide_interval():
    """Of four, even where none changed places; of more it narrows."""
    lows = [rho_interval(1.0, n).low for n in (4, 8, 25)]
    assert lows == sorted(lows)
    assert (lows[0] < 0, 0.8 < lows[1] < 0.99, lows[2] > 0.99) == (True, True, True)


def test_three_patients_have_no_ranks_to_speak_of():
    """It says how many are needed; a constant feature is undefined."""
    median, interval = median_stability(np.eye(3), np.eye(3))
    assert np.isnan(median)
    assert interval.reason == "3 patients, 4 needed for ranks"
    assert np.isnan(rank_stability(np.ones((5, 1)), RNG.normal(size=(5, 1)))[0])
