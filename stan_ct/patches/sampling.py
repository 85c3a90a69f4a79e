"""Step 1: where patches lie on a slice, and the rule that they overlap (paper Sec. "Step 1", Fig. 2a)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

PATCH_SIZE = 256
"""Side of the patch that networks see, pixels."""

Layout = Literal["random", "grid", "slice", "tiles"]


class Patch(NamedTuple):
    """Where a patch lies on a slice, in pixels: what extraction and fusion both go by."""

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
        self._table = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), np.int64)
        np.cumsum(np.cumsum(mask, 0, dtype=np.int64), 1, out=self._table[1:, 1:])

    def __call__(self, row: np.ndarray, column: np.ndarray, height: int, width: int) -> np.ndarray:
        """Number of True pixels in rectangles with the given corners; the arguments broadcast."""
        t, bottom, right = self._table, row + height, column + width
        return t[bottom, right] - t[row, right] - t[bottom, column] + t[row, column]


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
    """Random soft-tissue patches, drawn until the overlap rule holds.

    Sides are uniform in `rule.sides` and corners uniform among those which contain a pixel that still needs a patch
    and which give a soft-tissue patch. Drawing ends when every soft-tissue pixel that a soft-tissue patch can reach is
    covered, and every patch is covered by others to `rule.min_overlap`, or at `rule.max_patches`.

    Args:
        soft_tissue: (H, W) bool; H and W at least `rule.sides[1]`.
        rng: Source of randomness.
        rule: The numbers of Step 1.
        present: Patches that lie there already and count for the rule.
    Returns:
        The new patches, without `present`.
    Note:
        The paper draws positions blindly until the rule holds; aiming each draw at a pixel in need gives the same kind
        of patches and reaches the end of that process in tens of draws.
    """
    rule = rule or SamplingRule()
    sums = RectangleSums(soft_tissue)
    cover = coverage(soft_tissue.shape, present)
    wanting = soft_tissue & (cover == 0) & _reachable(sums, soft_tissue.shape, rule)
    lonely = [p for p in present if overlap(p, cover) < rule.min_overlap]
    new: list[Patch] = []
    while len(new) + len(present) < rule.max_patches:
        pixels = np.flatnonzero(wanting)
        if pixels.size:
            pixel = np.unravel_index(rng.choice(pixels), soft_tissue.shape)
        elif lonely:
            pixel = _loneliest_pixel(lonely[0], cover, rng)
        else:
            break
        patch = _draw(sums, soft_tissue.shape, pixel, rng, rule)
        if patch is None:  # no soft-tissue patch holds this pixel
            if pixels.size:
                wanting[pixel] = False
            else:
                lonely.pop(0)
            continue
        cover[patch.window] += 1
        wanting[patch.window] = False
        new.append(patch)
        lonely = [p for p in (*lonely, patch) if overlap(p, cover) < rule.min_overlap]
    return new


def coverage(shape: tuple[int, int], patches: Iterable[Patch]) -> np.ndarray:
    """How many patches cover each pixel, (H, W) int32."""
    cover = np.zeros(shape, np.int32)
    for patch in patches:
        cover[patch.window] += 1
    return cover


def overlap(patch: Patch, cover: np.ndarray) -> float:
    """Share of a patch's pixels that other patches cover as well, given the coverage of all of them."""
    return float(np.mean(cover[patch.window] > 1))


def _reachable(sums: RectangleSums, shape: tuple[int, int], rule: SamplingRule) -> np.ndarray:
    """Pixels which some soft-tissue patch of the smallest, middle or largest side contains, (H, W) bool."""
    reached = np.zeros(shape, bool)
    for side in {rule.sides[0], sum(rule.sides) // 2, rule.sides[1]}:
        rows, columns = np.ogrid[: shape[0] - side + 1, : shape[1] - side + 1]
        accepted = np.pad(sums(rows, columns, side, side) >= rule.min_soft_tissue * side * side, side - 1)
        inside = RectangleSums(accepted)
        reached |= inside(*np.ogrid[: shape[0], : shape[1]], side, side) > 0
    return reached


def _loneliest_pixel(patch: Patch, cover: np.ndarray, rng: np.random.Generator) -> tuple[int, int]:
    alone = np.argwhere(cover[patch.window] < 2)
    row, column = alone[rng.integers(len(alone))]
    return int(row) + patch.row, int(column) + patch.column


def _draw(
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
