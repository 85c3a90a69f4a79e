"""The quality control units on images where the right answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from stan_ct.patches.fusion import Crop
from stan_ct.patches.sampling import Patch, grid_patches
from stan_ct.reconstruction.checks import (
    BOX_SIGMAS,
    LATTICE_RATIO,
    LATTICE_SIGMAS,
    MIN_LATTICE_PIXELS,
    BoxArtefact,
    box_artefacts,
    close_mask,
    cropped,
    lattice_findings,
    lattice_means,
    lattice_power,
    overlap_findings,
)

TILES = grid_patches((512, 512), 256, 256)
EVERYWHERE = np.ones((512, 512), bool)


@pytest.fixture
def source() -> np.ndarray:
    """Noise of 30 HU over a slope, (512, 512)."""
    return (np.random.default_rng(1).normal(0, 30, (512, 512)) + np.linspace(-200, 200, 512)).astype(np.float32)


def test_an_untouched_slice_has_no_box_artefact(source):
    """Nothing changed, nothing found; even where the source itself steps at a border."""
    source[256:] += 300
    assert box_artefacts(source, source, EVERYWHERE, TILES) == []


def test_a_tile_that_is_lifted_by_a_few_hu_is_found_at_its_inner_sides(source):
    """+10 HU in one tile, a third of the noise, is found at the two borders inside the slice and at the neighbours'."""
    fused = source.copy()
    fused[:256, :256] += 10
    found = {(a.patch, a.side) for a in box_artefacts(fused, source, EVERYWHERE, TILES)}
    assert found == {(0, "bottom"), (0, "right"), (1, "left"), (2, "top")}


def test_a_change_with_edges_where_the_anatomy_has_edges_is_no_box_artefact(source):
    """Sharpening an edge of anatomy that lies on a border changes much there; the source explains it."""
    anatomy = source * 0.02
    anatomy[256:] += 500
    change = np.zeros_like(anatomy)
    change[255], change[256] = -60, 60
    texture = np.random.default_rng(2).normal(0, 5, anatomy.shape)
    assert box_artefacts(anatomy + change + texture, anatomy, EVERYWHERE, TILES) == []
    flat = source * 0.02
    assert box_artefacts(flat + change + texture, flat, EVERYWHERE, TILES), "the same change on flat anatomy is one"


def test_random_texture_in_the_change_is_no_box_artefact(source):
    """A change of white noise, 80 HU, over every tile alike stays below the limit on every border."""
    change = np.random.default_rng(3).normal(0, 80, source.shape)
    patches = grid_patches((512, 512), 256, 128)
    assert box_artefacts(source + change, source, EVERYWHERE, patches) == []


def test_only_soft_tissue_counts(source):
    """A step where there is no soft tissue is not looked at."""
    fused = source.copy()
    fused[:256, :256] += 50
    mask = EVERYWHERE.copy()
    mask[200:300], mask[:, 200:300] = False, False
    assert box_artefacts(fused, source, mask, TILES) == []


def test_strength_is_the_excess_ratio_times_root_n():
    """A clean step of 3 HU on an untouched slice: (3 + 1) / (0 + 1), minus 1, times the root of 256 pixels."""
    source = np.zeros((512, 512), np.float32)
    fused = source.copy()
    fused[:256] += 3
    strengths = {a.strength for a in box_artefacts(fused, source, EVERYWHERE, TILES)}
    assert strengths == {3 * 16.0}
    assert BOX_SIGMAS < 48


def test_crops_grow_on_the_named_side_alone_and_stop_at_a_third():
    """Cropping concerns the border that shows, and leaves a patch its centre."""
    patches = [Patch(0, 0, 90, 90), Patch(0, 50, 90, 90)]
    crops = cropped([Crop(), Crop(left=4)], patches, [BoxArtefact(1, "left", 20.0), BoxArtefact(1, "top", 20.0)], 32)
    assert crops == [Crop(), Crop(top=30, left=30)]


def test_overlap_check_names_the_worst_patch():
    """Two patches that share a quarter: 25 % where 50 % is asked; soft tissue that nothing covers is reported."""
    patches = [Patch(0, 0, 100, 100), Patch(0, 75, 100, 100)]
    soft = np.zeros((100, 300), bool)
    soft[:, :200] = True
    findings, uncovered = overlap_findings(soft, patches, 0.5)
    assert [(f.name, f.value, f.limit) for f in findings] == [("overlap", 0.25, 0.5), ("uncovered_soft_tissue", 0.125, 0.01)]
    assert uncovered == 0.125


def test_a_patch_as_large_as_the_slice_need_not_overlap():
    """There is nothing to overlap with, and no seam."""
    assert overlap_findings(np.ones((256, 256), bool), [Patch(0, 0, 256, 256)], 0.5) == ([], 0.0)


