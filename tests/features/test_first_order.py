"""First-order statistics have the values published for IBSI's digital phantom, and those of formulas written out."""

import doctest
import statistics as of_python

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from stan_ct.features import first_order
from stan_ct.features.first_order import HISTOGRAM, STATISTICS, histogram_features, statistics

CHANGED_BY_A_SHIFT = ("coefficient_of_variation", "quartile_coefficient_of_dispersion", "energy", "root_mean_square")
PHANTOM = np.repeat([1, 3, 4, 6], [50, 1, 16, 7])[None]  # the gray levels in the ROI of the phantom
PUBLISHED = {
    "mean": 2.15,
    "variance": 3.05,
    "skewness": 1.08,
    "excess_kurtosis": -0.355,
    "median": 1,
    "minimum": 1,
    "p10": 1,
    "p90": 4,
    "maximum": 6,
    "interquartile_range": 3,
    "range": 5,
    "mean_absolute_deviation": 1.55,
    "robust_mean_absolute_deviation": 1.11,
    "median_absolute_deviation": 1.15,
    "coefficient_of_variation": 0.812,
    "quartile_coefficient_of_dispersion": 0.6,
    "energy": 567,
    "root_mean_square": 2.77,
}


def as_published(found):
    """Three digits, as in the reference manual."""
    return {name: float(f"{value.item():.3g}") for name, value in found.items()}


def test_statistics_of_the_digital_phantom():
    """All 18 intensity-based statistics are the published ones; the first is written out: 159 / 74."""
    found = statistics(PHANTOM)
    assert as_published(found) == PUBLISHED
    assert list(found) == list(STATISTICS)
    assert found["mean"].item() == 159 / 74


def test_histogram_of_the_digital_phantom():
    """Entropy and uniformity are the published ones; the latter is (50^2 + 1^2 + 16^2 + 7^2) / 74^2."""
    found = histogram_features(PHANTOM)
    assert as_published(found) == {"entropy": 1.27, "uniformity": 0.512}
    assert list(found) == list(HISTOGRAM)
    assert found["uniformity"].item() == pytest.approx(2806 / 5476, rel=1e-14)


@given(st.lists(st.integers(-1024, 3071), min_size=3, max_size=60))
def test_any_row_has_the_values_of_python_and_scipy(row):
    """Oracles: the standard library's exact fractions and quantiles, and SciPy's moments."""
    found = {name: value.item() for name, value in statistics(np.array([row])).items()}
    tenths, quarters = (of_python.quantiles(row, n=n, method="inclusive") for n in (10, 4))
    expected = {
        "mean": of_python.fmean(row),
        "variance": of_python.pvariance(row),
        "median": of_python.median(row),
        "p10": tenths[0],
        "p90": tenths[-1],
        "interquartile_range": quarters[2] - quarters[0],
        "mean_absolute_deviation": of_python.fmean(abs(x - of_python.fmean(row)) for x in row),
        "median_absolute_deviation": of_python.fmean(abs(x - of_python.median(row)) for x in row),
        "energy": sum(x * x for x in row),
    }
    if len(set(row)) > 1:
        expected |= {"skewness": stats.skew(row), "excess_kurtosis": stats.kurtosis(row)}
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-9, abs=1e-6), name


def test_rows_are_measured_alone():
    """A batch has the values of its rows, in their order."""
    rows = np.random.default_rng(5).integers(-1000, 1000, (4, 33))
    for measure in (statistics, histogram_features):
        for name, values in measure(rows).items():
            assert values.shape == (4,), name
            assert values.tolist() == [measure(row[None])[name].item() for row in rows], name


def test_the_robust_deviation_leaves_the_ends_out():
    """Of 0, 1, .. 9, 1000 the values in [P10, P90] = [1, 9] are 1 .. 9: their distances from 5 are 4 3 2 1 0 1 2 3 4."""
    found = statistics(np.array([[*range(10), 1000]]))
    assert (found["p10"].item(), found["p90"].item()) == (1, 9)
    assert found["robust_mean_absolute_deviation"].item() == pytest.approx(20 / 9, rel=1e-14)


@pytest.mark.parametrize("value", [0.1, -1000.0, 37.7, -975.3])
def test_equal_values(value):
    """Without any rounding error: no deviation of any kind, skewness and excess kurtosis 0, and 1 level."""
    found = {name: values.item() for name, values in statistics(np.full((1, 1003), value)).items()}
    same = {"mean", "median", "minimum", "p10", "p90", "maximum"}
    assert {found[name] for name in same} == {value}
    assert {found[name] for name in set(found) - same - {"energy", "root_mean_square"}} == {0}
    assert found["root_mean_square"] == pytest.approx(abs(value), rel=1e-12)
    flat = histogram_features(np.full((1, 1003), 7))
    assert (flat["entropy"].item(), flat["uniformity"].item()) == (0, 1)


def test_undefined_values_are_nan():
    """Coefficients relative to a mean or quartiles of 0, and a robust deviation of no values; nothing else is."""
    found = statistics(np.array([[-5.0, 5.0]]))
    undefined = {name for name, value in found.items() if np.isnan(value.item())}
    assert undefined == {
        "coefficient_of_variation",
        "quartile_coefficient_of_dispersion",
        "robust_mean_absolute_deviation",
    }


def test_what_depends_on_the_zero_of_the_scale():
    """Adding 1000 to all values moves the levels of position, keeps the others, and changes those that are bound to zero."""
    values = np.random.default_rng(2).gamma(2.0, 40.0, (2, 400))
    here, there = statistics(values), statistics(values + 1000)
    position = {"mean", "median", "minimum", "p10", "p90", "maximum"}
    for name in STATISTICS:
        shifted = here[name] + 1000 if name in position else here[name]
        assert np.allclose(shifted, there[name], rtol=1e-9) == (name not in CHANGED_BY_A_SHIFT), name


@pytest.mark.parametrize("measure", [statistics, histogram_features])
@pytest.mark.parametrize("values", [np.arange(5), np.zeros((3, 0), int), np.zeros((2, 2, 2), int)])
def test_other_shapes_are_refused(measure, values):
    """What has no rows of values is refused, and the message has the shape that came and the way out."""
    with pytest.raises(ValueError, match=r"\(N, n\) with n >= 1, got shape .*; of a ROI: volume"):
        measure(values)


def test_no_numbers_are_refused():
    """NaN and infinity are no HU, fractions no levels."""
    with pytest.raises(ValueError, match="2 values are not finite"):
        statistics(np.array([[0.0, np.nan, np.inf]]))
    with pytest.raises(ValueError, match="integers, got float64: discretize HU first"):
        histogram_features(np.array([[0.0, 1.0]]))


def test_examples_in_the_docstrings():
    """The examples of the docstrings are true."""
    result = doctest.testmod(first_order)
    assert (result.attempted, result.failed) == (3, 0)
