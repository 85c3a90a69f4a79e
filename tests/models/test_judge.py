"""The judge of check 2: what it lets pass, and everything that it must not."""

from __future__ import annotations

import doctest
import re

import numpy as np
import pytest
from scipy import ndimage

from stan_ct.models import judge as module
from stan_ct.models.judge import (
    GROUPS,
    LATTICE_MARGIN,
    LEAST_SPREAD,
    MIN_PATCHES,
    NUM_FEATURES,
    PASSED,
    THRESHOLD,
    Judge,
    feature_name,
    patch_features,
)

SIDE = 256


def patches(seed: int, number: int) -> dict[str, np.ndarray]:
    """Pairs of one patient, (number, 256, 256) HU each: anatomy and noise of one scan in several kernels.

    `raw` is the soft source, `source` what a filter made of it, `target` the sharp kernel, `output` nearly the target,
    `other` the filter of another kernel.
    """
    rng = np.random.default_rng(seed)
    found: dict[str, list[np.ndarray]] = {name: [] for name in ("raw", "source", "target", "output", "other")}
    for _ in range(number):
        noise = rng.normal(0, 60 * rng.uniform(0.8, 1.3), (SIDE, SIDE))  # dose differs
        shapes = ndimage.gaussian_filter(rng.normal(0, 1, (SIDE, SIDE)), rng.uniform(8, 20))
        anatomy = np.where(shapes > shapes.std(), 40.0, -800.0)
        scan = anatomy + noise
        detail = scan - ndimage.gaussian_filter(scan, 1.0)
        found["raw"].append(ndimage.gaussian_filter(scan, 1.0))
        found["target"].append(ndimage.gaussian_filter(scan, 0.5))
        found["source"].append(found["target"][-1] - 0.08 * detail)
        found["output"].append(found["target"][-1] - 0.01 * detail + rng.normal(0, 1, scan.shape))
        found["other"].append(found["raw"][-1] + 0.5 * detail)
    return {name: np.float32(images) for name, images in found.items()}


FITTED, UNSEEN = patches(1, 96), patches(2, 40)


@pytest.fixture(scope="module")
def judge() -> Judge:
    """Fitted to targets and outputs of one patient."""
    return Judge.fit(FITTED["source"], [FITTED["target"], FITTED["output"]])


def share(judge: Judge, outputs: np.ndarray) -> float:
    """Share of the unseen patient's patches that pass."""
    return float(np.mean(judge(UNSEEN["source"], outputs) >= THRESHOLD))


@pytest.mark.parametrize("kind", ["target", "output"])
def test_targets_and_outputs_of_an_unseen_patient_pass(judge, kind):
    """95 % of the patches at least."""
    assert share(judge, UNSEEN[kind]) >= 0.95


