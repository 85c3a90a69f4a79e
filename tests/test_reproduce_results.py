"""Intervals over seeds and patients, the claims that follow from them, and the page."""

import json

import numpy as np
import pytest
from reproduction import page, rows, written
from reproduction.claims import at_least, claims_of, unanimous
from reproduction.intervals import NO, OPEN, YES, Sums, draw_patients, estimate, verdict
from reproduction.made_with import flag_files
from reproduction.results import MEAN, QUANTITIES, RMSE, Results, RowResult, results_of

from stan_ct.evaluation.measure.measurement import MEASURES, PLACES, Measured
from stan_ct.evaluation.measure.patches import PatchSet
from stan_ct.evaluation.measure.series import Measurement
from stan_ct.features.glcm import FEATURES
from stan_ct.reconstruction.settings import PAPER_ROWS
from stan_ct.report.files import write_report

PATIENTS = 6


def interval_of(values, resamples=2000, seed=0):
    """Interval of a value by seed and patient, (S, P)."""
    sums = Sums(values[..., None], np.ones((*values.shape, 1)))
    draws = draw_patients(values.shape[1], resamples, seed)
    return estimate(sums.means(np.ones((1, values.shape[1])))[0], sums.means(draws), seed=seed)


@pytest.mark.parametrize(("of_seeds", "of_patients"), [(1, 0.1), (0.1, 1), (1, 1.5)])
def test_intervals_hold_the_truth(of_seeds, of_patients):
    """Whether seeds or patients scatter more, about 95 of 100 intervals hold the mean; drawing seeds anew would give 75."""
    rng = np.random.default_rng(1)
    held = 0
    for number in range(200):
        values = of_seeds * rng.normal(size=(3, 1)) + of_patients * rng.normal(size=(1, 8))
        found = interval_of(values, 500, number)
        held += found.low[0] < 0 < found.high[0]
    assert 0.88 <= held / 200 <= 0.99


def test_patients_weigh_by_their_patches():
    """The mean is over patches; patients are drawn with all of them."""
    values, weights = np.array([[[10.0], [0.0]]] * 2), np.array([[[10.0], [30.0]]] * 2)
    sums = Sums(values, weights)
    assert sums.means(np.ones((1, 2)))[0].tolist() == [[0.25], [0.25]]
    found = estimate(sums.means(np.ones((1, 2)))[0], sums.means(draw_patients(2, 2000)))
    assert (found.low[0], found.high[0]) == (0, 1)


def test_one_seed_or_patient():
    """One seed gives no interval; one patient one over seeds alone; neither, none."""
    assert np.isnan(interval_of(np.ones((1, 5))).low[0])
    found = interval_of(np.array([[1.0], [2.0], [3.0]]))
    assert found.low[0] == pytest.approx(2 - 4.303 / np.sqrt(3), abs=0.15)
    assert np.isnan(estimate(np.ones((1, 1)), np.ones((1, 1, 1)), seeded=False).low[0])


def test_verdicts():
    """Yes below the limit, no above it, else not told apart; so are none, and counts that may still be reached."""
    assert [verdict(*ends) for ends in ((-2, -1), (1, 2), (-1, 1), (np.nan, np.nan), (-1, 0), (0, 1))] == [
        YES, NO, OPEN, OPEN, OPEN, OPEN,
    ]  # fmt: skip
    assert [at_least(2, told) for told in ([YES, YES, NO], [YES, NO, NO], [YES, OPEN, NO])] == [YES, NO, OPEN]
    assert [unanimous(found) for found in ([True, True], [False, False], [True, False], [True])] == [YES, NO, OPEN, OPEN]


def measured(error, rng, num_patches=24):
    """Measurements of patches whose five features are `error` too large, and of HU that are off by 1."""
    features = np.full((num_patches, len(MEASURES)), 2.0) + rng.normal(size=(num_patches, len(MEASURES))) * 0.1
    features[:, [MEASURES.index(name) for name in FEATURES]] = 1 + error
    hu = np.tile(np.array([100.0, -100.0, 100.0, 400.0]), (num_patches, len(PLACES), 1))
    return Measured(features, hu)


