"""Two sites with planted truths: what differs is found and removed, what is biology stays, what is confounded is said to be."""

import numpy as np
import pytest

import stan_ct
from stan_ct.errors import NotComparable
from stan_ct.evaluation.sites.comparison import Stability
from stan_ct.evaluation.sites.features import AFTER, BEFORE, BOTH, COMBAT, SiteFeatures, confounding, harmonize
from stan_ct.evaluation.sites.run import compare_site_features
from stan_ct.evaluation.sites.tables import rank_by_feature_table, rank_table
from stan_ct.evaluation.sites.verdicts import few_deals, kind, ranks_kind
from stan_ct.evaluation.statistics.agreement import Interval
from stan_ct.evaluation.statistics.separation import Separation, tell_sites

N = 30
SITES = np.repeat(["A", "B"], N)
RNG = np.random.default_rng(3)
AGE = RNG.normal(60, 10, 2 * N)
OUTCOME = (SITES == "B").astype(float)
PURE = RNG.normal(size=(2 * N, 3)) @ RNG.normal(size=(3, 8)) + RNG.normal(size=(2 * N, 8))
TRUE = PURE + 0.2 * (AGE - 60)[:, None] * (np.arange(8) < 4)
"""Features of 30 + 30 patients of one population; age matters to the first four."""

SHIFTED = TRUE * (1 + 0.5 * OUTCOME[:, None]) + 6 * OUTCOME[:, None]


@pytest.fixture(scope="module")
def found():
    """A site effect that standardization removes but for a little noise."""
    after = TRUE + RNG.normal(0, 0.05, TRUE.shape)
    covariates = {"age": AGE, "outcome": OUTCOME}
    patients = np.arange(2 * N)
    return compare_site_features(SHIFTED, SITES, patients, after, covariates=covariates, repeats=1, permutations=20)


def sentences(found) -> dict[str, tuple[str, str]]:
    return {verdict.question: (verdict.status.words, verdict.sentence) for verdict in found.verdicts}


def test_a_planted_site_effect_is_found_and_after_its_removal_not(found):
    """By distance and by classifier; before yes, after no, and ComBat, fitted in the training folds, no."""
    said = sentences(found)
    assert said["Can a classifier tell A and B, before?"][0] == "it can"
    assert said[f"Can a classifier tell A and B, {AFTER}?"][0] in ("it cannot", "cannot be told")
    separations = found.features.separations["A", "B"]
    assert separations[BEFORE]["logistic"].low > 0.7
    for state in (AFTER, COMBAT, BOTH):
        for separation in separations[state].values():
            assert separation.low <= 0.5 <= separation.high, (state, separation)
            assert separation.p > 0.05
    distances = found.features.distances["A", "B"]
    assert (distances[BEFORE].median.p < 0.05, distances[AFTER].median.p > 0.05) == (True, True)
    assert np.median(np.abs(distances[BEFORE].d)) > 1 > 0.4 > np.median(np.abs(distances[AFTER].d))
    assert distances[COMBAT].median is None
    assert np.median(np.abs(distances[COMBAT].d)) < 0.3


def test_a_planted_covariate_effect_stays(found):
    """Age goes with its four features within sites, before and after; pooling hides much of that before, and none after."""
    effects = found.features.effects["age"]
    for state in (BEFORE, AFTER, BOTH):
        assert ((effects[state].q < 0.05) == (np.arange(8) < 4)).all(), state
    of = {state: np.abs(effects[state].pooled[:4] - effects[BEFORE].within[:4]).mean() for state in (BEFORE, AFTER)}
    assert of[AFTER] < 0.06 < 0.1 < of[BEFORE]
    assert sentences(found)[f"Does the effect of age stay, {AFTER}?"][0] == "it stays"
    assert "4 of 8 features go with age before" in sentences(found)[f"Does the effect of age stay, {AFTER}?"][1]


def test_an_effect_that_is_lost_is_said_to_change():
    """Standardization that replaces features by noise loses biology and ranks, though no classifier tells the sites."""
    found = compare_site_features(
        SHIFTED, SITES, np.arange(2 * N), RNG.normal(size=TRUE.shape), covariates={"age": AGE}, repeats=1, permutations=10
    )
    said = sentences(found)
    assert said[f"Does the effect of age stay, {AFTER}?"][0] == "it changes"
    assert said[f"Do patients keep their ranks within a site, {AFTER}?"][0] == "not all"


def test_ranks_stay_where_they_do(found):
    """A little noise leaves Spearman's rho above .95 at both sites."""
    assert min(s.median for s in found.features.ranks[AFTER].values()) > 0.99
    assert sentences(found)[f"Do patients keep their ranks within a site, {AFTER}?"][0] == "they do"


def test_a_covariate_that_the_sites_determine_is_said_to_be_confounded(found):
    """ComBat does not keep it, no effect of it is claimed, and the page says why."""
    assert found.features.confounding["outcome"].collinear
    assert "outcome" not in found.features.effects
    assert found.features.harmonized.kept == ("age",)
    words, sentence = sentences(found)["Is outcome apart from site?"]
    assert words == "confounded"
    assert "cannot be told apart" in sentence


