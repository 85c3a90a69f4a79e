"""Agreement between protocols, against published tables, numbers worked out by hand, and SciPy."""

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from stan_ct.evaluation.statistics import agreement
from stan_ct.evaluation.statistics.agreement import (
    Interval,
    bootstrap_interval,
    cohens_dz,
    concordance,
    icc_agreement,
    reproducible,
    signed_rank_p,
    wilcoxon_fdr,
)

JUDGES = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]).T
"""Shrout & Fleiss 1979, Table 2: four judges of six targets."""

WRIGHT = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
MINI = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]
"""Bland & Altman 1986: peak expiratory flow of 17 people by two meters, l/min."""

COEFFICIENTS = (concordance, icc_agreement, cohens_dz)

# Concordance


def test_concordance_by_hand():
    """Means 3 and 4, variances 2 and 8 (division by n), covariance 4: 2 * 4 / (2 + 8 + 1)."""
    assert concordance([1, 3, 3, 5], [0, 4, 4, 8]) == pytest.approx(8 / 11, rel=1e-14)


def test_concordance_of_published_examples():
    """Keras' documented result, and Bland & Altman's meters, 0.943; Pearson's correlation of these would be higher."""
    of_rows = [concordance([0, 1, 0.5], [0.1, 0.9, 0.5]), concordance([1, 1, 0.2], [1, 0.9, 0.2])]
    assert np.mean(of_rows) == pytest.approx(0.9816320385426076, rel=1e-7)  # float32
    assert concordance(WRIGHT, MINI) == pytest.approx(0.943, abs=5e-4)


def test_concordance_divides_by_n():
    """torchmetrics divides by n - 1 and documents 0.9777; by n it is 0.9768, which is Lin's."""
    x, y = np.array([3, -0.5, 2, 7]), np.array([2.5, 0.0, 2, 8])
    shift = (x.mean() - y.mean()) ** 2
    with_one_less = 2 * np.cov(x, y)[0, 1] / (x.var(ddof=1) + y.var(ddof=1) + shift)
    assert with_one_less == pytest.approx(0.9777, abs=5e-5)
    assert concordance(x, y) == pytest.approx(0.97678916827, rel=1e-10)


numbers = arrays(np.float64, (5, 3), elements=st.integers(-50, 50).map(float), unique=True)


@settings(max_examples=50, deadline=None)
@given(numbers, numbers)
def test_identities_of_concordance(x, y):
    """Symmetric, unchanged by a common change of unit, 1 for equal values, -1 for mirrored ones, within Pearson's r."""
    found = concordance(x, y)
    np.testing.assert_allclose(concordance(y, x), found, rtol=1e-12)
    np.testing.assert_allclose(concordance(3 * x + 7, 3 * y + 7), found, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(concordance(x, x), 1, rtol=1e-14)
    np.testing.assert_allclose(concordance(x, 2 * x.mean(axis=0) - x), -1, rtol=1e-12)
    assert (np.abs(found) <= np.abs([np.corrcoef(a, b)[0, 1] for a, b in zip(x.T, y.T, strict=True)]) + 1e-12).all()


def test_reproducible_share():
    """A concordance of exactly the threshold counts; undefined ones count apart; without any there is no share."""
    found = reproducible(np.array([0.85, 0.849, np.nan, 0.9, -1.0]))
    assert (found.share, found.n, found.undefined) == (0.5, 4, 1)
    assert reproducible(np.array([0.5, 0.4, 0.3, 0.2]), threshold=0.4).share == 0.5
    none = reproducible(np.array([np.nan]))
    assert np.isnan(none.share)
    assert (none.n, none.undefined) == (0, 1)


# Intraclass correlation


def test_shrout_and_fleiss():
    """The published table: ICC(2,1) = .29, from mean squares of 11.24, 32.49 and 1.02."""
    assert icc_agreement(*JUDGES) == pytest.approx(0.29, abs=5e-3)
    assert icc_agreement(*JUDGES) == pytest.approx((11.24 - 1.02) / (11.24 + 3 * 1.02 + 4 * (32.49 - 1.02) / 6), abs=1e-3)


def test_a_shift_lowers_agreement():
    """A protocol shifted by 1: B = 2, J = 1.5, E = 0 give an agreement of 2 / (2 + 2 * 1.5 / 3)."""
    x = np.array([1.0, 2.0, 3.0])
    assert icc_agreement(x, x) == 1
    assert icc_agreement(x, x + 1) == pytest.approx(2 / 3, rel=1e-14)


def test_two_patients_that_change_places():
    """B = J = 0, E = 0.5: agreement has a denominator of 0 + 0.5 + 2 * (0 - 0.5) / 2 = 0."""
    assert np.isnan(icc_agreement([0.0, 1.0], [1.0, 0.0]))
    assert np.isnan(icc_agreement([0.1, 0.7], [0.7, 0.1]))


# Tests and effect sizes


def test_wilcoxon_is_scipys_per_feature():
    """Each feature has SciPy's exact p, whatever the other features are; q is Benjamini and Hochberg's by hand."""
    differences = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    y = np.random.default_rng(0).normal(0, 1e-3, (5, 3))
    x = y + np.stack([differences, differences * [1, 1, 1, 1, -1], differences * [-1, 1, 1, 1, 1]], axis=1)
    found = wilcoxon_fdr(x, y)
    np.testing.assert_allclose(found.p, [2 / 32, 2 * 10 / 32, 2 * 2 / 32], rtol=1e-12)  # of 2^5 patterns of signs
    np.testing.assert_allclose(found.q, [3 * 2 / 32, 20 / 32, 3 / 2 * 4 / 32], rtol=1e-12)
    assert found.p[1] == stats.wilcoxon(x[:, 1], y[:, 1]).pvalue


def test_equal_values_have_p_one():
    """Nothing speaks against equality where all differences are 0; some zeros are dropped (2 of 2^2 patterns)."""
    x = np.array([[1.0, 1.0], [2.0, 3.0], [3.0, 5.0]])
    found = wilcoxon_fdr(x, np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]))
    np.testing.assert_array_equal(found.p, [1.0, 0.5])
    np.testing.assert_array_equal(found.q, [1.0, 1.0])


