"""Distances of two groups: formulas, published intervals, and what chance does."""

import numpy as np
import pytest
from scipy import stats

from stan_ct.evaluation.statistics.distance import adjusted, by_chance, cohens_d, d_interval, dealt, ks, median_distance


def test_d_is_the_t_statistic_by_sizes():
    """t = d sqrt(m n / (m + n)), for SciPy's t; constant features and groups of one are undefined."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(7, 4)), rng.normal(1, 2, size=(12, 4))
    expected = stats.ttest_ind(y, x).statistic / np.sqrt(7 * 12 / 19)
    np.testing.assert_allclose(cohens_d(x, y), expected)
    x[:, 0] = y[:, 0] = 3.3
    assert np.isnan(cohens_d(x, y)).tolist() == [True, False, False, False]
    assert np.isnan(cohens_d(x[:1], y)).all()


def test_intervals_are_those_of_the_noncentral_t():
    """At the ends, the observed t has probability .975 and .025; reversed groups reverse the interval."""
    interval = d_interval(0.8, 15, 20)
    root = np.sqrt(15 * 20 / 35)
    probabilities = [stats.nct.cdf(0.8 * root, 33, end * root) for end in (interval.low, interval.high)]
    np.testing.assert_allclose(probabilities, [0.975, 0.025], rtol=1e-6)
    mirrored = d_interval(-0.8, 15, 20)
    assert (mirrored.low, mirrored.high) == (pytest.approx(-interval.high), pytest.approx(-interval.low))
    assert d_interval(9.0, 4, 4).low > 2  # far out, where SciPy's distribution gives up
    assert d_interval(np.nan, 4, 4).reason


def test_the_interval_covers_the_truth_as_often_as_it_says():
    """Of 400 draws with a true d of 1, about 95 % of the intervals hold it."""
    rng = np.random.default_rng(1)
    d = cohens_d(rng.normal(0, 1, (6, 400)), rng.normal(1, 1, (6, 400)))
    intervals = [d_interval(float(each), 6, 6) for each in d]
    assert 0.92 <= np.mean([i.low <= 1 <= i.high for i in intervals]) <= 0.98


def test_ks_is_scipy_s():
    """Statistic and adjusted p; a NaN makes its feature undefined alone."""
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(20, 3)), rng.normal([0, 1, 3], 1, size=(25, 3))
    distance, q = ks(x, y)
    expected = [stats.ks_2samp(a, b) for a, b in zip(x.T, y.T, strict=True)]
    np.testing.assert_allclose(distance, [e.statistic for e in expected])
    np.testing.assert_allclose(q, stats.false_discovery_control([e.pvalue for e in expected]))
    x[0, 1] = np.nan
    assert np.isnan(ks(x, y)[0]).tolist() == [False, True, False]
    assert np.isnan(adjusted(np.array([np.nan, np.nan]))).all()


def test_chance_is_what_random_groups_give():
    """Groups of one population lie as far apart as by chance; a shift does not, and p says so."""
    rng = np.random.default_rng(3)
    values, second, patients = rng.normal(size=(40, 15)), np.repeat([False, True], 20), np.arange(40)
    nothing = by_chance(lambda s: median_distance(values, s), second, patients, 200)
    assert nothing.p > 0.05
    assert nothing.found == pytest.approx(nothing.expected, abs=0.15)
    shifted = by_chance(lambda s: median_distance(values + 1.5 * second[:, None], s), second, patients, 200)
    assert (shifted.p, shifted.found > 1) == (pytest.approx(1 / 201), True)


def test_patients_at_both_sites_change_places_together():
    """Each deal keeps the sizes, and one row of such a patient at either site."""
    second, patients = np.array([0, 0, 0, 1, 1, 1, 1], bool), np.array([1, 2, 3, 1, 2, 4, 5])
    rng, seen = np.random.default_rng(4), set()
    for _ in range(60):
        found = dealt(second, patients, rng)
        assert found.sum() == 4
        assert all(found[patients == p].sum() == 1 for p in (1, 2))
        seen.add(tuple(found.tolist()))
    assert len(seen) == 2 * 2 * 3
