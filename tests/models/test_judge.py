"""The judge of check 2: what it lets pass, and everything that it must not."""

from __future__ import annotations

import doctest
import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy import ndimage

from stan_ct.models import judge as module
from stan_ct.models.judge import (
    GROUPS,
    LEAST_SPREAD,
    MARGIN,
    MIN_PATCHES,
    NUM_FEATURES,
    PASSED,
    THRESHOLD,
    Judge,
    feature_name,
)
from stan_ct.models.judge_features import pair_features

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


@cache
def fitted_pairs() -> dict[str, np.ndarray]:
    """Of the patient that judges are fitted to."""
    return patches(1, 96)


@cache
def unseen_pairs() -> dict[str, np.ndarray]:
    """Of another patient."""
    return patches(2, 40)


@pytest.fixture(scope="module")
def judge() -> Judge:
    """Fitted to targets and outputs of one patient."""
    return Judge.fit(fitted_pairs()["source"], [fitted_pairs()["target"], fitted_pairs()["output"]])


def share(judge: Judge, outputs: np.ndarray) -> float:
    """Share of the unseen patient's patches that pass."""
    return float(np.mean(judge(unseen_pairs()["source"], outputs) >= THRESHOLD))


@pytest.mark.parametrize("kind", ["target", "output"])
def test_targets_and_outputs_of_an_unseen_patient_pass(judge, kind):
    """95 % of the patches at least."""
    assert share(judge, unseen_pairs()[kind]) >= 0.95


