"""The quality control units on images where the right answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from stan_ct.patches.fusion import Crop
from stan_ct.patches.sampling import Patch, grid_patches
from stan_ct.reconstruction.checks import (
    BOX_SIGMAS,
    BoxArtefact,
    box_artefacts,
    close_mask,
    cropped,
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
