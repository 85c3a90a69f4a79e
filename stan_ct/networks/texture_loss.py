"""Differentiable relative errors (Eq. 8) of texture features, from pixels instead of a co-occurrence matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import ops

from stan_ct.ct.hounsfield import SOFT_TISSUE, HUWindow

TILE = 64
"""Side of the tiles whose textures are compared, px."""
FLOOR = 0.25
"""Share of the patch's feature that is added to a tile's own in the denominator of its relative error."""
SHIFTS = ((16, 0), (0, 16), (32, 16), (16, 32), (32, 0), (0, 32), (16, 16), (48, 16))
"""Displacements (rows, columns), px, between the pairs of neighbours whose equality estimates energy."""
SAME = 2.0
"""Difference in gray levels at which the gradient of the equality of two pixels ends."""

Tensor = Any


def texture_loss(target: Tensor, synthesized: Tensor, hu_window: HUWindow, levels: int = 256) -> Tensor:
    """Mean relative error (Eq. 8) of dissimilarity, contrast, homogeneity and energy.

    They are compared tile by tile, so that air and tissue are each held to their own texture rather than to the mean of both. A
    tile's error is relative to its own feature plus a share of the whole patch's, since tiles may be flat.

    Args:
        target: (B, H, W, 1) in [-1, 1], H and W multiples of `TILE`.
        synthesized: Same shape.
        hu_window: HU <-> [-1, 1].
        levels: Gray levels over the soft-tissue range.
    Returns:
        Scalar, 0 for equal textures.
    """
    low, high = SOFT_TISSUE
    level = (high - low) / levels

    def gray(patches: Tensor) -> Tensor:
        hu = hu_window.denormalize(ops.cast(patches[..., 0], "float32"))
        return ops.clip((hu - low) / level, 0, levels - 0.5)  # the last level holds its upper end

    expected, actual = (texture_features(_tiles(gray(patches))) for patches in (target, synthesized))
    tiles = (-1, (target.shape[1] // TILE) * (target.shape[2] // TILE), expected.shape[-1])
    expected, actual = (ops.reshape(features, tiles) for features in (expected, actual))  # (B, tiles, features)
    scale = expected + FLOOR * ops.mean(expected, axis=1, keepdims=True)
    return ops.mean(ops.abs(actual - expected) / (scale + 1e-6))


def texture_features(gray: Tensor) -> Tensor:
    """Dissimilarity, contrast, homogeneity and energy at distance 1, means over four directions.

    The first three are means over the differences of neighbours. Energy is the root of the angular second moment, which is the
    probability that two pairs of horizontal neighbours are equal: it is estimated from pairs `SHIFTS` apart. Whether pixels are
    equal has no gradient; that of a triangle of half-width `SAME` stands for it.

    Args:
        gray: Gray levels, (B, H, W) float32.
    Returns:
        (B, 4) float32.
    """
    differences = [
        gray[:, :, 1:] - gray[:, :, :-1],
        gray[:, 1:, :] - gray[:, :-1, :],
        gray[:, 1:, 1:] - gray[:, :-1, :-1],
        gray[:, 1:, :-1] - gray[:, :-1, 1:],
    ]

    def mean(measure: Callable[[Tensor], Tensor]) -> Tensor:
        return sum(ops.mean(measure(d), axis=(1, 2)) for d in differences) / len(differences)

    energy = ops.sqrt(sum(_equal_pairs(gray, shift) for shift in SHIFTS) / len(SHIFTS) + 1e-6)
    return ops.stack([mean(ops.abs), mean(ops.square), mean(lambda d: 1 / (1 + d * d)), energy], axis=1)


def _equal_pairs(gray: Tensor, shift: tuple[int, int]) -> Tensor:
    """Share of horizontal pairs that equal the pair `shift` away, (B,)."""
    other = ops.roll(gray, shift, axis=(1, 2))
    near, equal = ops.relu(1 - ops.abs(gray - other) / SAME), ops.cast(ops.floor(gray) == ops.floor(other), "float32")
    near_pairs, equal_pairs = (same[:, :, 1:] * same[:, :, :-1] for same in (near, equal))
    return ops.mean(near_pairs + ops.stop_gradient(equal_pairs - near_pairs), axis=(1, 2))


def _tiles(gray: Tensor) -> Tensor:
    """(B, H, W) -> (B H W / TILE^2, TILE, TILE)."""
    _, height, width = gray.shape
    rows, columns = height // TILE, width // TILE
    parts = ops.reshape(gray, (-1, rows, TILE, columns, TILE))
    return ops.reshape(ops.transpose(parts, (0, 1, 3, 2, 4)), (-1, TILE, TILE))
