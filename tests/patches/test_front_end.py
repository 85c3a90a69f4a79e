"""The front end of records: the choice among amplitude, Wiener and blends on slices that validate."""

import numpy as np
import pytest

from stan_ct.ct.filters import RadialFilter, fit_radial_filter
from stan_ct.patches import front_end
from stan_ct.patches.front_end import choose_filter, validation_score
from stan_ct.patches.pairs import PairingError

SPACING = (0.7, 0.7)
SHARP = RadialFilter((0.0, 2.0, 4.0, 8.0), (1.0, 1.2, 2.4, 2.0), floor=-1024.0)


def pair(seed, side=96):
    """A slice with air above water and noise of 15 HU, and what a sharp kernel, 5 HU of noise and a file make of it."""
    rng = np.random.default_rng(seed)
    source = rng.normal(0, 15, (side, side)).astype(np.float32)
    source[: side // 5] -= 990
    source = np.maximum(source, -1024)
    noise = rng.normal(0, 5, (side, side)).astype(np.float32)
    return source, np.maximum(np.rint(SHARP(source, SPACING) + noise), -1024), SPACING


INSIDE = np.zeros((256, 256), bool)
TRAIN = [pair(seed) for seed in range(3)]


@pytest.fixture(scope="module")
def chosen():
    """Choice among the filters of three slices on two others, and the score it went by."""
    validation = [pair(seed, 256) for seed in (8, 9)]
    score = validation_score("SOFT", validation, [INSIDE] * 2, fit_radial_filter(TRAIN))
    return choose_filter(TRAIN, score), score


def test_a_blend_is_as_good_as_either(chosen):
    """On slices that validate its score is below those of both filters by ratio of spectra; here clipping makes it win."""
    choice, score = chosen
    amplitude, wiener = (score(fit_radial_filter(TRAIN, method)) for method in ("amplitude", "wiener"))
    assert amplitude == pytest.approx(1)
    assert choice.fit == "blend"
    assert choice.score == score(choice.filter) < 0.8 * min(amplitude, wiener)
    assert choice.filter.floor == -1024
    assert len(choice.exponents) == front_end.BANDS
    assert choice.taper in front_end.TAPERS


def test_a_blend_is_as_good_as_either_on_other_slices(chosen):
    """On slices that chose nothing the blend is better too, in errors and HU RMSE together."""
    other = validation_score("SOFT", [pair(20, 256)], [INSIDE], fit_radial_filter(TRAIN))
    assert other(chosen[0].filter) < min(other(fit_radial_filter(TRAIN, method)) for method in ("amplitude", "wiener"))


@pytest.mark.parametrize("method", ["amplitude", "wiener"])
def test_a_ratio_of_spectra_can_win(method):
    """Where a filter without clipping scores best, it is chosen."""
    wanted = fit_radial_filter(TRAIN, method)
    choice = choose_filter(
        TRAIN, lambda curve: float(np.abs(np.subtract(curve.gain, wanted.gain)).sum()) + (curve.floor is not None)
    )
    assert (choice.fit, choice.filter, choice.exponents) == (method, wanted, ())


def test_bands_are_chosen_apart():
    """With a score that asks for the Wiener filter below 3.6 lp/cm and the amplitude filter above, each band gets its own."""
    curves = front_end.fit_curves(TRAIN, 1.0)
    wanted = np.array(curves.blend((0, 0, 1, 1)).gain)
    choice = choose_filter(TRAIN, lambda curve: float(np.abs(np.array(curve.gain) - wanted).sum()))
    assert (choice.taper, choice.exponents) == (1.0, (0, 0, 1, 1))


def test_score_by_hand():
    """A filter that errs as the amplitude filter does scores 1; the target itself scores what the tolerances leave."""
    source = np.random.default_rng(1).normal(0, 20, (256, 256)).astype(np.float32).round()
    identity, double = RadialFilter((0.0, 9.0), (1.0, 1.0)), RadialFilter((0.0, 0.5, 9.0), (1.0, 2.0, 2.0))
    score = validation_score("SOFT", [(source, source, SPACING)], [INSIDE], double)
    assert score(double) == 1
    rmse = np.sqrt(np.mean((np.rint(double(source, SPACING)) - source) ** 2))
    assert 0.5 / (rmse + 0.5) / 2 < score(identity) < 0.5 / (rmse + 0.5) / 2 + 0.01


def test_what_lies_outside_the_field_of_view_does_not_count():
    """Whatever stands there in the target, the score is the same; nor does it count as soft tissue."""
    source, target, _ = pair(5, 256)
    outside = INSIDE.copy()
    outside[:40] = True
    other = np.where(outside, 300, target).astype(np.float32)
    scores = [validation_score("SOFT", [(source, hu, SPACING)], [outside], SHARP) for hu in (target, other)]
    assert scores[0](fit_radial_filter(TRAIN)) == scores[1](fit_radial_filter(TRAIN))
    outside[:77] = True  # 30.1 %
    with pytest.raises(PairingError):
        validation_score("SOFT", [(source, target, SPACING)], [outside], SHARP)


@pytest.mark.parametrize("slices", [[], [(np.full((256, 256), -1024.0, np.float32),) * 2 + (SPACING,)]])
def test_nothing_to_choose_on(slices):
    """Without validation slices, or soft tissue in them, the kernel is named and what to do."""
    with pytest.raises(PairingError, match=r"of kernel SOFT have none: choose --front_end=amplitude"):
        validation_score("SOFT", slices, [INSIDE] * len(slices), SHARP)