def study(**errors):
    """Results of rows with such errors by seed."""
    rng = np.random.default_rng(0)
    models = {name: dict.fromkeys(range(len(values))) for name, values in errors.items()}
    models["radial filter"] = {None: None}
    found = {f"{name}, seed {seed}": measured(e, rng) for name, values in errors.items() for seed, e in enumerate(values)}
    found |= {"target": measured(0, rng), "source": measured(0.5, rng), "radial filter, seed None": measured(0.1, rng)}
    patients = np.repeat(np.arange(PATIENTS), 4)
    return results_of("1 mm", PatchSet("BL57", "BL64", (), (), patients, None, "", ""), found, models)


def test_results():
    """Errors, their mean, RMSE and bias, of every seed; what has no seed is the same for all."""
    results = study(ours=[0.01, 0.02, 0.03])
    row = results.rows["ours"]
    assert (results.title, results.num_patches, results.num_patients) == ("BL57 to BL64, 1 mm", 24, PATIENTS)
    assert row.values[:, QUANTITIES.index(MEAN)] == pytest.approx([0.01, 0.02, 0.03])
    assert row.values[0, QUANTITIES.index(RMSE)] == 2
    assert row.values[0, QUANTITIES.index("bias, bone")] == -1
    assert row.seeds == (0, 1, 2)
    difference = results.difference("ours", "radial filter")
    assert difference.mean[0] == pytest.approx(-0.08)
    assert difference.below()[0] == YES


def test_differences_are_of_the_same_seeds():
    """Rows that share a scatter of seeds differ exactly, and seeds that only one has are left out."""
    results = study(one=[0.1, 0.2, 0.3, 0.9], other=[0.05, 0.15, 0.25])
    difference = results.difference("one", "other")
    assert difference.mean[0] == pytest.approx(0.05)
    assert difference.low[0] == pytest.approx(0.05)
    assert results.difference("other", "one").below()[0] == YES


def test_claims():
    """Yes, no and not told apart follow from the numbers, which stand beside them; rows that are missing are not claimed."""
    results = study(
        **{
            "GANai": [0.2, 0.21, 0.2],
            "STAN-CT": [0.1, 0.11, 0.1],
            "STAN-CT without L_lat": [0.05, 0.05, 0.06],
            "STAN-CT without L_feat": [0.05, 0.3, 0.1],
            "STAN-CT + filter": [0.05, 0.05, 0.06],
            "ours": [0.01, 0.01, 0.01],
            "ours without adversarial part": [0.02, 0.02, 0.02],
        }
    )
    told = {claim.said: claim for claim in claims_of(results)}
    answers = {said: claim.answer for said, claim in told.items()}
    assert answers["STAN-CT is below GANai in 5 of 5 features"] == YES
    assert answers["The mean error of STAN-CT is below that of STAN-CT without L_lat"] == NO
    assert answers["The mean error of STAN-CT is below that of STAN-CT without L_feat"] == OPEN
    assert answers["The mean error of STAN-CT + filter is below that of STAN-CT"] == YES
    assert answers["The mean error of ours is below that of ours without adversarial part"] == YES
    assert answers["ours is below radial filter in 5 of 5 features"] == YES
    assert answers["HU RMSE of ours is below that of radial filter"] == OPEN
    assert answers["ours: errors at most 0.03"] == YES
    assert answers["ours: bias at most 2 HU in every tissue"] == YES
    assert not any("paired" in said or "U-Net" in said for said in told)
    assert told["STAN-CT is below GANai in 5 of 5 features"].numbers.startswith("lower in 5, higher in 0")


