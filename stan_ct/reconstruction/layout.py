"""Step 1 of a slice: which pixels are standardized, and where the patches lie that do it."""

from __future__ import annotations

import numpy as np

from stan_ct.ct.hounsfield import AIR, SOFT_TISSUE, soft_tissue_mask
from stan_ct.patches.fusion import pad_to
from stan_ct.patches.sampling import PATCH_SIZE, Layout, Patch, grid_patches, random_patches
from stan_ct.reconstruction.checks import Mask, close_mask
from stan_ct.reconstruction.settings import PipelineSettings


def standardized_mask(source: np.ndarray, outside: np.ndarray, kind: Mask) -> np.ndarray:
    """What patches standardize, (H, W) bool; nothing outside the field of view, nor what is brighter than soft tissue."""
    soft_tissue = soft_tissue_mask(source, outside)
    if kind == "pixel" or not soft_tissue.any():
        return soft_tissue
    low = SOFT_TISSUE[0] if kind == "closed" else AIR
    return close_mask((source >= low) & ~outside) & ~outside & (source <= SOFT_TISSUE[1])


def padded_size(shape: tuple[int, int], layout: Layout) -> tuple[int, int]:
    """Size to which a slice is padded before patches are laid out, px: at least a patch; whole tiles for `tiles`, `slice`."""
    if layout in ("tiles", "slice"):
        return -(-shape[0] // PATCH_SIZE) * PATCH_SIZE, -(-shape[1] // PATCH_SIZE) * PATCH_SIZE
    return max(shape[0], PATCH_SIZE), max(shape[1], PATCH_SIZE)


def patch_layout(mask: np.ndarray, settings: PipelineSettings, rng: np.random.Generator) -> list[Patch]:
    """Step 1: patches of a slice before any check.

    Args:
        mask: (H, W) bool, pixels to standardize; of any size: it is padded as :func:`padded_size` says.
        settings: Switches; `patch_layout` and `rule` matter here.
        rng: Random numbers of the layout `random`.
    Returns:
        Patches with at least one pixel of the mask; they may extend beyond a slice smaller than its padded size. Those of the
        layout `slice` are the places at which what was made of the whole slice is judged: they lie as those of `grid`.
    """
    mask = pad_to(mask, *padded_size((mask.shape[0], mask.shape[1]), settings.patch_layout))
    if settings.patch_layout == "random":
        return random_patches(mask, rng, settings.rule)
    stride = PATCH_SIZE if settings.patch_layout == "tiles" else PATCH_SIZE // 2
    return [p for p in grid_patches(mask.shape, PATCH_SIZE, stride) if mask[p.window].any()]