def test_a_covariate_that_partly_differs_is_said_to():
    """Older patients at B: named beside the distance, with the share that the sites explain."""
    older = AGE + 15 * OUTCOME
    share = confounding(older, SITES)
    group = older[:N].mean(), older[N:].mean()
    expected = N * sum((g - older.mean()) ** 2 for g in group) / ((older - older.mean()) ** 2).sum()
    assert share.share == pytest.approx(expected)
    assert (share.collinear, share.confounded, confounding(AGE, SITES).confounded) == (False, True, False)
    found = compare_site_features(TRUE, SITES, np.arange(2 * N), covariates={"age": older}, repeats=1, permutations=5)
    said = sentences(found)
    assert said["Is age apart from site?"][0] == "partly confounded"
    assert "Some of it may be age" in said["Do the features of A and B differ?"][1]


def test_few_patients_are_said_to_be_few():
    """4 + 4 without a difference: never "it cannot", and the page says how many it takes."""
    rows = np.r_[0:4, N : N + 4]
    found = compare_site_features(PURE[rows], SITES[rows], rows, repeats=1, permutations=20)
    for state in (BEFORE, COMBAT):
        words, sentence = sentences(found)[f"Can a classifier tell A and B, {state}?"]
        assert words == "cannot be told"
        assert "patients at each site" in sentence
    assert sentences(found)["Do the features of A and B differ?"][0] == "cannot be told"
    headings = [getattr(section, "heading", "") for section in found.report().sections]
    assert "What cannot be told" in headings
    assert (few_deals(3, 3), few_deals(4, 4)) == (True, False)


@pytest.mark.parametrize(
    ("auc", "low", "high", "p", "expected"),
    [
        (0.8, 0.6, 0.9, 0.01, "can"),
        (0.8, 0.51, 0.9, 0.06, "unknown"),
        (0.6, 0.4, 0.79, 0.3, "cannot"),
        (0.61, 0.4, 0.79, 0.3, "unknown"),
        (0.5, 0.2, 0.81, 0.5, "unknown"),
    ],
)
def test_limits_of_the_verdict(auc, low, high, p, expected):
    """An AUC of .6 at most, an interval that holds .5 and ends below .8."""
    assert kind(Separation(auc, low, high, p, (20, 20))) == expected


@pytest.mark.parametrize(
    ("median", "low", "high", "expected"),
    [
        (0.95, 0.8, 0.98, "stay"),
        (0.95, 0.79, 0.98, "unknown"),
        (0.94, 0.85, 0.95, "unknown"),
        (0.94, 0.85, 0.949, "change"),
    ],
)
def test_limits_of_ranks(median, low, high, expected):
    """Ranks stay from .95 on if the interval begins at .8; they change if it ends below .95."""
    assert ranks_kind(Stability(np.array([median]), median, Interval(low, high))) == expected


def test_the_feature_that_loses_its_ranks_is_named():
    """One of eight is turned round at A: the verdict names it, and the table has its rho; B was not standardized."""
    after = np.where((SITES == "A")[:, None], PURE * 2, PURE)
    after[:N, 5] = -PURE[:N, 5]
    found = compare_site_features(PURE, SITES, np.arange(2 * N), after, repeats=1, permutations=2)
    words, sentence = sentences(found)[f"Do patients keep their ranks within a site, {AFTER}?"]
    assert words == "they do"
    assert "7 of 8 features at 0.95 or more, the least -1.00 (feature 6); B: not standardized" in sentence
    assert not any(f"B, {AFTER}" in row for row in rank_table(found.features).rows)
    table = rank_by_feature_table(found.features)
    assert table.columns == ("A",)
    assert [cells[0].mean for cells in table.rows.values()] == pytest.approx([1, 1, 1, 1, 1, -1, 1, 1])
    assert (
        rank_by_feature_table(compare_site_features(PURE, SITES, np.arange(2 * N), repeats=1, permutations=2).features) is None
    )


def test_ranks_of_four_patients_cannot_be_told():
    """Neither where none changed places nor where two did: one swap of four makes .8."""
    rows = np.r_[0:4, N : N + 4]
    after = np.where((np.arange(8) < 4)[:, None], PURE[rows] * 2, PURE[rows])
    for changed in (after, after[[1, 0, *range(2, 8)]]):
        found = compare_site_features(PURE[rows], SITES[rows], rows, changed, repeats=1, permutations=2)
        assert sentences(found)[f"Do patients keep their ranks within a site, {AFTER}?"][0] == "cannot be told"


