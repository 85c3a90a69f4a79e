"""Step 3: patches out of a slice and back into it, and Eq. 7."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stan_ct.patches.fusion import UNTRUSTED_WEIGHT, Crop, extract, fuse, pad_to, patch_weight, rescale_hu
from stan_ct.patches.sampling import Patch, SamplingRule, coverage, grid_patches, random_patches

SHAPE = (72, 65)

weightings = st.sampled_from(["hann", "mean"])
crops = st.builds(Crop, *[st.integers(0, 12)] * 4)


@st.composite
def layouts(draw) -> list[Patch]:
    """Any way to lay patches on a slice: Step 1's random ones, grids, tiles, the whole slice, or anything at all."""
    kind = draw(st.sampled_from(["random", "grid", "tiles", "slice", "any"]))
    if kind == "random":
        rule = SamplingRule(sides=(16, 40), max_patches=draw(st.integers(1, 30)))
        return random_patches(np.ones(SHAPE, bool), np.random.default_rng(draw(st.integers(0, 99))), rule)
    if kind in ("grid", "tiles"):
        return grid_patches(SHAPE, 32, 32 if kind == "tiles" else draw(st.integers(4, 16)))
    if kind == "slice":
        return [Patch(0, 0, *SHAPE)]
    sides = [(draw(st.integers(1, SHAPE[0])), draw(st.integers(1, SHAPE[1]))) for _ in range(draw(st.integers(0, 6)))]
    return [Patch(draw(st.integers(0, SHAPE[0] - h)), draw(st.integers(0, SHAPE[1] - w)), h, w) for h, w in sides]


def slice_of_noise(seed: int) -> np.ndarray:
    """HU from air to bone with fractions, as float32."""
    return np.random.default_rng(seed).uniform(-1024, 3071, SHAPE).astype(np.float32)


@settings(max_examples=150)
@given(layouts(), weightings, st.sampled_from([None, 8, 32, 48]), st.integers(0, 99), st.data())
def test_untouched_patches_give_the_slice_back_bit_for_bit(patches, weighting, size, seed, data):
    """fuse(extract(x)) is x, for every layout, network size, weighting and crop."""
    image = slice_of_noise(seed)
    cut = [extract(image, [p], size)[0] for p in patches]
    chosen = data.draw(st.none() | st.lists(crops, min_size=len(patches), max_size=len(patches)))
    fused, covered = fuse(image, patches, [synthesized - c for synthesized, c in zip(cut, cut, strict=True)], weighting, chosen)
    assert fused.dtype == np.float32
    assert fused.tobytes() == image.tobytes()
    assert (covered == (coverage(SHAPE, patches) > 0)).all()


@settings(max_examples=100)
@given(layouts(), weightings, st.sampled_from([None, 8, 32]), st.sampled_from([1.0, -37.5]), st.data())
def test_a_constant_change_stays_that_constant(patches, weighting, size, change, data):
    """+1 HU in every patch is +1 HU wherever a patch lies, and 0 elsewhere, whatever the weights and crops."""
    changes = [np.full((size or p.height, size or p.width), change, np.float32) for p in patches]
    chosen = data.draw(st.none() | st.lists(crops, min_size=len(patches), max_size=len(patches)))
    fused, covered = fuse(np.zeros(SHAPE, np.float32), patches, changes, weighting, chosen)
    np.testing.assert_allclose(fused[covered], change, rtol=3e-6)
    assert not fused[~covered].any()


def test_mean_by_hand():
    """Changes 1 and 3 of two patches that share a column give 1, 2, 3, and nothing beside them."""
    patches = [Patch(0, 0, 1, 2), Patch(0, 1, 1, 2)]
    changes = [np.full((1, 2), 1, np.float32), np.full((1, 2), 3, np.float32)]
    fused, covered = fuse(np.full((1, 4), 10, np.float32), patches, changes, "mean")
    assert fused.tolist() == [[11, 12, 13, 10]]
    assert covered.tolist() == [[True, True, True, False]]


