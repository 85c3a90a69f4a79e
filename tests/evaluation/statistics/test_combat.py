"""ComBat takes location and scale of batches away, keeps covariates, and has an answer to odd data."""

import contextlib
import io

import numpy as np
import pytest

from stan_ct.evaluation.statistics.agreement import concordance
from stan_ct.evaluation.statistics.combat import Combat, combat, independent

RNG = np.random.default_rng(0)
TRUE = RNG.normal(size=(60, 6)) * [1, 2, 3, 4, 5, 6] + 10
SOURCE = 3 * TRUE + [5, -4, 3, -2, 1, 0] + RNG.normal(0, 0.05, TRUE.shape)


def three_batches():
    """Features (30, 12) of three batches that differ in location and scale, and an age that matters."""
    rng = np.random.default_rng(1)
    batches, age = np.repeat(["A", "B", "C"], [12, 10, 8]), rng.normal(60, 10, 30)
    values = rng.normal(size=(30, 12)) * np.arange(1, 13) + 0.3 * age[:, None] * rng.normal(size=12)
    values += (batches == "B")[:, None] * rng.normal(3, 1, 12)
    return values * (1 + 0.5 * (batches == "C")[:, None]), batches, age[:, None]


@pytest.mark.parametrize("with_age", [False, True])
def test_it_is_neurocombat_s(with_age):
    """The reference implementation of the authors' ComBat gives the same numbers, with and without a covariate."""
    neuro_combat, pandas = pytest.importorskip("neuroCombat").neuroCombat, pytest.importorskip("pandas")
    values, batches, age = three_batches()
    covariates = age if with_age else None
    table = pandas.DataFrame({"batch": batches} | ({"age": age[:, 0]} if with_age else {}))
    with contextlib.redirect_stdout(io.StringIO()):
        expected = neuro_combat(dat=values.T, covars=table, batch_col="batch", continuous_cols=["age"] if with_age else None)[
            "data"
        ].T
    found = Combat.fit(values, batches, covariates).apply(values, batches, covariates)
    np.testing.assert_allclose(found, expected, atol=1e-4 * values.std())
    assert np.abs(found - values).max() > 0.5 * values.std()


def test_location_and_scale_of_the_protocols_become_one():
    """Features three times as large and shifted agree after it: means and spreads are equal, concordance goes to 1."""
    source, target = combat(SOURCE, TRUE)
    np.testing.assert_allclose(source.mean(axis=0), target.mean(axis=0), atol=0.05 * TRUE.std())
    np.testing.assert_allclose(source.std(axis=0), target.std(axis=0), rtol=0.06)
    np.testing.assert_allclose((source + target).mean(axis=0), (SOURCE + TRUE).mean(axis=0), rtol=0.01)
    assert concordance(SOURCE, TRUE).max() < 0.6
    assert concordance(source, target).min() > 0.99


def test_features_that_do_not_vary_or_are_undefined_come_back_as_they_are():
    """A constant one and one with a NaN do not spoil the others; the note counts them."""
    x, y = SOURCE.copy(), TRUE.copy()
    x[:, 0], y[3, 1] = 7.0, np.nan
    source, target = combat(x, y)
    np.testing.assert_array_equal(source[:, :2], x[:, :2])
    np.testing.assert_array_equal(target[:, :2], y[:, :2])
    assert concordance(source[:, 2:], target[:, 2:]).min() > 0.99
    model = Combat.fit(np.concatenate([x, y]), np.repeat([0, 1], 60))
    assert model.notes == ("2 features constant at a site or undefined, left unchanged",)


def test_a_single_feature_is_not_shrunk():
    """Of one feature, locations and scales become exactly equal, where an implementation without a rule divides by zero."""
    values, batches, _ = three_batches()
    model = Combat.fit(values[:, :1], batches)
    found = model.apply(values[:, :1], batches)
    for moment in (np.mean, lambda x: np.var(x, ddof=1)):
        moments = [moment(found[batches == b]) for b in "ABC"]
        np.testing.assert_allclose(moments, moments[0])
    assert "nothing was shrunk" in model.notes[0]


