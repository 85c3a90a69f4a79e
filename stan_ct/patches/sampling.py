"""Step 1: locations of patches on a slice, and the rule that they overlap (paper Sec. "Step 1", Fig. 2a)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import cv2
import numpy as np

PATCH_SIZE = 256
"""Side of the patch that networks see, pixels."""

Layout = Literal["random", "grid", "slice", "tiles"]


class Patch(NamedTuple):
    """Location of a patch on a slice, pixels; extraction and fusion both use it."""

    row: int
    column: int
    height: int
    width: int

    @property
    def window(self) -> tuple[slice, slice]:
        """Index of the patch in an (H, W) image."""
        return slice(self.row, self.row + self.height), slice(self.column, self.column + self.width)


@dataclass(frozen=True)
class SamplingRule:
    """The numbers of Step 1.

    Attributes:
        sides: Smallest and largest side of a random patch, pixels, both included.
        min_soft_tissue: A patch is a soft-tissue patch if at least this share of its pixels is soft tissue.
        min_overlap: Share of a patch's pixels which other patches must cover too.
        max_patches: Cap on the patches of one slice.
    """

    sides: tuple[int, int] = (100, 256)
    min_soft_tissue: float = 0.7
    min_overlap: float = 0.5
    max_patches: int = 400


class RectangleSums:
    """Sums of a mask over rectangles in constant time (summed-area table)."""

    def __init__(self, mask: np.ndarray) -> None:
        self._table = cv2.integral(mask.astype(np.uint8))  # (H + 1, W + 1) int32

    def __call__(self, rows: np.ndarray, columns: np.ndarray, height: int, width: int) -> np.ndarray:
        """Number of True pixels in rectangles of one size.

        Args:
            rows: Top rows of the rectangles, int; broadcasts with `columns`.
            columns: Left columns, int.
            height: Height of all rectangles, pixels.
            width: Width of all rectangles, pixels.
        """
        table, bottom, right = self._table, rows + height, columns + width
        return table[bottom, right] - table[rows, right] - table[bottom, columns] + table[rows, columns]


def grid_patches(shape: tuple[int, int], size: int = PATCH_SIZE, stride: int = PATCH_SIZE // 2) -> list[Patch]:
    """Patches at native scale on a grid; the last row and column are moved back to the border.

    Args:
        shape: (H, W) of the slice, each at least `size`.
        size: Side of a patch.
        stride: Distance between neighbours; at most `size / 2` for the 50 % overlap rule.
    Returns:
        Patches that cover the slice, row by row.
    Example:
        >>> [(p.row, p.column) for p in grid_patches((256, 300))]
        [(0, 0), (0, 44)]
    """
    rows, columns = ([*range(0, n - size, stride), n - size] for n in shape)
    return [Patch(row, column, size, size) for row in rows for column in columns]


def random_patches(
    soft_tissue: np.ndarray,
    rng: np.random.Generator,
    rule: SamplingRule | None = None,
    present: Sequence[Patch] = (),
) -> list[Patch]:
    """Samples random soft-tissue patches until the overlap rule holds.

    Sides are uniform in `rule.sides` and corners uniform among those which contain a pixel that still needs a patch
    and which give a soft-tissue patch. Sampling ends when every soft-tissue pixel that a soft-tissue patch can reach is
    covered, and every patch is covered by others to `rule.min_overlap`, or at `rule.max_patches`.

    Args:
        soft_tissue: (H, W) bool; H and W at least `rule.sides[1]`.
        rng: Source of randomness.
        rule: The numbers of Step 1.
        present: Patches already on the slice, which count for the rule.
    Returns:
        The new patches, without `present`.
    Note:
        The paper draws positions blindly until the rule holds; aiming each draw at a pixel in need gives the same kind
        of patches and reaches the end of that process in tens of draws.
    """
    rule = rule or SamplingRule()
    sums = RectangleSums(soft_tissue)
    cover = coverage(soft_tissue.shape, present)
    uncovered = soft_tissue & (cover == 0) & _reachable(sums, soft_tissue.shape, rule)
    isolated = [p for p in present if overlap(p, cover) < rule.min_overlap]
    new: list[Patch] = []
    while len(new) + len(present) < rule.max_patches:
        pixels = np.flatnonzero(uncovered)
        if pixels.size:
            pixel = np.unravel_index(rng.choice(pixels), soft_tissue.shape)
        elif isolated:
            pixel = _pixel_to_overlap(isolated[0], cover, rng)
        else:
            break
        patch = _sample_patch(sums, soft_tissue.shape, pixel, rng, rule)
        if patch is None:  # no soft-tissue patch holds this pixel
            if pixels.size:
                uncovered[pixel] = False
            else:
                isolated.pop(0)
            continue
        cover[patch.window] += 1
        uncovered[patch.window] = False
        new.append(patch)
        isolated = [p for p in (*isolated, patch) if overlap(p, cover) < rule.min_overlap]
    return new


def coverage(shape: tuple[int, int], patches: Iterable[Patch]) -> np.ndarray:
    """Number of patches that cover each pixel, (H, W) int32."""
    cover = np.zeros(shape, np.int32)
    for patch in patches:
        cover[patch.window] += 1
    return cover


def overlap(patch: Patch, cover: np.ndarray) -> float:
    """Share of a patch's pixels that other patches cover too, given the coverage by all patches."""
    return float(np.mean(cover[patch.window] > 1))


def _reachable(sums: RectangleSums, shape: tuple[int, int], rule: SamplingRule) -> np.ndarray:
    """Pixels inside some soft-tissue patch of the smallest, middle or largest side, (H, W) bool."""
    reached = np.zeros(shape, bool)
    for side in {rule.sides[0], sum(rule.sides) // 2, rule.sides[1]}:
        rows, columns = np.ogrid[: shape[0] - side + 1, : shape[1] - side + 1]
        accepted = np.pad(sums(rows, columns, side, side) >= rule.min_soft_tissue * side * side, side - 1)
        rows, columns = np.ogrid[: shape[0], : shape[1]]
        reached |= RectangleSums(accepted)(rows, columns, side, side) > 0
    return reached


def _pixel_to_overlap(patch: Patch, cover: np.ndarray, rng: np.random.Generator) -> tuple[int, int]:
    """A random pixel of a patch that no other patch covers, (row, column)."""
    uncovered = np.argwhere(cover[patch.window] < 2)
    row, column = uncovered[rng.integers(len(uncovered))]
    return int(row) + patch.row, int(column) + patch.column


def _sample_patch(
    sums: RectangleSums, shape: tuple[int, int], pixel: tuple[int, int], rng: np.random.Generator, rule: SamplingRule
) -> Patch | None:
    """A random soft-tissue patch that contains `pixel`, or None if a few sides offer none."""
    low, high = rule.sides
    for side in (*rng.integers(low, high + 1, 4).tolist(), low, (low + high) // 2, high):
        rows, columns = (np.arange(max(0, p - side + 1), min(p, n - side) + 1) for p, n in zip(pixel, shape, strict=True))
        accepted = sums(rows[:, None], columns[None, :], side, side) >= rule.min_soft_tissue * side * side
        choices = np.flatnonzero(accepted)
        if choices.size:
            row, column = np.unravel_index(rng.choice(choices), accepted.shape)
            return Patch(int(rows[row]), int(columns[column]), side, side)
    return None