def test_one_signed_rank_test_is_scipys():
    """Exact without ties, normal with ties, never undefined for zeros alone."""
    for seed in range(5):
        differences = np.random.default_rng(seed).normal(0.5, 1, 12)
        assert signed_rank_p(differences) == stats.wilcoxon(differences, method="exact").pvalue
    ties = np.array([2.0, 1, 1, -1, 0])
    assert signed_rank_p(ties) == stats.wilcoxon(ties).pvalue
    assert signed_rank_p(np.zeros(4)) == 1.0
    assert np.isnan(signed_rank_p(np.array([1.0])))


def test_undefined_features_do_not_count_in_the_adjustment():
    """q of one defined feature beside two undefined ones is its p."""
    x = np.arange(1.0, 16.0).reshape(5, 3)
    x[0, 0], x[4, 2] = np.nan, np.inf
    found = wilcoxon_fdr(x, np.zeros((5, 3)))
    np.testing.assert_allclose(found.p, [np.nan, 2 / 32, np.nan])
    np.testing.assert_allclose(found.q, [np.nan, 2 / 32, np.nan])
    assert np.isnan(wilcoxon_fdr([1.0], [2.0]).p)
    assert np.isnan(wilcoxon_fdr([np.inf, 1.0], [np.inf, 2.0]).q)


def test_cohens_d_by_hand():
    """Differences 1, 2, 3, 6 have mean 3 and variance 14/3."""
    x, y = np.array([1.0, 4.0, 7.0, 12.0]), np.array([0.0, 2.0, 4.0, 6.0])
    assert cohens_dz(x, y) == pytest.approx(3 / np.sqrt(14 / 3), rel=1e-14)
    assert cohens_dz(y, x) == pytest.approx(-3 / np.sqrt(14 / 3), rel=1e-14)
    assert cohens_dz(x, np.zeros(4)) == pytest.approx(stats.ttest_rel(x, np.zeros(4)).statistic / 2, rel=1e-12)  # t / sqrt(n)


# What has no answer


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
@pytest.mark.parametrize(
    ("x", "y"),
    [
        ([], []),
        ([1.0], [2.0]),
        ([1.0, np.nan, 3.0], [1.0, 2.0, 3.0]),
        ([1.0, 2.0, 4.0], [1.0, np.inf, 3.0]),
        ([np.inf, 2.0, 4.0], [np.inf, 1.0, 3.0]),
        ([5.0, 5.0, 5.0], [5.0, 5.0, 5.0]),
        ([0.1, 0.1, 0.1], [0.3, 0.3, 0.3]),
    ],
)
def test_degenerate_features_are_undefined(coefficient, x, y):
    """Too few patients, values that are not finite and constants give NaN without a warning."""
    assert np.isnan(coefficient(x, y))


def test_one_constant_protocol_is_undefined():
    """Where one protocol says the same of all patients nothing can agree, though the formulas would give 0."""
    x, constant = np.array([1.0, 2.0, 3.0]), np.array([0.1, 0.1, np.nextafter(0.1, 1)])
    for coefficient in (concordance, icc_agreement):
        assert np.isnan(coefficient(x, constant))
    assert cohens_dz(x, constant) == pytest.approx(1.9, rel=1e-12)  # the differences vary


@pytest.mark.parametrize(("spread", "defined"), [(1.1e-12, True), (0.9e-12, False)])
def test_a_spread_is_more_than_rounding(spread, defined):
    """A range of 1e-12 of the largest value is rounding, and nothing is left to agree on; more is not."""
    x, y = np.array([1.0, 1.0, 1.0 - spread]), np.array([1.0, 2.0, 3.0])
    assert np.isnan(concordance(x, y)) != defined
    assert np.isnan(icc_agreement(x, y)) != defined