def half_of_the_source(target: np.ndarray) -> np.ndarray:
    """The left half unstandardized."""
    return np.concatenate([unseen_pairs()["raw"][..., : SIDE // 2], target[..., SIDE // 2 :]], axis=-1)


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
    "source untouched": lambda target: unseen_pairs()["raw"],
    "filter of another kernel": lambda target: unseen_pairs()["other"],
    "white noise": lambda target: np.random.default_rng(3).normal(-500, 200, target.shape),
    "blur of .6 px": lambda target: ndimage.gaussian_filter(target, (0, 0.6, 0.6)),
    "+ 20 HU noise": lambda target: target + np.random.default_rng(4).normal(0, 20, target.shape),
    "air": lambda target: np.full_like(target, -1000),
    "box": with_a_box,
    "lattice": with_a_lattice,
    "half a patch of source": half_of_the_source,
    "the filter alone": lambda target: unseen_pairs()["source"],
    "moved by half a px": lambda target: ndimage.shift(target, (0, 0.5, 0), mode="nearest"),
    "turned": lambda target: np.rot90(target, axes=(1, 2)),
    "+ 10 HU": lambda target: target + 10,
    "5 % of HU": lambda target: 1.05 * (target + 1000) - 1000,
    "rows that differ": lambda target: target + np.random.default_rng(5).normal(0, 5, (len(target), SIDE, 1)),
    "median": lambda target: ndimage.median_filter(target, (1, 3, 3)),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_wrong_is_rejected(judge, kind):
    """At most 5 % pass, though the judge has seen none of it."""
    assert share(judge, np.float32(BAD[kind](unseen_pairs()["target"]))) <= 0.05


def test_a_judge_of_unrelated_patches_rejects_its_targets():
    """The judge looks at the pair: the target of another source is no output of this one."""
    judge = Judge.fit(fitted_pairs()["source"], [fitted_pairs()["target"]])
    assert share(judge, unseen_pairs()["target"][::-1]) <= 0.05


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("+ 20 HU noise", r"(power unrelated to the source at 0\.\d\d cycles/px|(mean|largest) .*) too high"),
        ("blur of .6 px", r"gain at 0\.\d\d cycles/px too low|mean texture too low"),
        ("box", r"least texture too low|(largest|spread) (change of squares of (8|16|32) px|texture.*) too high"),
        ("lattice", "pattern of 2 px too high"),
        ("air", r"mean of \w+( tissue)? too low"),
        ("half a patch of source", r"(least|mean) texture too low|spread texture too high|gain at 0\.\d\d cycles/px too low"),
    ],
)
def test_a_verdict_is_explained(judge, kind, words):
    """The feature that is farthest off is named, with its direction."""
    found = judge.explain(unseen_pairs()["source"][:6], np.float32(BAD[kind](unseen_pairs()["target"]))[:6])
    assert all(re.fullmatch(words, reason) for reason in found), found


def test_what_is_no_number_is_rejected_and_named(judge):
    """One pixel without a value."""
    broken = unseen_pairs()["target"][:1].copy()
    broken[0, 3, 3] = np.nan
    assert not judge(unseen_pairs()["source"][:1], broken) >= THRESHOLD
    assert judge.explain(unseen_pairs()["source"][:1], broken) == ["values that are no numbers"]


def test_features_have_names():
    """Each its own."""
    names = [feature_name(group, number) for group in GROUPS for number in range(NUM_FEATURES[group])]
    assert len(set(names)) == len(names) == 2 * 24 + 7 + 6 + 6 * 4
    assert doctest.testmod(module).failed == 0


def test_limits_are_those_of_patches_that_were_not_fitted(judge):
    """Fewer than 1 % of fitted patches are beyond a limit, which leaves room for unseen ones; plausibility is .5 there."""
    assert (PASSED, THRESHOLD, min(MARGIN.values()), max(MARGIN.values())) == (0.98, 0.5, 1.5, 2.5)
    distances = judge.distances(fitted_pairs()["source"], fitted_pairs()["target"])
    assert distances.shape == (len(GROUPS), 96)
    assert (distances > 1).mean() <= 0.01
    worst = distances.max(0)
    np.testing.assert_allclose(judge(fitted_pairs()["source"], fitted_pairs()["target"]), 2.0 ** -(worst**2))
    for limit, verdict in ((0.999, False), (1.001, True)):
        scaled = replace(judge, limit={g: v * worst[0] * limit for g, v in judge.limit.items()})
        passed = scaled(fitted_pairs()["source"][:1], fitted_pairs()["target"][:1]) >= THRESHOLD
        assert passed[0] == verdict


def test_features_by_hand():
    """Twice the source: gain log 2, nothing unrelated. Noise of half its size: a quarter of its power is unrelated."""
    rng = np.random.default_rng(5)
    source = rng.normal(0, 100, (SIDE, SIDE)).astype(np.float32)
    found = pair_features(source, 2 * source).groups
    np.testing.assert_allclose(found["gain"], np.log(2), atol=0.001)
    np.testing.assert_allclose(found["rest"], np.log(0.001), atol=0.5)
    found = pair_features(source, source + rng.normal(0, 50, source.shape)).groups
    np.testing.assert_allclose(found["gain"][4:-2], 0, atol=0.1)
    np.testing.assert_allclose(found["rest"][4:-2], np.log(0.25), atol=0.3)


def test_places_by_hand():
    """Squares of 8 px overlap by half: one that is 20 HU higher has log 400, its neighbours a quarter or half of that."""
    source = np.zeros((SIDE, SIDE), np.float32)
    spot = source.copy()
    spot[8:16, 24:32] += 20
    moved = pair_features(source, spot).places[0].found.reshape(63, 63)
    np.testing.assert_allclose(np.exp(moved[1:4, 5:8]) - 0.05, np.square([[5, 10, 5], [10, 20, 10], [5, 10, 5]]), rtol=1e-4)
    assert moved[10, 10] == pytest.approx(np.log(0.05))


def test_values_by_hand():
    """+ 17 HU on soft tissue is 1; an image moved by half a px has a position of 1.5, in thirds of a px."""
    tissue = np.full((SIDE, SIDE), 50.0, np.float32)
    names = [feature_name("values", number) for number in range(7)]
    found = dict(zip(names, pair_features(tissue, tissue + 17).groups["values"], strict=True))
    assert found["mean of soft tissue"] == pytest.approx(1, abs=0.01)
    assert found["mean of lung"] == found["mean of bone"] == 0
    shapes = ndimage.gaussian_filter(np.random.default_rng(3).normal(0, 3000, (SIDE, SIDE)), 4)
    found = dict(
        zip(names, pair_features(shapes, ndimage.shift(shapes, (-0.5, 0), mode="nearest")).groups["values"], strict=True)
    )
    assert found["position by rows"] == pytest.approx(1.5, abs=0.1)
    assert found["position by columns"] == pytest.approx(0, abs=0.1)


def test_waves_and_rows_by_hand():
    """A wave of 1 HU in a change of 5 HU, and rows that differ by 2 HU, stand far above the power beside; noise does not."""
    rng = np.random.default_rng(7)
    source = rng.normal(0, 50, (SIDE, SIDE))
    change = rng.normal(0, 5, source.shape)
    names = [feature_name("pattern", number) for number in range(6)]
    wave = np.cos(2 * np.pi * np.add.outer(3 * np.arange(SIDE), 2 * np.arange(SIDE)) / 37)
    for more, name, least in ((0, "", 0), (wave, "a wave", 3.5), (rng.normal(0, 2, (SIDE, 1)), "differences between rows", 3)):
        found = dict(zip(names, pair_features(source, source + change + more).groups["pattern"], strict=True))
        assert found.pop(name, np.inf) > least
        assert found["differences between columns"] < 1
        assert name or max(found.values()) < 3


def test_a_larger_image_is_judged_by_its_worst_patch(judge):
    """One bad quarter of 512 x 512 pixels is as implausible as it is alone."""
    good, source = unseen_pairs()["target"][:4].copy(), unseen_pairs()["source"][:4]
    good[2] += np.random.default_rng(6).normal(0, 20, good[2].shape)

    def square(four: np.ndarray) -> np.ndarray:
        return np.block([[four[0], four[1]], [four[2], four[3]]])[None]

    assert judge(square(source), square(good))[0] == pytest.approx(judge(source, good).min())


def test_a_judge_is_data(judge):
    """Its arrays, less than 60 kB, make a judge that judges the same."""
    arrays = judge.arrays()
    again = Judge.from_arrays(arrays)
    assert sum(values.nbytes for values in arrays.values()) < 60_000
    chosen = unseen_pairs()["source"][:5], unseen_pairs()["output"][:5]
    np.testing.assert_allclose(again(*chosen), judge(*chosen), rtol=1e-9)


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("version", None, "expected version 3, got one without a version: fit it again with stan-ct fit-judge"),
        ("version", np.array(2.0), "expected version 3, got version 2.0"),
        ("mean_gain", None, r"expected array mean_gain of shape \(24,\), got none"),
        ("slope_rest", np.ones((24, 28)), r"expected array slope_rest of shape \(28, 24\), got \(24, 28\)"),
        ("precision_places", np.ones((5, 4)), r"expected array precision_places of shape \(24, 24\), got \(5, 4\)"),
        ("limit_pattern", np.zeros(()), "expected limit_pattern above 0, got 0"),
        ("scale_values", np.array([1.0, -1.0, 1.0, 1.0, 1.0, 1.0, 1.0]), "expected scale_values above 0, got -1"),
        ("source", np.zeros((2, 28)), "expected source above 0, got 0"),
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
        Judge.fit(fitted_pairs()["source"][:39], [fitted_pairs()["target"][:39]])
    assert Judge.fit(fitted_pairs()["source"][:40], [fitted_pairs()["target"][:40]]).limit["gain"] > 0


def test_a_lattice_is_seen_beside_the_border_of_the_body():
    """A sharpened border of 800 HU, a checkerboard of 2 HU in noise of 5 HU: its power is ten times that beside at least."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    body = 800.0 * (np.hypot(rows - 128, columns - 110) < 90)
    change = 1.5 * (body - ndimage.gaussian_filter(body, 1)) + np.random.default_rng(9).normal(0, 5, body.shape)
    plain, with_board = body - 800 + change, body - 800 + change + 2 * (-1.0) ** (rows + columns)
    assert pair_features(body - 800, plain).groups["pattern"][:3] == pytest.approx(np.zeros(3), abs=1.0)
    assert pair_features(body - 800, with_board).groups["pattern"][0] > np.log(10)


def test_a_feature_that_hardly_varies_has_the_least_spread():
    """All patches alike; where gains vary by more, which nothing in the source says, the spread is theirs."""
    alike = np.repeat(np.random.default_rng(10).normal(0, 40, (1, SIDE, SIDE)), MIN_PATCHES, axis=0)
    for varied, expected in ((0.003, LEAST_SPREAD["gain"]), (0.05, 0.05)):
        factors = np.where(np.arange(MIN_PATCHES) % 2, np.exp(varied), np.exp(-varied))[:, None, None]
        judge = Judge.fit(alike, [alike * 2 * factors])
        np.testing.assert_allclose(judge.scale["gain"], expected, rtol=0.02)


def test_what_sources_of_a_protocol_are_like_is_learnt():
    """Two protocols whose noise grows by 10 % and by 30 %: each passes as its own, not as the other."""
    rng = np.random.default_rng(11)
    names, factors, sources = ("fine", "coarse"), (1.1, 1.3), []
    for sigma in (0.6, 1.2):
        noise = rng.normal(0, 100, (60, SIDE, SIDE)) * rng.uniform(0.8, 1.2, (60, 1, 1))
        sources.append(ndimage.gaussian_filter(noise, (0, sigma, sigma)).astype(np.float32))
    made = [factor * source for factor, source in zip(factors, sources, strict=True)]
    fitted, unseen = np.s_[:40], np.s_[40:]
    judge = Judge.fit(np.concatenate([s[fitted] for s in sources]), [np.concatenate([m[fitted] for m in made])])
    for name, source, own, other in zip(names, sources, made, factors[::-1], strict=True):
        assert judge.passed(source[unseen], own[unseen]) >= 0.95, name
        assert judge.passed(source[unseen], other * source[unseen]) <= 0.05, name