def test_closed_mask_fills_specks_and_drops_bridges():
    """Single holes are filled, single pixels and one-pixel bridges go, large parts stay."""
    mask = np.zeros((60, 60), bool)
    mask[5:30, 5:30] = True
    mask[15, 15] = False
    mask[45, 45] = True
    mask[17, 30:60] = True
    closed = close_mask(mask)
    assert closed[15, 15]
    assert not closed[45, 45]
    assert not closed[17, 40]
    assert closed[10:25, 10:25].all()


def lattice(period: int, amplitude: float, shape: tuple[int, int] = (256, 256)) -> np.ndarray:
    """A wave along rows of this period, (H, W) HU."""
    return np.broadcast_to(amplitude * np.cos(2 * np.pi * np.arange(shape[1]) / period), shape)


@pytest.mark.parametrize("period", [2, 4, 8])
def test_a_lattice_is_found_at_its_period_and_only_there(source, period):
    """A wave of 2 HU in a change of 10 HU of noise: its period stands out 20 times and more, the others do not."""
    change = np.random.default_rng(4).normal(0, 10, (4, 256, 256))
    found = lattice_power(change + lattice(period, 2.0), np.ones(change.shape, bool))
    assert found.pop(period) > 20
    assert max(found.values()) < 2
    (finding,) = lattice_findings(change + lattice(period, 2.0), np.ones(change.shape, bool))
    assert finding.name == "lattice"
    assert finding.detail == f"period {period} px"
    assert finding.value > finding.limit


def test_noise_and_anatomy_are_no_lattice(source):
    """White noise, a smooth change, edges along the axes and other periods give no finding, in one slice or in many."""
    rng = np.random.default_rng(5)
    noise = rng.normal(0, 30, (6, 256, 256))
    edges = np.zeros((256, 256))
    edges[100:180, 60:130] = 200
    wave = lattice(6, 20.0)
    for change in (noise, *noise, noise[0] + edges, noise[1] + wave, noise[:3] + edges + wave):
        assert lattice_findings(change, np.ones(change.shape, bool)) == []


def test_power_at_a_lattice_by_hand():
    """A checkerboard of a HU in unit noise, 64 x 64 pixels, adds 4096 a^2 to one of three ratios: mean 1 + 1365 a^2."""
    change = np.random.default_rng(6).normal(0, 1, (64, 64, 64))
    rows, columns = np.mgrid[:64, :64]
    found = lattice_power(change + 0.05 * (-1.0) ** (rows + columns), np.ones(change.shape, bool))
    assert found[2] == pytest.approx(1 + 1365 * 0.05**2, rel=0.1)


def test_limit_of_a_lattice():
    """A ratio of 2 beside 4 standard deviations of chance: just above the limit is a finding, just below is none."""
    assert (LATTICE_RATIO, LATTICE_SIGMAS) == (2.0, 4.0)
    change = np.random.default_rng(7).normal(0, 1, (18, 64, 64))
    everywhere = np.ones(change.shape, bool)
    rows, columns = np.mgrid[:64, :64]
    board = (-1.0) ** (rows + columns)
    limit = 2 + 4 * np.sqrt(2 / (3 * 18))  # 2.77
    values = [lattice_power(change + a * board, everywhere)[2] for a in np.linspace(0, 0.06, 25)]
    below = max(a for a, v in zip(np.linspace(0, 0.06, 25), values, strict=True) if v <= limit)
    above = min(a for a, v in zip(np.linspace(0, 0.06, 25), values, strict=True) if v > limit)
    assert lattice_findings(change + below * board, everywhere) == []
    assert [f.limit for f in lattice_findings(change + above * board, everywhere)] == [2.77]


def test_only_judged_pixels_make_a_lattice():
    """A pattern outside the mask does not count, and a slice with too few pixels is not judged."""
    change = np.random.default_rng(8).normal(0, 10, (128, 128))
    change[:, 64:] += lattice(2, 50.0, (128, 64))
    mask = np.zeros((128, 128), bool)
    mask[:, :56] = True
    assert lattice_findings(change, mask) == []
    mask = np.zeros((128, 128), bool)
    mask[:64, :64] = True
    assert mask.sum() == MIN_LATTICE_PIXELS
    change = np.random.default_rng(8).normal(0, 1, (128, 128)) + lattice(2, 50.0, (128, 128))
    assert lattice_findings(change, mask)
    mask[0, 0] = False
    assert lattice_power(change, mask) == {2: 1.0, 4: 1.0, 8: 1.0}


def test_means_by_place_in_a_lattice():
    """Every fourth row 3 HU higher: its places lie 2.25 above the mean, the others .75 below; unjudged pixels do not count."""
    change = np.zeros((2, 16, 16))
    change[:, 2::4] = 3
    mask = np.ones(change.shape, bool)
    change[0, 0, 0], mask[0, 0, 0] = 1e6, False
    expected = np.full((4, 4), -0.75)
    expected[2] = 2.25
    np.testing.assert_allclose(lattice_means(change, mask), expected, atol=0.01)