def half_of_the_source(target: np.ndarray) -> np.ndarray:
    """The left half unstandardized."""
    return np.concatenate([UNSEEN["raw"][..., : SIDE // 2], target[..., SIDE // 2 :]], axis=-1)


def with_a_box(target: np.ndarray) -> np.ndarray:
    """A square of air, 32 px."""
    boxed = target.copy()
    boxed[:, 77:109, 90:122] = -1000
    return boxed


def with_a_lattice(target: np.ndarray) -> np.ndarray:
    """A checkerboard of 3 HU."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return target + 3 * (-1.0) ** (rows + columns)


BAD = {
    "source untouched": lambda target: UNSEEN["raw"],
    "filter of another kernel": lambda target: UNSEEN["other"],
    "white noise": lambda target: np.random.default_rng(3).normal(-500, 200, target.shape),
    "blur of .6 px": lambda target: ndimage.gaussian_filter(target, (0, 0.6, 0.6)),
    "+ 20 HU noise": lambda target: target + np.random.default_rng(4).normal(0, 20, target.shape),
    "air": lambda target: np.full_like(target, -1000),
    "box": with_a_box,
    "lattice": with_a_lattice,
    "half a patch of source": half_of_the_source,
    "the filter alone": lambda target: UNSEEN["source"],
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_wrong_is_rejected(judge, kind):
    """At most 5 % pass, though the judge has seen none of it."""
    assert share(judge, np.float32(BAD[kind](UNSEEN["target"]))) <= 0.05


def test_a_judge_of_unrelated_patches_rejects_its_targets():
    """The judge looks at the pair: the target of another source is no output of this one."""
    judge = Judge.fit(FITTED["source"], [FITTED["target"]])
    assert share(judge, UNSEEN["target"][::-1]) <= 0.05


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("+ 20 HU noise", r"(power (of the change )?at 0\.\d\d cycles/px|\w+ texture.*) too high"),
        ("blur of .6 px", r"power (of the change )?at 0\.\d\d cycles/px too (low|high)"),
        ("box", r"least texture of a square of 16 px too low|largest change of a square of (8|16) px too high"),
        ("lattice", "pattern of 2 px too high"),
        ("air", r"power (of the change )?at 0\.\d\d cycles/px too low"),
        ("half a patch of source", "least texture of a square of 16 px too low"),
    ],
)
def test_a_verdict_is_explained(judge, kind, words):
    """The feature that is farthest off is named, with its direction."""
    found = judge.explain(UNSEEN["source"][:6], np.float32(BAD[kind](UNSEEN["target"]))[:6])
    assert all(re.fullmatch(words, reason) for reason in found), found


def test_what_is_no_number_is_rejected_and_named(judge):
    """One pixel without a value."""
    broken = UNSEEN["target"][:1].copy()
    broken[0, 3, 3] = np.nan
    assert not judge(UNSEEN["source"][:1], broken) >= THRESHOLD
    assert judge.explain(UNSEEN["source"][:1], broken) == ["values that are no numbers"]


def test_features_have_names():
    """Each its own."""
    names = [feature_name(group, number) for group in GROUPS for number in range(NUM_FEATURES[group])]
    assert len(set(names)) == len(names) == 48 + 5 + 3
    assert doctest.testmod(module).failed == 0


def test_limits_are_those_of_patches_that_were_not_fitted(judge):
    """Fewer than 1 % of fitted patches are beyond a limit, which leaves room for unseen ones; plausibility is .5 there."""
    assert (PASSED, LATTICE_MARGIN, LEAST_SPREAD, THRESHOLD) == (0.995, 2.0, 0.03, 0.5)
    distances = judge.distances(FITTED["source"], FITTED["target"])
    assert distances.shape == (len(GROUPS), 96)
    assert (distances > 1).mean() <= 0.01
    worst = distances.max(0)
    np.testing.assert_allclose(judge(FITTED["source"], FITTED["target"]), 2.0 ** -(worst**2))
    for limit, verdict in ((0.999, False), (1.001, True)):
        scaled = Judge(judge.mean, judge.scale, judge.precision, {g: v * worst[0] * limit for g, v in judge.limit.items()})
        passed = scaled(FITTED["source"][:1], FITTED["target"][:1]) >= THRESHOLD
        assert passed[0] == verdict


def test_features_by_hand():
    """Twice the source has log 4 more power in every band and tile; a step of 100 HU in one spot moves it by log 101."""
    rng = np.random.default_rng(5)
    source = rng.normal(0, 100, (1, SIDE, SIDE)).astype(np.float32)
    found = patch_features(source, 2 * source)
    np.testing.assert_allclose(found["spectrum"][0, :24], np.log(4), atol=0.01)
    np.testing.assert_allclose(found["spectrum"][0, 24:], 0, atol=0.01)
    np.testing.assert_allclose(found["places"][0, :3], np.log(4), atol=0.01)
    spot = source.copy()
    spot[0, 8:16, 24:32] += 100
    assert patch_features(source, spot)["places"][0, 4] == pytest.approx(np.log(101))
    assert patch_features(source, spot)["places"][0, 3] == pytest.approx(np.log(26))  # a quarter of its tile


def test_a_larger_image_is_judged_by_its_worst_patch(judge):
    """One bad quarter of 512 x 512 pixels is as implausible as it is alone."""
    good, source = UNSEEN["target"][:4].copy(), UNSEEN["source"][:4]
    good[2] += np.random.default_rng(6).normal(0, 20, good[2].shape)

    def square(four: np.ndarray) -> np.ndarray:
        return np.block([[four[0], four[1]], [four[2], four[3]]])[None]

    assert judge(square(source), square(good))[0] == pytest.approx(judge(source, good).min())


def test_a_judge_is_data(judge):
    """Its arrays, less than 100 kB, make a judge that judges the same."""
    arrays = judge.arrays()
    again = Judge.from_arrays(arrays)
    assert sum(values.nbytes for values in arrays.values()) < 100_000
    np.testing.assert_array_equal(again(UNSEEN["source"], UNSEEN["output"]), judge(UNSEEN["source"], UNSEEN["output"]))


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("version", None, "expected version 2, got one without a version: fit it again with stan-ct fit-judge"),
        ("version", np.array(1.0), "expected version 2, got version 1.0"),
        ("mean_spectrum", None, r"expected mean_spectrum of shape \(48,\), got none"),
        ("precision_places", np.ones((5, 4)), r"expected precision_places of shape \(5, 5\), got \(5, 4\)"),
        ("limit_lattice", np.zeros(()), "expected limit_lattice above 0, got 0"),
        ("scale_lattice", np.array([1.0, -1.0, 1.0]), "expected scale_lattice above 0, got -1"),
    ],
)
def test_arrays_that_are_no_judge(judge, name, values, words):
    """What is missing, of another shape, or would divide by nothing is named."""
    arrays = judge.arrays() | {name: values}
    if values is None:
        del arrays[name]
    with pytest.raises(ValueError, match=words):
        Judge.from_arrays(arrays)


def test_a_judge_needs_enough_patches():
    """39 patches are too few, 40 are enough."""
    assert MIN_PATCHES == 40
    with pytest.raises(ValueError, match="needs 40 validation patches at least, not 39"):
        Judge.fit(FITTED["source"][:39], [FITTED["target"][:39]])
    assert Judge.fit(FITTED["source"][:40], [FITTED["target"][:40]]).limit["spectrum"] > 0


def test_a_lattice_is_seen_beside_the_border_of_the_body():
    """A sharpened border of 800 HU, a checkerboard of 2 HU in noise of 5 HU: its power is ten times that beside at least."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    body = 800.0 * (np.hypot(rows - 128, columns - 110) < 90)
    change = 1.5 * (body - ndimage.gaussian_filter(body, 1)) + np.random.default_rng(9).normal(0, 5, body.shape)
    source = body[None] - 800
    plain, with_board = source + change, source + change + 2 * (-1.0) ** (rows + columns)
    assert patch_features(source, plain)["lattice"][0] == pytest.approx(np.zeros(3), abs=1.0)
    assert patch_features(source, with_board)["lattice"][0, 0] > np.log(10)


def test_a_feature_that_hardly_varies_has_a_spread_of_three_percent():
    """All patches alike; where they vary by more, the spread is theirs."""
    alike = np.repeat(np.random.default_rng(10).normal(0, 40, (1, SIDE, SIDE)), MIN_PATCHES, axis=0)
    for varied, expected in ((0.015, LEAST_SPREAD), (0.05, 0.1)):
        factors = np.where(np.arange(MIN_PATCHES) % 2, np.exp(varied), np.exp(-varied))[:, None, None]
        judge = Judge.fit(alike, [alike * 2 * factors])
        np.testing.assert_allclose(judge.scale["spectrum"][:24], expected, rtol=0.02)
