"""Artery, vein and bronchus trees that fill the lungs, and thin vessels in fat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEAF_RADIUS = 0.48
"""Radius of the last branches that are drawn, mm."""

MURRAY = 2.75
"""Exponent of Murray's law, r_parent^k = sum r_child^k; measured 2.6-3 in lungs, 3 in theory."""

DETOUR = 0.45
"""Weight of the way to the root against the gap to be bridged when a leaf chooses where to join."""

BRONCHUS_FROM = 1.1
"""Arteries above this radius have a bronchus beside them, mm."""


@dataclass(frozen=True)
class Tree:
    """A branching tree; node 0 is the root.

    Attributes:
        points: (n, 3) x, y, z in mm.
        parent: (n,) index of the parent, smaller than the node's own; -1 for the root.
        radius: (n,) mm, of the branch that ends in the node.
    """

    points: np.ndarray
    parent: np.ndarray
    radius: np.ndarray

    def branches(self) -> np.ndarray:
        """(n - 1, 8) float32: x, y, z, radius of start and end of each branch."""
        start = self.parent[1:]
        radius = self.radius[1:]
        begin = np.minimum(self.radius[start], 1.25 * radius)  # a thin branch does not start as thick as its trunk
        parts = (self.points[start], begin[:, None], self.points[1:], radius[:, None])
        return np.concatenate(parts, 1).astype(np.float32)


def grow(rng: np.random.Generator, trunk: np.ndarray, leaves: np.ndarray) -> Tree:
    """Join leaves to a trunk, from near to far, each to the node that is close and not far from the root.

    Args:
        rng: Source of randomness.
        trunk: (t, 3) points from the root on.
        leaves: (n, 3) points that the tree must reach.
    Returns:
        A tree with radii after Murray's law.
    """
    order = np.argsort(np.linalg.norm(leaves - trunk[0], axis=1))
    most = len(trunk) + 2 * len(leaves)
    points, path = np.zeros((most, 3), np.float32), np.zeros(most, np.float32)
    parent = np.full(most, -1)
    points[: len(trunk)] = trunk
    parent[1 : len(trunk)] = np.arange(len(trunk) - 1)
    path[1 : len(trunk)] = np.cumsum(np.linalg.norm(np.diff(trunk, axis=0), axis=1))
    count = len(trunk)
    shares, bends = rng.uniform(0.4, 0.6, most), rng.normal(0, 0.06, (most, 3))
    for leaf in leaves[order].astype(np.float32):
        gap = points[:count] - leaf
        gap = np.sqrt(np.einsum("ij,ij->i", gap, gap))
        near = int(np.argmin(gap + DETOUR * path[:count]))
        length = float(gap[near])
        if length < 2:
            continue
        middle = points[near] + (leaf - points[near]) * shares[count] + bends[count] * length
        points[count], points[count + 1] = middle, leaf
        parent[count], parent[count + 1] = near, count
        path[count] = path[near] + np.linalg.norm(middle - points[near])
        path[count + 1] = path[count] + np.linalg.norm(leaf - middle)
        count += 2
    return Tree(points[:count].copy(), parent[:count].copy(), murray_radii(parent[:count]))


def murray_radii(parent: np.ndarray) -> np.ndarray:
    """Radii with r_parent^k = sum of r_child^k and LEAF_RADIUS at the leaves.

    Args:
        parent: (n,) index of each node's parent, smaller than its own; -1 for the root.
    Returns:
        (n,) float64, mm.
    Example:
        >>> (murray_radii(np.array([-1, 0, 0])) / LEAF_RADIUS).round(3)  # two leaves: 2^(1 / 2.75)
        array([1.287, 1.   , 1.   ])
    """
    leaves = (np.bincount(parent[1:], minlength=len(parent)) == 0).astype(float)
    for node in range(len(parent) - 1, 0, -1):
        leaves[parent[node]] += leaves[node]
    return LEAF_RADIUS * leaves ** (1 / MURRAY)


def bronchi(arteries: Tree, side: int) -> np.ndarray:
    """Bronchi beside the larger arteries, inside and behind them; (m, 8) as `Tree.branches`."""
    radius = np.minimum(arteries.radius, 4.0)
    away = np.array([-0.72 * side, 0.55, 0.42])
    points = arteries.points + away * (2.05 * radius + 0.4)[:, None]
    child = np.flatnonzero(arteries.radius > BRONCHUS_FROM)
    child = child[arteries.parent[child] >= 0]
    begin = np.minimum(radius[arteries.parent[child]], 1.25 * radius[child])
    lumen = 0.85
    parts = (points[arteries.parent[child]], lumen * begin[:, None], points[child], lumen * radius[child, None])
    return np.concatenate(parts, 1).astype(np.float32)


def wander(rng: np.random.Generator, count: int, box: np.ndarray, steps: int = 10) -> np.ndarray:
    """Thin vessels that wander through fat, mostly along z.

    Args:
        rng: Source of randomness.
        count: Number of vessels.
        box: (2, 3) lowest and highest x, y, z of where they start, mm.
        steps: Points of each, about 8 mm apart.
    Returns:
        (count * (steps - 1), 8) as `Tree.branches`.
    """
    step = rng.normal(0, 1.6, (count, steps, 3)) + rng.normal(0, 2.4, (count, 1, 3))
    step[..., 2] = 7.0
    points = rng.uniform(box[0], box[1], (count, 1, 3)) + np.cumsum(step, 1)
    radius = np.broadcast_to(rng.gamma(4.0, 0.2, (count, 1, 1)) + 0.3, (count, steps, 1))
    nodes = np.concatenate([points, radius], 2)
    return np.concatenate([nodes[:, :-1], nodes[:, 1:]], 2).reshape(-1, 8).astype(np.float32)
