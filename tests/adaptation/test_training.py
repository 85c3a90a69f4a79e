"""Training without pairs: who is compared with whom, who validates, and when a generator is kept."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from patients_in_kernels import write_patient
from scipy import ndimage

import stan_ct
from stan_ct.adaptation.matching import MARGIN, TRAITS, cut_patches, held_back, match
from stan_ct.adaptation.page import worth
from stan_ct.adaptation.run import check_settings
from stan_ct.adaptation.scans import find_patients
from stan_ct.adaptation.settings import AdaptationError, AdaptSettings
from stan_ct.adaptation.training import Matched, Trial, judge, population_errors
from stan_ct.ct.hounsfield import HUWindow
from stan_ct.networks.config import LossSettings
from stan_ct.networks.losses import added_terms

SIDE = 256 + 2 * MARGIN


@pytest.mark.parametrize(("number", "validate"), [(10, 5), (11, 5), (20, 5), (24, 6), (40, 10)])
def test_a_quarter_of_the_patients_validates_and_five_at_least(number, validate):
    """They are spread, and as many or more train."""
    held = held_back(number)
    assert held.sum() == validate
    assert (~held).sum() >= validate
    assert held[: number // 2].any()
    assert held[number // 2 :].any()


def test_like_is_matched_with_like():
    """A patch of lung gets one of lung; another seed draws others, the same seed the same."""
    rng = np.random.default_rng(0)
    lung, tissue = np.eye(TRAITS)[[1, 4]]
    targets = np.concatenate([lung + 0.01 * rng.normal(size=(9, TRAITS)), tissue + 0.01 * rng.normal(size=(9, TRAITS))])
    sources = np.stack([lung, tissue] * 5)
    chosen = match(sources, targets, 0)
    assert ((chosen >= 9) == (np.arange(10) % 2 == 1)).all()
    assert (match(sources, targets, 0) == chosen).all()
    assert (match(sources, targets, 1) != chosen).any()


def test_patches_are_those_of_the_slices(sites):
    """Source and filtered source lie in the same place; the noisier patient has more noise in its traits."""
    patient = find_patients([str(sites / "A")], 2)["SOFT"][0]
    double = cut_patches(patient, lambda hu, spacing: 2 * hu, 0)
    assert double.images.shape[1:] == (2, SIDE, SIDE)
    source, filtered = np.moveaxis(double.images.astype(int), 1, 0)
    inside = source > -900
    assert np.abs(filtered - 2 * source)[inside].max() <= 1
    noise = [
        cut_patches(find_patients([str(sites / s)], 2)[k][0], None, 0).traits[:, -2].mean()
        for s, k in (("A", "SOFT"), ("B", "SHARP"))
    ]
    assert noise[1] > noise[0] + 0.2


@pytest.fixture(scope="module")
def records():
    """Noise of eight patients, whose filter leaves it 20 % too weak."""
    rng = np.random.default_rng(0)
    noise = ndimage.gaussian_filter(rng.normal(0, 60, (16, 2, SIDE, SIDE)), (0, 0, 1, 1))
    images = np.stack([noise[:, 0] / 2, 0.8 * noise[:, 0], noise[:, 1]], axis=1)
    return Matched((64, 16), np.rint(images).astype(np.int16), np.repeat(np.arange(8), 2))


@pytest.mark.parametrize(
    ("generator", "kept"),
    [
        (lambda x: 1.25 * x, True),
        (lambda x: x, False),
        (lambda x: 0.9 * x, False),
        (lambda x: x + np.random.default_rng(1).normal(0, 0.1, x.shape), False),
    ],
    ids=["right", "identity", "weaker", "white noise"],
)
def test_a_generator_is_kept_if_it_wins(records, generator, kept):
    """What brings the features nearer is kept; what does nothing, or the wrong thing, is not."""
    window = HUWindow(-1000.0, 1000.0)
    trial = judge(records, generator, window)
    assert trial.kept == kept
    assert (np.mean(trial.after) < np.mean(trial.before)) == kept
    assert trial.patients == 8
    assert ("is part of the model" in worth(trial)) == kept


def test_a_generator_is_kept_from_a_share_of_the_resamplings(records, monkeypatch):
    """G is right for most patients and wrong for the others: it wins in some of the samples, and that share decides."""
    gains = np.repeat(np.where(np.arange(8) < 5, 1.25, 0.9), 2)[:, None, None, None]
    batches = itertools.cycle((gains[:8], gains[8:]))

    def mixed(patches):
        return next(batches) * patches

    window = HUWindow(-1000.0, 1000.0)
    share = judge(records, mixed, window).share
    assert 0.5 < share < 1
    for limit, kept in ((share, True), (share + 1e-6, False)):
        monkeypatch.setattr("stan_ct.adaptation.training.SURE", limit)
        assert judge(records, mixed, window).kept == kept


def test_population_errors_compare_means():
    """Patches in another order are the same population."""
    patches = np.random.default_rng(0).normal(0, 50, (4, 32, 32)) * np.arange(1, 5)[:, None, None]
    assert max(population_errors(patches)(patches[::-1]).values()) < 1e-12
    assert population_errors(patches)(1.5 * patches)["contrast"] > 1


def test_losses_without_pairs_hold_to_the_input():
    """Low pass and squared loss compare with what is expected, whatever the target; the texture loss with the target."""
    rng = np.random.default_rng(0)
    target, expected, made = (rng.normal(0, 0.1, (1, 64, 64, 1)).astype("float32") for _ in range(3))
    settings = LossSettings(low_pass_weight=1, squared_weight=1, texture_weight=1, unpaired=True)
    terms = added_terms(target, expected, made, settings, HUWindow())
    other = added_terms(2 * target, expected, made, settings, HUWindow())
    assert {name for name in terms if float(terms[name]) != float(other[name])} == {"texture"}
    same = added_terms(target, made, made, settings, HUWindow())
    assert float(same["low_pass"]) == float(same["squared"]) == 0


def test_what_lies_beside_the_model_is_no_scratch(tmp_path):
    """Only a folder that a training has left gives way to a training; without one it does not matter."""
    settings = AdaptSettings(("A",), ("B",), str(tmp_path / "model"), minutes=1)
    kept = tmp_path / "model.training" / "thesis.txt"
    kept.parent.mkdir()
    check_settings(settings)
    kept.touch()
    with pytest.raises(AdaptationError, match="holds something else"):
        check_settings(settings)
    assert kept.exists()
    check_settings(replace(settings, minutes=0))
    (kept.parent / "model.sha256").touch()
    check_settings(settings)


@pytest.mark.usefixtures("unoptimized_graphs", "shallow_networks")
def test_adapt_trains_and_says_what_it_was_worth(tmp_path, monkeypatch):
    """A model is written either way and the scratch folder goes; with a patient too few nothing is trained, and it says so."""
    monkeypatch.setattr("stan_ct.adaptation.matching.VALIDATING", 1)
    monkeypatch.setattr("stan_ct.adaptation.run.VALIDATING", 1)
    for seed in range(2):
        write_patient(tmp_path / "A", "SOFT", seed)
        write_patient(tmp_path / "B", "SHARP", 10 + seed)
        if not seed:
            few = stan_ct.adapt(tmp_path / "A", tmp_path / "B", tmp_path / "few", minutes=30)
    assert (few.trial.kept, few.trial.patients) == (False, 1)
    assert "it takes 10 patients of each kernel" in (tmp_path / "few" / "report" / "report.html").read_text()
    assert few.config.method == "kernel_filter"

    made = stan_ct.adapt(tmp_path / "A", tmp_path / "B", tmp_path / "model", minutes=0.01)
    assert len(made.trial.before) == len(made.trial.after) == 5
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["training"]["minutes"] == 0.01
    assert config["training"]["trial"]["patches"] == [3, 3]
    assert config["method"] == ("unet" if made.trial.kept else "kernel_filter")
    assert not (tmp_path / "model.training").exists()


@pytest.mark.usefixtures("unoptimized_graphs", "shallow_networks")
def test_a_kept_generator_is_part_of_the_model(tmp_path, monkeypatch):
    """G goes with the filters, without D and without a judge, and the model standardizes with it."""
    monkeypatch.setattr("stan_ct.adaptation.matching.VALIDATING", 1)
    monkeypatch.setattr("stan_ct.adaptation.run.VALIDATING", 1)
    monkeypatch.setattr("stan_ct.adaptation.training.judge", lambda *_: Trial(True, (0.2,) * 5, (0.1,) * 5, 0.9, 1, (3, 3)))
    for seed in range(2):
        write_patient(tmp_path / "A", "SOFT", seed)
        write_patient(tmp_path / "B", "SHARP", 10 + seed)
    made = stan_ct.adapt(tmp_path / "A", tmp_path / "B", tmp_path / "model", minutes=0.01)
    assert made.config.method == "unet"
    assert made.config.front_end.filters["SOFT"] == made.filters["SOFT"].filter
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert "generator.npz" in names
    assert not names & {"discriminator.npz", "judge.npz"}
    series = stan_ct.load_series(stan_ct.find_series(tmp_path / "A").series[0])
    assert stan_ct.load_model(tmp_path / "model").standardize(series).volume.shape == series.volume.shape