def test_page(tmp_path):
    """Tables as mean with interval, differences from the filter, claims; all of it can be written."""
    results = study(ours=[0.01, 0.02, 0.03])
    claims = {results.title: claims_of(results)}
    made = page.report("smoke", [results], claims, {"ours": "0"}, "python benchmarks/reproduce.py")
    write_report(made, tmp_path)
    text = (tmp_path / "report.md").read_text()
    low, high = results.rows["ours"].estimate().low[0], results.rows["ours"].estimate().high[0]
    assert f"0.020** [{low:.3f}, {high:.3f}]".replace("-", "\N{MINUS SIGN}") in text
    assert "| ours | \N{MINUS SIGN}0.080 [" in text
    assert "| ours is below radial filter in 5 of 5 features |" in page.claims_text(claims)
    rows_written = json.loads((tmp_path / "report.json").read_text())["sections"][2]["rows"]
    assert rows_written["ours"]["seeds"]["mean"] == 3
    assert {f"{rows.ROWS['ours'].folder}.flags", "made_with.json"} <= flag_files("smoke", [rows.ROWS["ours"]], []).keys()


def test_units():
    """Each unit of the quality control must lower the contrast error, patient by patient."""

    def claim(*values):
        rng = np.random.default_rng(0)
        made = {row: measured(value, rng) for row, value in zip(PAPER_ROWS, values, strict=True)}
        found = {"source": measured(0.9, rng), "target": measured(0, rng), **made}
        return written.units_claim(Measurement(None, found, np.repeat(np.arange(PATIENTS), 4), 24, {}))

    assert claim(0.7, 0.5, 0.4, 0.2).answer == YES
    assert claim(0.7, 0.5, 0.5, 0.2).answer == OPEN
    assert claim(0.7, 0.5, 0.6, 0.2).answer == NO
    assert claim(0.7, 0.5, 0.4, 0.2).numbers.startswith("0.700 → 0.500 → 0.400 → 0.200: ")


def test_written_goals(tmp_path):
    """Goals of written series come from the report of Table 2."""
    results = study(ours=[0.01, 0.01])
    cells = page.error_table(results).rows["ours"]
    table = {name: {"mean": c.mean, "low": c.low, "high": c.high} for name, c in zip(page.SHOWN, cells, strict=False)}
    sections = [
        {"kind": "table", "key": "errors_written_dicom", "rows": {"ours": table}},
        {"kind": "table", "key": "concordance_written_dicom", "rows": {"ours": {"share": {"mean": 0.9}}}},
        {"kind": "table", "key": "hu_written_dicom", "rows": {"ours": {"bias, lung": {"mean": -3.0}, "RMSE": {"mean": 9}}}},
    ]
    (tmp_path / "report.json").write_text(json.dumps({"sections": sections}))
    assert [claim.answer for claim in written.written_claims(tmp_path, ["ours", "missing"])] == [YES, NO, NO]


def test_training_claims(tmp_path):
    """Seeds that disagree do not tell."""
    for seed, (second, change) in enumerate(((0.4, 0.2), (0.4, 0.2), (0.6, 0.7))):
        folder = tmp_path / str(seed)
        folder.mkdir()
        (folder / "validation.csv").write_text(f"version,error\n0,0.5\n1,{second}\n2,0.3\n")
        losses = (("d", 0, 0.5), ("d", 0, 0.5), ("g", 1, 0.5), ("g", 1, change), ("d", 2, 0.2), ("d", 2, ""), ("d", 2, 0.2))
        lines = "".join(f"{kind},{phases},{value}\n" for kind, phases, value in losses)
        (folder / "history.csv").write_text(f"phase,phases,latent_validation\n{lines}")
    folders = {seed: tmp_path / str(seed) for seed in range(3)}
    agreed = {seed: folders[seed] for seed in (0, 1)}
    for claim in (written.first_versions_claim, written.latent_claim):
        assert claim("x", agreed).answer == YES
        assert claim("x", folders).answer == OPEN
    assert "0.500 → 0.400, best 0.300" in written.first_versions_claim("x", agreed).numbers


def test_a_row_keeps_some_of_its_seeds():
    """By number, in the order asked for."""
    row = RowResult((4, 7), np.array([[4.0], [7.0]]), np.array([[[4.0], [7.0]]]), np.array([0.4, 0.7]))
    assert row.of([7]).values.tolist() == [[7.0]]
    assert row.of([7]).drawn.tolist() == [[[7.0]]]
    assert isinstance(study(ours=[0.1, 0.2]), Results)
