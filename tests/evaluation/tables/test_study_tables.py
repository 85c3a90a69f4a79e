"""The cells of a study's tables are numbers that another way of computing them gives too."""

import math

import numpy as np
import pytest
from scipy import stats

from stan_ct.evaluation.measure.measurement import MEASURES, PLACES, Measured, measure_features, measure_hu
from stan_ct.evaluation.methods.provenance import count_undefined
from stan_ct.evaluation.tables.agreement import FLAT, FeatureAgreement, concordance_table, feature_agreement, feature_table
from stan_ct.evaluation.tables.errors import SAME_DIFFERENCE, change_table, comparison_table, error_table, errors_of
from stan_ct.evaluation.tables.hu import NO_PIXELS, hu_table
from stan_ct.evaluation.tables.rows import ZERO_TARGET
from stan_ct.features.glcm import ALL_FEATURES, FEATURES, Discretization

N = 24
PATIENTS = np.repeat([1, 2, 3, 4], N // 4)
TARGET = np.random.default_rng(0).normal(60, 30, (N, 12, 12))


def row(images, target=TARGET):
    """What is measured of images beside their target, everywhere."""
    hu = [measure_hu(image, wanted, np.ones(image.shape, bool)) for image, wanted in zip(images, target, strict=True)]
    return Measured(measure_features(images, Discretization.fixed_number()), np.stack(hu))


def blurred(weight):
    """Images between the target (0) and its mean (1)."""
    return TARGET * (1 - weight) + TARGET.mean(axis=(1, 2), keepdims=True) * weight


@pytest.fixture(scope="module")
def rows():
    """A source that is half blurred, a rival by a quarter, and ours by little and with 5 HU more."""
    return {"target": row(TARGET), "source": row(blurred(0.5)), "rival": row(blurred(0.25)), "ours": row(blurred(0.05) + 5)}


def means(table):
    return {name: [cell.mean for cell in cells] for name, cells in table.rows.items()}


def test_errors_are_eq_8(rows):
    """Mean and standard deviation (n - 1) over the patches of |f - f_target| / |f_target|, and the number of patches."""
    table = error_table("Table 1", "A to B", rows, PATIENTS, 100, 0)
    assert (table.columns, list(table.rows), table.reference) == (FEATURES, ["source", "rival", "ours"], {"source"})
    for name, cells in table.rows.items():
        ours, target = (rows[which].features[:, :5] for which in (name, "target"))
        errors = np.abs(ours - target) / np.abs(target)
        np.testing.assert_allclose([cell.mean for cell in cells], errors.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose([cell.sd for cell in cells], errors.std(axis=0, ddof=1), rtol=1e-12)
        assert {cell.n for cell in cells} == {N}
    assert table.best("contrast") == {"ours"}


def test_the_target_against_itself_has_no_error():
    """Errors 0 with intervals [0, 0], every concordance 1, every difference in HU 0."""
    rows = {"target": row(TARGET), "source": row(blurred(0.5)), "itself": row(TARGET)}
    cells = error_table("Table 1", "A to B", rows, PATIENTS, 100, 0).rows["itself"]
    assert [(c.mean, c.sd, c.low, c.high) for c in cells] == [(0, 0, 0, 0)] * 5
    values = feature_agreement(rows, with_combat=False)
    assert (values["itself"].ccc == 1).all()
    assert [c.mean for c in concordance_table("A to B", values).rows["itself"]] == [1, 1, 1, 1, pytest.approx(1)]
    assert means(hu_table("A to B", rows))["itself"][-2:] == [0, 0]


def test_patients_change_the_intervals_and_not_the_means(rows):
    """Patches dealt to other patients: the same mean errors, other ends; equal seeds give equal ends, other seeds others."""
    first, again = (error_table("Table 1", "A to B", rows, PATIENTS, 500, 0) for _ in range(2))
    dealt = error_table("Table 1", "A to B", rows, np.random.default_rng(3).permutation(PATIENTS), 500, 0)
    assert means(first) == means(dealt)
    ends = [[(c.low, c.high) for c in table.rows["source"]] for table in (first, again, dealt)]
    assert ends[0] == ends[1] != ends[2]
    assert ends[0] != [(c.low, c.high) for c in error_table("Table 1", "A to B", rows, PATIENTS, 500, 1).rows["source"]]
    for low_high, cell in zip(ends[0], first.rows["source"], strict=True):
        assert low_high[0] <= cell.mean <= low_high[1]


def test_one_patient_has_no_interval(rows):
    """The mean stands, and the footnote says why there is no interval."""
    table = error_table("Table 1", "A to B", rows, np.ones(N), 100, 0)
    cell = table.rows["ours"][0]
    assert math.isnan(cell.low)
    assert cell.mean > 0
    assert table.footnotes == {"patients with a defined value: 1, 2 needed": "patients with a defined value: 1, 2 needed"}


def test_a_flat_target_is_reported():
    """Its dissimilarity and contrast are 0: these errors are undefined, counted, and left out of the mean and the test."""
    target = TARGET.copy()
    target[0] = 50
    rows = {"target": row(target), "source": row(blurred(0.5)), "ours": row(blurred(0.1))}
    table = error_table("Table 1", "A to B", rows, PATIENTS, 100, 0)
    assert [(c.n, c.undefined) for c in table.rows["ours"]] == [(N - 1, 1)] * 2 + [(N, 0)] * 3
    errors = errors_of(rows["ours"], rows)[1:, 0]
    assert table.rows["ours"][0].mean == pytest.approx(errors.mean())
    assert "1 in dissimilarity (each of 2 rows), 1 in contrast (each of 2 rows)" in table.footnotes[ZERO_TARGET]
    tests = comparison_table("A to B", rows, "ours")
    assert tests.rows["source"][1].n == N - 1
    assert f"1 of {N} patches are excluded: the target's feature is 0." in tests.notes
    assert count_undefined([table]) == {ZERO_TARGET: 4}


def test_concordance_is_lin_s(rows):
    """2 cov / (var + var + shift^2), by NumPy, of every feature; the shares count those of .85 and more."""
    values = feature_agreement(rows, with_combat=False)
    assert list(values) == ["source", "rival", "ours"]
    x, y = rows["rival"].features, rows["target"].features
    expected = np.array(
        [
            2 * np.cov(a, b, ddof=0)[0, 1] / (a.var() + b.var() + (a.mean() - b.mean()) ** 2)
            for a, b in zip(x.T, y.T, strict=True)
        ]
    )
    np.testing.assert_allclose(values["rival"].ccc, expected, rtol=1e-9)
    table = concordance_table("A to B", values)
    numbers = [(expected >= 0.85).mean(), (expected[:8] >= 0.85).mean(), expected.mean(), expected.min()]
    np.testing.assert_allclose(means(table)["rival"][:4], numbers)
    assert 0 < numbers[0] < 1
    assert table.notes == ()
    features = feature_table("A to B", values)
    assert features.columns == MEASURES
    np.testing.assert_allclose(means(features)["rival"], expected)
    texture = feature_table("A to B", values, ALL_FEATURES)
    assert texture.columns == ALL_FEATURES
    np.testing.assert_allclose(means(texture)["rival"], expected[:8])


def test_a_feature_that_does_not_vary_has_no_concordance():
    """It is named as undefined, and the shares are of the others."""
    coefficients = np.array([1.0, *[0.5] * 26, np.nan])
    values = {"ours": FeatureAgreement(coefficients, coefficients / 2)}
    cells = concordance_table("A to B", values | {"source": values["ours"]}).rows["ours"]
    assert (cells[0].mean, cells[0].n, cells[0].undefined) == (pytest.approx(1 / 27), 27, 1)
    assert cells[3].mean == 0.5
    assert (cells[4].mean, cells[4].n, cells[4].undefined) == (pytest.approx((0.5 + 26 * 0.25) / 27), 27, 1)
    features = feature_table("A to B", values | {"source": values["ours"]})
    assert features.rows["ours"][-1].reason == FLAT
    assert count_undefined([features]) == {FLAT: 2}


def icc_2_1(x, y):
    """ICC(2,1) by the analysis of variance of two columns: patches in lines, image and target in columns."""
    table, n = np.stack([x, y], axis=1), len(x)
    between = 2 * np.sum((table.mean(axis=1) - table.mean()) ** 2)
    images = n * np.sum((table.mean(axis=0) - table.mean()) ** 2)
    b, e = between / (n - 1), (np.sum((table - table.mean()) ** 2) - between - images) / (n - 1)
    return (b - e) / (b + e + 2 * (images - e) / n)


def test_absolute_agreement_is_the_icc_of_shrout_and_fleiss(rows):
    """The mean over the features of the analysis of variance's own; features that are shifted agree less than equal ones."""
    values = feature_agreement(rows, with_combat=False)
    table = concordance_table("A to B", values)
    assert table.columns[-1] == "mean ICC(2,1)"
    for name in ("source", "rival", "ours"):
        pairs = zip(rows[name].features.T, rows["target"].features.T, strict=True)
        expected = np.array([icc_2_1(x, y) for x, y in pairs])
        np.testing.assert_allclose(values[name].icc, expected, rtol=1e-8)
        assert table.rows[name][-1].mean == pytest.approx(expected.mean())
    shifted = Measured(rows["target"].features + rows["target"].features.std(axis=0), rows["target"].hu)
    values = feature_agreement({**rows, "equal": rows["target"], "shifted": shifted}, with_combat=False)
    of_features = concordance_table("A to B", values).rows
    assert of_features["equal"][-1].mean == pytest.approx(1)
    # B = 2 s^2, J = n sd^2 / 2 and E = 0, with sd^2 = s^2 (n - 1) / n
    assert of_features["shifted"][-1].mean == pytest.approx(2 / (2 + (N - 1) / N), rel=1e-9)


def test_combat_is_a_row(rows):
    """Its concordance is measured like the others', and the table says what it has seen."""
    values = feature_agreement(rows)
    assert list(values)[-1] == "ComBat (features)"
    contrast = MEASURES.index("contrast")
    assert values["ComBat (features)"].ccc[contrast] > values["source"].ccc[contrast] + 0.3
    assert values["ComBat (features)"].icc[contrast] > values["source"].icc[contrast] + 0.3
    assert "fitted on these very patches" in concordance_table("A to B", values).notes[0]


def test_tests_are_scipy_s_and_positive_where_ours_is_better(rows):
    """Cohen's d of (their error - ours), q by Benjamini-Hochberg of SciPy's signed-rank p; turned round, d turns its sign."""
    table = comparison_table("A to B", rows, "ours")
    assert list(table.rows) == ["source", "rival"]
    theirs, ours = (errors_of(rows[name], rows) for name in ("rival", "ours"))
    difference = theirs - ours
    d, q = (np.array([cell.mean for cell in table.rows["rival"]])[start::2] for start in (0, 1))
    np.testing.assert_allclose(d, difference.mean(axis=0) / difference.std(axis=0, ddof=1))
    p = [stats.wilcoxon(column).pvalue for column in difference.T]
    np.testing.assert_allclose(q, stats.false_discovery_control(p))
    contrast = table.columns.index("contrast, d")
    assert theirs[:, 1].mean() > ours[:, 1].mean()
    assert table.rows["rival"][contrast].mean > 1
    turned = comparison_table("A to B", rows, "rival").rows["ours"]
    assert turned[contrast].mean == pytest.approx(-table.rows["rival"][contrast].mean)
    assert turned[contrast + 1].mean == pytest.approx(table.rows["rival"][contrast + 1].mean)


def test_equal_rows_have_no_effect(rows):
    """q is 1 where nothing differs, and the size of the effect is undefined with its reason."""
    cells = comparison_table("A to B", {**rows, "twin": rows["ours"]}, "ours").rows["twin"]
    assert [cell.mean for cell in cells[1::2]] == [1.0] * 5
    assert all(math.isnan(cell.mean) and cell.reason == SAME_DIFFERENCE for cell in cells[::2])


def test_nothing_to_test_is_no_table(rows):
    """Neither without another row, nor for one that is not there."""
    assert comparison_table("A to B", {"target": rows["target"], "source": rows["source"]}, "source") is None
    assert comparison_table("A to B", rows, "nobody") is None


def test_the_source_may_be_ours(rows):
    """It is then no row, and no reference either."""
    assert comparison_table("A to B", rows, "source").reference == frozenset()


def test_hu_by_tissue_by_hand():
    """Muscle of 60 HU in three patches, lung of -800 in one: means over pixels, not over patches; RMSE over all."""
    target = np.full((4, 20, 20), 60.0)
    target[3] = -800
    image = target.copy()
    image[0] += 3
    image[1, :10] -= 9
    image[3] += 20
    table = hu_table("A to B", {"target": row(target, target), "source": row(target, target), "ours": row(image, target)})
    found = dict(zip(table.columns, table.rows["ours"], strict=True))
    assert found["bias, soft tissue"].mean == pytest.approx((400 * 3 - 200 * 9) / 1200)
    assert found["bias, lung"].mean == pytest.approx(20)
    assert (found["bias, lung"].n, found["bias, soft tissue"].n) == (400, 1200)
    assert math.isnan(found["bias, bone"].mean)
    assert found["bias, bone"].reason == NO_PIXELS
    assert found["MAE"].mean == pytest.approx((400 * 3 + 200 * 9 + 400 * 20) / 1600)
    assert found["RMSE"].mean == pytest.approx(math.sqrt((400 * 9 + 200 * 81 + 400 * 400) / 1600))
    assert table.columns == (*(f"bias, {place}" for place in PLACES[1:]), "MAE", "RMSE")


def test_before_and_after_without_a_target(rows):
    """The features themselves, all eight of texture, mean and standard deviation over the patches."""
    two = {name: rows[name] for name in ("source", "ours")}
    table = change_table(two)
    assert (table.columns, list(table.rows)) == (ALL_FEATURES, ["source", "ours"])
    features = two["ours"].features[:, :8]
    np.testing.assert_allclose(means(table)["ours"], features.mean(axis=0))
    np.testing.assert_allclose([cell.sd for cell in table.rows["ours"]], features.std(axis=0, ddof=1))


def test_tables_have_titles_for_readers_and_keys_for_programs(rows):
    """The key is the measure and the subject, whatever the table is called."""
    values = feature_agreement(rows, with_combat=False)
    tables = [
        error_table("Table 1", "BL57 to BL64", rows, PATIENTS, 100, 0),
        error_table("Table 2", "BL57 to BL64", rows, PATIENTS, 100, 0),
        comparison_table("BL57 to BL64", rows, "ours"),
        hu_table("BL57 to BL64", rows),
        concordance_table("BL57 to BL64", values),
        feature_table("BL57 to BL64", values),
        change_table(rows),
    ]
    subject = "bl57_to_bl64"
    keys = ["errors", "errors", "tests", "hu", "concordance", "concordance_by_feature"]
    assert [table.key for table in tables] == [*(f"{key}_{subject}" for key in keys), "features_before_and_after"]
    assert [table.title for table in tables][:3] == ["Table 1, BL57 to BL64", "Table 2, BL57 to BL64", "Tests, BL57 to BL64"]