def test_equal_differences_are_undefined_despite_rounding():
    """A shift for all has no spread, however its rounding errors spread, of whatever size beside the values."""
    x = np.array([0.1, 0.7, 1.3, 5.9])
    for shift in (0.1, 1e-14):
        assert np.ptp(x + shift - x) > 0
        assert np.isnan(cohens_dz(x + shift, x))


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
def test_an_undefined_feature_leaves_the_others(coefficient):
    """(n, k) gives (k,): each column as if it were alone."""
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(2, 6, 3))
    x[2, 1] = np.nan
    found = coefficient(x, y)
    assert found.shape == (3,)
    np.testing.assert_allclose(found, [coefficient(x[:, 0], y[:, 0]), np.nan, coefficient(x[:, 2], y[:, 2])], rtol=1e-12)


@pytest.mark.parametrize(("x", "y"), [(np.ones(3), np.ones(4)), (np.ones((2, 2, 2)), np.ones((2, 2, 2))), (1.0, 2.0)])
def test_other_shapes_are_refused(x, y):
    """Arrays of different patients or of a shape without a meaning are refused."""
    for function in (*COEFFICIENTS, wilcoxon_fdr):
        with pytest.raises(ValueError, match="expected \\(patients,\\)"):
            function(x, y)


# Bootstrap over patients


def test_interval_of_two_patients():
    """Means 1 and 4 of three patches and one: draws AA, AB, BB give 1, (3 + 4) / 4, 4 with odds 1 : 2 : 1."""
    values, patients = np.array([1.0, 1.0, 1.0, 4.0]), np.array(["A", "A", "A", "B"])
    assert bootstrap_interval(values, patients) == Interval(1.0, 4.0)
    assert bootstrap_interval(values, patients, confidence=0.4) == Interval(1.75, 1.75)


def test_interval_is_over_patients_not_patches():
    """A hundred copies of each patch change nothing, and the interval is that of SciPy's bootstrap of patients' means."""
    means = np.random.default_rng(1).normal(10, 2, 12)
    found = bootstrap_interval(np.repeat(means, 100), np.repeat(np.arange(12), 100))
    once = bootstrap_interval(means, np.arange(12))
    np.testing.assert_allclose([found.low, found.high], [once.low, once.high], rtol=1e-12)
    oracle = stats.bootstrap((means,), np.mean, method="percentile", rng=np.random.default_rng(2)).confidence_interval
    np.testing.assert_allclose([found.low, found.high], oracle, atol=0.05)


def test_interval_is_repeatable():
    """Equal seeds give equal intervals, others others; the order of patches and the patients' names play no part."""
    rng = np.random.default_rng(4)
    values, patients = rng.normal(size=60), rng.integers(0, 9, 60)
    first = bootstrap_interval(values, patients)
    assert bootstrap_interval(values, patients) == first
    assert bootstrap_interval(values, patients, seed=1) != first
    order = rng.permutation(60)
    again = bootstrap_interval(values[order], np.array([f"P{p}" for p in patients])[order])
    assert (again.low, again.high) == (pytest.approx(first.low, rel=1e-12), pytest.approx(first.high, rel=1e-12))


def test_undefined_patches_are_left_out():
    """NaN patches count neither in sums nor in numbers; a patient with nothing else is none."""
    values, patients = np.array([1.0, np.nan, 4.0, np.nan]), np.array([0, 0, 1, 2])
    assert bootstrap_interval(values, patients, confidence=0.4) == Interval(2.5, 2.5)


@pytest.mark.parametrize(
    ("values", "patients", "reason"),
    [
        ([1.0, 2.0], [7, 7], "patients with a defined value: 1, 2 needed"),
        ([1.0, np.nan], [7, 8], "patients with a defined value: 1, 2 needed"),
        ([], [], "patients with a defined value: 0, 2 needed"),
        ([1.0, np.inf], [7, 8], "a value is infinite"),
    ],
)
def test_no_interval_has_a_reason(values, patients, reason):
    """Where no patients can be drawn the interval is NaN and says why."""
    found = bootstrap_interval(np.array(values), np.array(patients))
    assert np.isnan([found.low, found.high]).all()
    assert found.reason == reason


def test_senseless_bootstraps_are_refused():
    """One patient per value, and a confidence between 0 and 1."""
    with pytest.raises(ValueError, match="one patient per value"):
        bootstrap_interval(np.ones(3), np.ones(2))
    with pytest.raises(ValueError, match="confidence must be between 0 and 1, not 95"):
        bootstrap_interval(np.ones(3), np.arange(3), confidence=95)


def test_examples_in_the_docstrings():
    """The examples of the docstrings are true."""
    result = doctest.testmod(agreement)
    assert result.attempted >= 6
    assert result.failed == 0