def test_two_halves_of_one_site_are_not_told():
    """The control: random halves of 16 patients of one site, 16 times; the AUC is .5 on average, and intervals hold it."""
    patients, aucs, held = np.arange(16), [], []
    for seed in range(16):
        half = np.where(np.random.default_rng(seed).permutation(16) < 8, "A", "B")
        found = tell_sites(TRUE[:16], half == "B", patients, repeats=1, permutations=20, seed=seed)
        aucs.append(found.auc)
        held.append(found.low <= 0.5 <= found.high)
    assert np.mean(aucs) == pytest.approx(0.5, abs=3 * np.std(aucs) / np.sqrt(16))
    assert sum(held) >= 14
    shifted = np.where((np.arange(16) < 8)[:, None], TRUE[:16] + 6, TRUE[:16])
    assert tell_sites(shifted, patients < 8, patients, repeats=1, permutations=20).low > 0.5


def test_a_site_of_one_patient_is_compared_as_far_as_it_goes():
    """No d, no classifier, and reasons; ComBat moves it."""
    rows = np.r_[0:12, N]
    found = compare_site_features(SHIFTED[rows], SITES[rows], rows, covariates={"age": AGE[rows]}, repeats=1, permutations=5)
    said = sentences(found)
    assert "1 patients, 2 needed" in said["Can a classifier tell A and B, before?"][1]
    assert said["Do the features of A and B differ?"][0] == "too few patients"
    assert any("one patient" in note for note in found.features.harmonized.notes)
    found.report()


def test_pairs_have_a_concordance():
    """Patients at both sites, as a scan with two kernels: CCC near 1 after, lower before."""
    patients = np.tile(np.arange(N), 2)
    before = np.concatenate([TRUE[:N], TRUE[:N] * 1.5 + 2])
    after = np.concatenate([TRUE[:N], TRUE[:N] + RNG.normal(0, 0.05, (N, 8))])
    found = compare_site_features(before, SITES, patients, after, repeats=1, permutations=5)
    distances = found.features.distances["A", "B"]
    assert distances[AFTER].pairs == N
    assert distances[AFTER].ccc.min() > 0.98
    assert distances[BEFORE].ccc.max() < 0.9


def test_three_sites_are_compared_two_by_two():
    """Each pair has its distances and classifiers; ComBat is fitted to all."""
    sites = np.repeat(["A", "B", "C"], 20)
    found = compare_site_features(TRUE, sites, np.arange(60), repeats=1, permutations=3)
    assert list(found.features.separations) == [("A", "B"), ("A", "C"), ("B", "C")]
    found.report()


def test_one_feature_constants_and_undefined_ones():
    """A single feature is compared; constant and undefined ones are left out, by name."""
    values = np.column_stack([SHIFTED[:, 0], np.ones(2 * N), np.where(np.arange(2 * N) == 3, np.nan, SHIFTED[:, 1])])
    found = compare_site_features(values, SITES, np.arange(2 * N), names=("a", "b", "c"), repeats=1, permutations=3)
    assert found.features.features.names == ("a",)
    assert found.features.undefined == {"b": "the same in all scans", "c": "undefined in 1 of 60 scans"}
    assert any("nothing was shrunk" in note for note in found.features.harmonized.notes)
    with pytest.raises(NotComparable, match="no feature can be compared: a: the same"):
        compare_site_features(np.ones((2 * N, 1)), SITES, np.arange(2 * N), names=("a",))


def test_what_does_not_fit_is_refused():
    """Shapes, one site, a patient twice at a site."""
    with pytest.raises(NotComparable, match="expected features of shape"):
        compare_site_features(TRUE, SITES[:-1], np.arange(2 * N))
    with pytest.raises(NotComparable, match="two sites or more"):
        compare_site_features(TRUE, np.repeat("A", 2 * N), np.arange(2 * N))
    with pytest.raises(NotComparable, match="two rows at site A"):
        compare_site_features(TRUE, SITES, np.zeros(2 * N))


def test_few_patients_per_coefficient_and_unknown_covariates_are_not_kept():
    """ComBat keeps a covariate that all have, if there are enough patients to estimate it."""
    rows = np.r_[0:4, N : N + 4]
    table = SiteFeatures(tuple("abcdefgh"), SITES[rows], rows.astype(str), TRUE[rows], covariates={"age": AGE[rows]})
    assert harmonize(table).kept == ()
    assert "8 scans are too few" in harmonize(table).notes[0]
    age = np.where(np.arange(2 * N) == 0, np.nan, AGE)
    table = SiteFeatures(tuple("abcdefgh"), SITES, np.arange(2 * N).astype(str), TRUE, covariates={"age": age, "old": AGE})
    assert harmonize(table).kept == ("old",)
    assert "unknown in 1 scans" in harmonize(table).notes[0]


def test_the_page_is_written_with_csv_files(found, tmp_path):
    """Page, tables and features in full precision; the public name is the same function."""
    page = found.write(tmp_path)
    assert "it can" in page.read_text()
    lines = (tmp_path / "features.csv").read_text().splitlines()
    assert len(lines) == 1 + 2 * N * 4
    assert lines[0].startswith("site,patient,state,age,outcome,feature_1")
    assert float(lines[1].split(",")[5]) == SHIFTED[0, 0]
    assert {"effects.csv", "report.json", "table_classifier_a_or_b.csv"} <= {path.name for path in tmp_path.iterdir()}
    assert stan_ct.compare_site_features is compare_site_features