def test_hann_trusts_the_centre():
    """Where one patch has its centre and the other its edge, hann follows the centre; at equal weights it is the mean."""
    patches = [Patch(0, 0, 1, 4), Patch(0, 2, 1, 4)]
    changes = [np.zeros((1, 4), np.float32), np.ones((1, 4), np.float32)]
    fused, _ = fuse(np.zeros((1, 6), np.float32), patches, changes, "hann")
    # Weights across are .146 .854 .854 .146 (sin^2 of pi/8 and 3 pi/8), so the overlap holds .146/1 and .854/1.
    np.testing.assert_allclose(fused[0], [0, 0, 0.146447, 0.853553, 1, 1], atol=1e-6)


def test_cropped_borders_give_way_to_other_patches():
    """A cropped border counts for nothing beside another patch, and for all where it is alone."""
    patches = [Patch(0, 0, 1, 4), Patch(0, 2, 1, 4)]
    changes = [np.full((1, 4), 100, np.float32), np.zeros((1, 4), np.float32)]
    fused, covered = fuse(np.zeros((1, 6), np.float32), patches, changes, "mean", [Crop(left=2, right=2), Crop()])
    np.testing.assert_allclose(fused[0], [100, 100, 0, 0, 0, 0], atol=1e-3)
    assert covered.all()


def test_fuse_keeps_its_input():
    """The slice handed over is not changed, and one change too few is an error."""
    image = np.zeros((4, 4), np.float32)
    fuse(image, [Patch(0, 0, 4, 4)], [np.ones((4, 4), np.float32)])
    assert not image.any()
    with pytest.raises(ValueError, match="zip"):
        fuse(image, [Patch(0, 0, 4, 4)], [])


def test_changes_are_resized_to_their_patch():
    """A smaller patch takes the area mean of the change; a larger one a smooth ramp with the same ends and order."""
    ramp = np.array([[0, 2, 4, 6]] * 4, np.float32)
    fused, _ = fuse(np.zeros((2, 2), np.float32), [Patch(0, 0, 2, 2)], [ramp])
    assert fused.tolist() == [[1, 5], [1, 5]]
    fused, _ = fuse(np.zeros((8, 8), np.float32), [Patch(0, 0, 8, 8)], [ramp])
    assert (np.diff(fused, axis=1) > 0).all()
    np.testing.assert_allclose(fused, fused[:1].repeat(8, 0), atol=1e-5)
    assert fused.mean() == pytest.approx(3, abs=1e-5)


def test_extract_by_hand():
    """Without a size patches come as they are; with one, resizing keeps a constant and a patch of that size."""
    image = np.arange(20, dtype=np.float32).reshape(4, 5)
    assert extract(image, [Patch(1, 2, 2, 2), Patch(0, 0, 2, 2)], None).tolist() == [[[7, 8], [12, 13]], [[0, 1], [5, 6]]]
    assert extract(image, [Patch(1, 2, 2, 2)], 2).tolist() == [[[7, 8], [12, 13]]]
    mixed = extract(np.full((4, 5), 40, np.float32), [Patch(0, 0, 4, 4), Patch(1, 1, 2, 2)], 3)
    assert mixed.shape == (2, 3, 3)
    np.testing.assert_allclose(mixed, 40, rtol=1e-6)


def test_patch_weight_by_hand():
    """hann of 4 x 2: sin^2 of pi/8 and 3 pi/8 down, 1/2 across; a crop multiplies by 1e-6; mean is 1."""
    down = [0.146447, 0.853553, 0.853553, 0.146447]
    np.testing.assert_allclose(patch_weight(4, 2, "hann"), np.outer(down, [0.5, 0.5]), atol=1e-6)
    assert patch_weight(2, 3, "mean").tolist() == [[1, 1, 1], [1, 1, 1]]
    c = np.float32(UNTRUSTED_WEIGHT)
    assert patch_weight(3, 4, "mean", Crop(top=1, right=2)).tolist() == [[c, c, c, c], [1, 1, c, c], [1, 1, c, c]]
    assert patch_weight(3, 4, "mean", Crop(bottom=2, left=1)).tolist() == [[c, 1, 1, 1], [c, c, c, c], [c, c, c, c]]