def test_a_site_of_one_patient_is_moved_but_not_scaled():
    """Its location comes nearer, its scale is taken as that of all; nothing is undefined."""
    values, batches, _ = three_batches()
    rows = np.r_[0:22, 22]  # the first of C
    values = values[rows] + 40 * (np.arange(23) == 22)[:, None]
    model = Combat.fit(values, batches[rows])
    found = model.apply(values, batches[rows])
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(model.spread[2], 1)
    assert np.abs(found[22] - found[:22].mean(axis=0)).mean() < 0.5 * np.abs(values[22] - values[:22].mean(axis=0)).mean()
    assert model.notes == ("C: one patient, so the location was adjusted but not the scale",)


def test_covariates_keep_their_effect():
    """Where one batch is older, ComBat takes the effect of age away, unless told to keep it; then slopes stay."""
    rng = np.random.default_rng(2)
    old = np.repeat([0.0, 1.0], 100)
    age = rng.normal(60 + 10 * old, 5)[:, None]
    values = 0.5 * age + 4 * old[:, None] + rng.normal(size=(200, 5))
    kept = Combat.fit(values, old, age).apply(values, old, age)
    lost = Combat.fit(values, old).apply(values, old)
    slopes = [np.polyfit(age[:, 0], result.mean(axis=1), 1)[0] for result in (kept, lost)]
    assert slopes[0] == pytest.approx(0.5, abs=0.03)
    assert slopes[1] < 0.35


def test_it_is_applied_to_patients_that_it_has_not_seen():
    """Fitted to half of the patients, it removes the batch from the others; an unknown batch is refused by name."""
    rng = np.random.default_rng(3)
    batches = np.tile([0, 1], 100)
    values = rng.normal(size=(200, 8)) * (1 + batches[:, None]) + 3 * batches[:, None]
    known = np.arange(200) < 100
    found = Combat.fit(values[known], batches[known]).apply(values[~known], batches[~known])
    of = [found[batches[~known] == b] for b in (0, 1)]
    assert abs(of[0].mean() - of[1].mean()) < 0.2
    assert of[1].std() / of[0].std() == pytest.approx(1, abs=0.1)
    with pytest.raises(ValueError, match=r"fitted to batches \[0, 1\], not to \[2\]"):
        Combat.fit(values, batches).apply(values, batches + 1)


def test_collinear_covariates_are_found_and_refused():
    """One that the batches determine, a constant, and a multiple of another; what is left can be fitted."""
    values, batches, age = three_batches()
    columns = np.column_stack([age, batches == "B", np.ones(30), 2 * age + 1, age**2])
    np.testing.assert_array_equal(independent(batches, columns), [True, False, False, False, True])
    with pytest.raises(ValueError, match="collinear"):
        Combat.fit(values, batches, columns)
    assert np.isfinite(Combat.fit(values, batches, columns[:, [0, 4]]).scale).all()


@pytest.mark.parametrize(
    ("rows", "batches", "said"),
    [
        (30, np.zeros(30), "two batches"),
        (2, np.array([0, 1]), "2 rows cannot tell"),
        (3, np.array([0, 1]), "expected features"),
    ],
)
def test_what_it_cannot_do_is_said(rows, batches, said):
    """One batch, too few rows, shapes that do not fit."""
    with pytest.raises(ValueError, match=said):
        Combat.fit(three_batches()[0][:rows], batches)


def test_one_patch_in_two_protocols_comes_back():
    """There is nothing to estimate from."""
    source, target = combat(SOURCE[:1], TRUE[:1])
    np.testing.assert_array_equal(source, SOURCE[:1])
    np.testing.assert_array_equal(target, TRUE[:1])
