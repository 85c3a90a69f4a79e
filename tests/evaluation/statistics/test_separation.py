"""A classifier finds a site that is there, and none that is not, however few the patients."""

import numpy as np
import pytest
from scipy import stats

from stan_ct.evaluation.statistics.separation import auc_interval, auc_variance, deal_folds, patients_needed, tell_sites

PATIENTS = np.arange(24)
SECOND = np.repeat([False, True], 12)


def cohort(shift: float = 0.0, scale: float = 1.0, seed: int = 0) -> np.ndarray:
    """Correlated features (24, 10) of two sites of 12 patients."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(24, 4)) @ rng.normal(size=(4, 10)) + rng.normal(size=(24, 10))
    return np.where(SECOND[:, None], values * scale + shift, values)


def tell(values, **options):
    return tell_sites(values, SECOND, PATIENTS, **{"repeats": 2, "permutations": 30, **options})


def test_a_shift_is_found_and_combat_removes_it():
    """AUC near 1 before; with ComBat fitted in the training folds, an interval that holds .5."""
    before, after = tell(cohort(6, seed=1)), tell(cohort(6, seed=1), combat=True)
    assert before.auc > 0.95
    assert before.low > 0.6
    assert before.p < 0.05
    assert after.low <= 0.5 <= after.high
    assert after.p > 0.05


def test_another_spread_is_seen_by_the_second_classifier_alone():
    """Sites of equal means: a linear classifier cannot tell them, support vectors can."""
    values = cohort(scale=8)
    assert tell(values).low <= 0.5
    assert tell(values, classifier="svm").low > 0.5


def test_nothing_is_not_found_and_not_found_backwards():
    """The mean AUC over cohorts of 4 + 4 without a difference is .5: holding out no longer makes it worse than chance."""
    rng = np.random.default_rng(1)
    second, found = np.repeat([False, True], 4), []
    for seed in range(40):
        values = rng.normal(size=(8, 6))
        found.append(tell_sites(values, second, np.arange(8), repeats=1, permutations=1, seed=seed).auc)
    assert np.mean(found) == pytest.approx(0.5, abs=3 * np.std(found) / np.sqrt(40))
    assert np.std(found) < 0.4


def test_combat_of_held_out_patients_is_calibrated_by_random_sites():
    """ComBat over-corrects them, which alone would give an AUC well below .5 without a difference; raised, it is .5."""
    rng = np.random.default_rng(2)
    found = [tell(rng.normal(size=(24, 10)), combat=True, repeats=1, permutations=12, seed=seed) for seed in range(16)]
    lacking = np.array([separation.raised for separation in found])
    assert lacking.mean() > 0.03
    mean, error = np.mean([s.auc for s in found]), np.std([s.auc for s in found]) / 4
    assert mean == pytest.approx(0.5, abs=3 * error)
    assert tell(cohort(), permutations=3).raised == 0


def test_few_patients_have_wide_intervals_even_where_the_auc_is_1():
    """Four and four told perfectly: the interval is no point; and it is wider than the formula where random sites vary more."""
    values = cohort(30)[np.r_[0:4, 12:16]]
    found = tell_sites(values, np.repeat([False, True], 4), np.arange(8), permutations=30)
    assert found.auc == 1
    assert found.low <= auc_interval(1.0, 4, 4)[0] < 0.6
    assert found.excess >= 1


def test_patients_at_both_sites_are_in_one_fold():
    """What a patient looks like at one site must not be known when the other is guessed; each fold has both sites."""
    patients, second = np.array([*range(10), *range(5, 15)]), np.repeat([False, True], 10)
    for seed in range(20):
        fold = deal_folds(second, patients, np.random.default_rng(seed))
        assert all(len(set(fold[patients == p])) == 1 for p in range(15))
        assert all(second[fold == f].any() and not second[fold == f].all() for f in range(5))
    assert deal_folds(SECOND[10:], PATIENTS[10:], np.random.default_rng(0)).max() == 1  # two patients, two folds


def test_scaling_and_combat_know_the_training_folds_alone():
    """A test patient's features do not change the scores of the others of the fold: no leak through scaling."""
    from stan_ct.evaluation.statistics.separation import _scores

    values, test = cohort(2), np.arange(24) % 12 < 2
    wild = values.copy()
    wild[0] = 1e6
    for combat in (False, True):
        calm, other = (_scores(v, SECOND, test, "logistic", combat, None) for v in (values, wild))
        np.testing.assert_allclose(calm[1:], other[1:])
        assert calm[0] != other[0]


def test_the_variance_at_a_half_is_mann_whitney_s():
    """(m + n + 1) / (12 m n); and the interval's ends lie z standard errors away, as the score interval's do."""
    assert auc_variance(0.5, 7, 9) == pytest.approx(17 / (12 * 63))
    z = stats.norm.ppf(0.975)
    for auc in (0.5, 0.7, 0.95):
        for end in auc_interval(auc, 20, 30, excess=1.7):
            assert abs(auc - end) == pytest.approx(z * np.sqrt(1.7 * auc_variance(end, 20, 30)), rel=1e-6)
    assert patients_needed(2.0, 0.15) > patients_needed(1.0, 0.15) == 29


@pytest.mark.parametrize(
    ("values", "second", "reason"),
    [
        (cohort(), PATIENTS == 0, "1 patients, 2 needed"),
        (np.ones((24, 3)), SECOND, "no feature varies"),
    ],
)
def test_what_cannot_be_tried_is_undefined_with_a_reason(values, second, reason):
    """A site of one patient, and features that never vary."""
    found = tell_sites(values, second, PATIENTS, permutations=2)
    assert np.isnan(found.auc)
    assert reason in found.reason


def test_one_feature_and_a_constant_one_do():
    """The constant one is left out."""
    values = np.column_stack([cohort(8)[:, 0], np.ones(24)])
    assert tell(values).auc > 0.9
    assert np.isfinite(tell(values, combat=True).auc)
