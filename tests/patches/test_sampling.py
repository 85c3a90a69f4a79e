"""Step 1: where patches lie, and the rule that they overlap."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stan_ct.patches.sampling import Patch, RectangleSums, SamplingRule, coverage, grid_patches, overlap, random_patches

SMALL = SamplingRule(sides=(20, 50))
SHAPE = (110, 120)


def body(seed: int = 0, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """An ellipse of soft tissue with two lungs cut out, and specks of noisy air around it."""
    rng = np.random.default_rng(seed)
    rows, columns = (np.linspace(-1, 1, n) for n in shape)
    distance = np.hypot(rows[:, None], columns[None])
    lungs = np.hypot(rows[:, None] * 1.5, np.abs(columns[None]) - 0.4) < 0.12
    return ((distance < 0.85) & ~lungs) | (rng.random(shape) < 0.02)


def reachable(soft_tissue: np.ndarray, side: int, rule: SamplingRule) -> np.ndarray:
    """Brute force: the pixels which a soft-tissue patch of one side can hold."""
    reached = np.zeros(soft_tissue.shape, bool)
    for row in range(soft_tissue.shape[0] - side + 1):
        for column in range(soft_tissue.shape[1] - side + 1):
            window = Patch(row, column, side, side).window
            if soft_tissue[window].mean() >= rule.min_soft_tissue:
                reached[window] = True
    return reached


seeds = st.integers(0, 10**6)


@settings(max_examples=25)
@given(seeds, st.booleans())
def test_overlap_rule_holds(seed, everywhere):
    """When drawing ends below the cap, other patches cover at least half of every patch, of a body or a full slice."""
    mask = np.ones(SHAPE, bool) if everywhere else body(seed)
    patches = random_patches(mask, np.random.default_rng(seed), SMALL)
    assert 4 < len(patches) < SMALL.max_patches
    for i, patch in enumerate(patches):
        others = coverage(SHAPE, patches[:i] + patches[i + 1 :])
        assert (others[patch.window] > 0).mean() >= 0.5


@settings(max_examples=25)
@given(seeds)
def test_every_patch_is_a_soft_tissue_patch(seed):
    """Each patch is a square of 20 to 50 pixels inside the slice, at least 70 % of it soft tissue."""
    mask = body(seed)
    for patch in random_patches(mask, np.random.default_rng(seed), SMALL):
        assert patch.height == patch.width
        assert 20 <= patch.height <= 50
        assert 0 <= patch.row <= SHAPE[0] - patch.height
        assert 0 <= patch.column <= SHAPE[1] - patch.width
        assert mask[patch.window].mean() >= 0.7


@pytest.mark.parametrize("seed", range(3))
def test_reachable_soft_tissue_is_covered(seed):
    """Every soft-tissue pixel which a soft-tissue patch of side 20, 35 or 50 can hold is covered."""
    mask = body(seed)
    covered = coverage(SHAPE, random_patches(mask, np.random.default_rng(seed), SMALL)) > 0
    wanted = mask & np.any([reachable(mask, side, SMALL) for side in (20, 35, 50)], axis=0)
    assert wanted.sum() > 0.5 * mask.size
    assert (wanted & ~covered).sum() == 0


def test_default_rule_is_the_paper():
    """Sides 100..256, 70 % soft tissue, 50 % overlap."""
    rule = SamplingRule()
    assert (rule.sides, rule.min_soft_tissue, rule.min_overlap) == ((100, 256), 0.7, 0.5)


def test_both_ends_of_the_sides_occur():
    """Sides are uniform with both ends included: of 20..24 each comes up in about a fifth of 400 patches."""
    rule = SamplingRule(sides=(20, 24), min_overlap=1.0, max_patches=400)
    patches = random_patches(np.ones((400, 400), bool), np.random.default_rng(0), rule)
    counts = np.bincount([p.height for p in patches], minlength=25)[20:]
    assert counts.sum() == len(patches) == 400
    assert (np.abs(counts - 80) < 32).all()  # 4 standard deviations


def test_equal_seeds_draw_equal_patches():
    """One seed gives one set of patches; another seed another."""
    one, same, other = (random_patches(body(), np.random.default_rng(seed), SMALL) for seed in (1, 1, 2))
    assert one == same
    assert one != other


def test_the_cap_counts_patches_already_there():
    """With 5 patches present, a cap of 7 allows 2 more; one of 5 none."""
    present = [Patch(0, 0, 20, 20)] * 5
    for cap, new in ((7, 2), (5, 0), (3, 0)):
        rule = SamplingRule(sides=(20, 50), max_patches=cap)
        assert len(random_patches(np.ones(SHAPE, bool), np.random.default_rng(0), rule, present)) == new


def test_present_patches_are_covered_and_count():
    """An isolated patch that is there already is overlapped; where everything is covered twice nothing is added."""
    isolated = [Patch(40, 40, 50, 50)]
    new = random_patches(np.ones(SHAPE, bool), np.random.default_rng(0), SMALL, isolated)
    assert overlap(isolated[0], coverage(SHAPE, isolated + new)) >= 0.5
    twice = grid_patches(SHAPE, 50, 50) * 2
    assert random_patches(np.ones(SHAPE, bool), np.random.default_rng(0), SMALL, twice) == []


def test_no_soft_tissue_gives_no_patch():
    """A slice of air needs no patch, and one whose tissue fills no patch to 70 % gets none: no endless drawing."""
    assert random_patches(np.zeros(SHAPE, bool), np.random.default_rng(0), SMALL) == []
    scattered = np.random.default_rng(0).random(SHAPE) < 0.3
    assert random_patches(scattered, np.random.default_rng(0), SMALL) == []


def test_a_slice_of_one_patch():
    """A slice as large as its only possible patch is drawn twice: the rule asks for company, and no more than that."""
    assert (
        random_patches(np.ones((50, 50), bool), np.random.default_rng(0), SamplingRule((50, 50))) == [Patch(0, 0, 50, 50)] * 2
    )
    patches = random_patches(np.ones((50, 50), bool), np.random.default_rng(0), SMALL)
    assert (coverage((50, 50), patches) > 0).all()


@given(st.integers(0, 99), st.integers(1, 12), st.integers(1, 12))
def test_rectangle_sums_against_brute_force(seed, height, width):
    """The summed-area table counts what slicing counts, for every corner."""
    mask = np.random.default_rng(seed).random((12, 14)) < 0.5
    rows, columns = np.ogrid[: 12 - height + 1, : 14 - width + 1]
    counted = RectangleSums(mask)(rows, columns, height, width)
    brute = [[mask[r : r + height, c : c + width].sum() for c in range(14 - width + 1)] for r in range(12 - height + 1)]
    assert counted.tolist() == np.array(brute).tolist()


def test_coverage_and_overlap_by_hand():
    """Two 2 x 2 patches that share one of their columns: that column counts 2, and is half of each patch."""
    patches = [Patch(0, 0, 2, 2), Patch(0, 1, 2, 2)]
    cover = coverage((3, 4), patches)
    assert cover.tolist() == [[1, 2, 1, 0], [1, 2, 1, 0], [0, 0, 0, 0]]
    assert [overlap(p, cover) for p in patches] == [0.5, 0.5]
    assert overlap(Patch(0, 0, 1, 1), cover) == 0.0


def test_grid_by_hand():
    """512 pixels at stride 128 start at 0, 128, 256; of 300 the last is moved back to 44."""
    patches = grid_patches((300, 512))
    assert [(p.row, p.column) for p in patches] == [(r, c) for r in (0, 44) for c in (0, 128, 256)]
    assert {(p.height, p.width) for p in patches} == {(256, 256)}
    assert grid_patches((256, 256)) == [Patch(0, 0, 256, 256)]


@settings(max_examples=50)
@given(st.integers(2, 40), st.data())
def test_grid_covers_and_keeps_its_stride(size, data):
    """A grid covers the whole slice, ends at its border, and neighbours are at most a stride apart."""
    shape = tuple(data.draw(st.integers(size, 3 * size + 7)) for _ in range(2))
    stride = data.draw(st.integers(1, size))
    patches = grid_patches(shape, size, stride)
    assert (coverage(shape, patches) > 0).all()
    assert len(set(patches)) == len(patches)
    for axis, starts in enumerate((sorted({p.row for p in patches}), sorted({p.column for p in patches}))):
        assert starts[0] == 0
        assert starts[-1] == shape[axis] - size
        assert all(0 < step <= stride for step in np.diff(starts))


def test_grid_at_half_stride_obeys_the_overlap_rule():
    """With the default stride every patch of a 512 x 512 slice is covered by others to half at least."""
    patches = grid_patches((512, 512))
    cover = coverage((512, 512), patches)
    assert min(overlap(p, cover) for p in patches) >= 0.5
