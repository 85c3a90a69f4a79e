"""Contents of the lungs of one patient: parenchyma, fissures, bronchi, vessels and nodules."""

from __future__ import annotations

import numpy as np

from stan_ct.simulation.phantom import lungs
from stan_ct.simulation.phantom.anatomy import Anatomy
from stan_ct.simulation.phantom.canvas import Canvas
from stan_ct.simulation.phantom.nodules import Nodule
from stan_ct.simulation.phantom.rods import Rods, render
from stan_ct.simulation.phantom.section import Section
from stan_ct.simulation.phantom.texture import Planes
from stan_ct.simulation.phantom.vessels import Tree, bronchi, grow

LEAVES = 4400
"""Leaves of each of the four trees."""

HILA = {
    ("artery", -1): [(-30, -3, -28), (-40, 4, -33), (-42, 14, -45), (-46, 24, -60)],
    ("artery", 1): [(38, 6, -15), (45, 20, -24), (47, 28, -38), (50, 34, -55)],
    ("vein", -1): [(-16, 5, -48), (-40, -10, -32), (-52, -16, -22)],
    ("vein", 1): [(24, 6, -46), (42, -12, -30), (52, -18, -20)],
}
"""Trunk of each tree in the reference body, x, y, z in mm; sides as the sign of x."""


class LungContent:
    """Trees and nodules of one patient.

    Attributes:
        trees: By kind and side, see HILA.
        nodules: The nodules.
    """

    def __init__(self, rng: np.random.Generator, anatomy: Anatomy, lung_map: lungs.LungMap) -> None:
        self._anatomy, self._map = anatomy, lung_map
        self.trees = {key: self._tree(rng, *key) for key in HILA}
        self.nodules = self._draw_nodules(rng)
        self._vessels = Rods(np.concatenate([tree.branches() for tree in self.trees.values()]))
        self._bronchi = Rods(np.concatenate([bronchi(self.trees["artery", side], side) for side in (-1, 1)]))

    def paint(self, canvas: Canvas, section: Section, planes: Planes) -> None:
        """Fill the lungs of one section."""
        found = canvas.coverage(section.lung)
        if found is None:
            return
        window, cover = found
        distance, y = canvas.enlarge(section.lung), canvas.enlarge(section.grid.y)
        cloud, septa, fine = (plane[window] for plane in planes[:3])
        canvas.blend(window, cover, lungs.parenchyma(self._anatomy, y[window], -distance[window], cloud, septa, fine))
        for sheet, beyond in lungs.fissures(self._anatomy, section.grid):
            thin = np.clip(1.0 - np.abs(canvas.enlarge(sheet)[window]) * 1.4, 0, 1)
            canvas.blend(window, thin * np.clip(0.5 - canvas.enlarge(beyond)[window], 0, 1) * cover, -560.0)
        self._paint_bronchi(canvas, section.z, np.clip(1.0 - distance, 0, 1))
        vessels = render(canvas, self._vessels.at(section.z), section.z) * np.clip(5.5 - distance, 0, 1)
        canvas.blend(canvas.everywhere, vessels, self._anatomy.build.blood)
        inside = np.clip(1.5 - distance, 0, 1)
        for nodule in self.nodules:
            nodule.paint(canvas, section.z, planes.cloud, inside)

    def _paint_bronchi(self, canvas: Canvas, z: float, allowed: np.ndarray) -> None:
        """Walls, then lumina, where `allowed` is 1."""
        rods = self._bronchi.at(z)
        canvas.blend(canvas.everywhere, render(canvas, rods, z, (0.25, 0.12)) * allowed, -20.0)
        canvas.blend(canvas.everywhere, render(canvas, rods, z) * allowed, -985.0)

    def _tree(self, rng: np.random.Generator, kind: str, side: int) -> Tree:
        low, high = (-175, -120, lungs.MAP_LEVELS[0]), (175, 110, lungs.MAP_LEVELS[-1])
        points = rng.uniform(low, high, (10 * LEAVES, 3))
        points = points[(np.sign(points[:, 0]) == side) & (self._map.depth(points) > 3.5)][:LEAVES]
        return grow(rng, self._anatomy.to_scanner(np.array(HILA[kind, side], float)), points)

    def _draw_nodules(self, rng: np.random.Generator) -> list[Nodule]:
        nodules: list[Nodule] = []
        wanted = int(rng.integers(2, 7))
        while len(nodules) < wanted:
            centre, radius = rng.uniform((-150, -100, -85), (150, 95, 60)), float(rng.uniform(2.5, 11))
            if self._map.depth(centre[None])[0] > 0.6 * radius + 1.5:
                nodules.append(Nodule.sample(rng, tuple(centre.tolist()), radius))
        return nodules