@given(st.integers(1, 300), st.integers(1, 300), weightings, crops)
def test_every_weight_is_above_zero(height, width, weighting, crop):
    """No pixel of a patch goes without weight: what is covered can always be filled."""
    assert patch_weight(height, width, weighting, crop).min() > 0


def test_pad_to_by_hand():
    """Reflection at the bottom and right, as often as it takes; a large enough image is returned as it is."""
    image = np.array([[1, 2], [3, 4]])
    assert pad_to(image, 3, 7).tolist() == [[1, 2, 2, 1, 1, 2, 2], [3, 4, 4, 3, 3, 4, 4], [3, 4, 4, 3, 3, 4, 4]]
    assert pad_to(image, 2, 1) is image


def test_eq_7_by_hand():
    """Patches of 0..100 and 100..200 HU, slice of -1000..1000: each is stretched to all of it, or both by 0..200."""
    patches = np.array([[[0, 50], [75, 100]], [[100, 150], [175, 200]]], np.float32)
    assert rescale_hu(patches, "window", -1000, 1000) is patches
    assert rescale_hu(patches, "patch", -1000, 1000).tolist() == [[[-1000, 0], [500, 1000]]] * 2
    expected = [[[-1000, -500], [-250, 0]], [[0, 500], [750, 1000]]]
    by_slice = rescale_hu(patches, "slice", -1000, 1000)
    assert by_slice.tolist() == expected
    assert by_slice.dtype == np.float32


def test_eq_7_leaves_a_flat_patch_alone():
    """A flat patch has no range to stretch: it keeps its HU, beside one that is stretched."""
    patches = np.array([[[40, 40]], [[0, 100]]], np.float32)
    assert rescale_hu(patches, "patch", -1000, 1000).tolist() == [[[40, 40]], [[-1000, 1000]]]
    assert rescale_hu(patches[:1], "slice", -1000, 1000).tolist() == [[[40, 40]]]


@pytest.mark.parametrize("method", ["window", "patch", "slice"])
def test_eq_7_of_no_patches(method):
    """A slice without soft tissue has no patch, and that is no error."""
    assert rescale_hu(np.zeros((0, 8, 8), np.float32), method, 0, 1).shape == (0, 8, 8)


@given(st.floats(0.01, 50), st.floats(-500, 500), st.integers(0, 99), st.sampled_from(["patch", "slice"]))
def test_eq_7_undoes_any_affine_map(scale, shift, seed, method):
    """Starting from the gray scale or from HU gives the same, to 0.1 HU: Eq. 7 undoes the map between them."""
    gray = np.random.default_rng(seed).uniform(-100, 100, (3, 4, 4)).astype(np.float32)
    mapped = (gray * scale + shift).astype(np.float32)
    tolerance = 0.1 + 1e-2 / scale  # float32 loses the digits that the shift takes
    one, other = rescale_hu(gray, method, -1000, 1500), rescale_hu(mapped, method, -1000, 1500)
    np.testing.assert_allclose(one, other, rtol=0, atol=tolerance)
    assert one.min() == -1000
    assert one.max() == pytest.approx(1500, abs=1e-3)


def test_an_untrusted_patch_never_overrules_a_trusted_one():
    """Even where a trusted Hann patch has its faintest corner: the untrusted centre there moves the slice by under 0.1 HU."""
    patches = [Patch(0, 0, 256, 256), Patch(128, 128, 256, 256)]
    changes = [np.zeros((256, 256), np.float32), np.full((256, 256), 100, np.float32)]
    fused, _ = fuse(np.zeros((384, 384), np.float32), patches, changes, "hann", trusted=[True, False])
    assert np.abs(fused[:256, :256]).max() < 0.1
    np.testing.assert_allclose(fused[256:, 256:], 100, rtol=1e-5)
