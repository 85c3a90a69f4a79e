"""Heart, great vessels, central airways and oesophagus: where they lie, and how they are painted."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from stan_ct.simulation.phantom.anatomy import SPINE, Anatomy
from stan_ct.simulation.phantom.canvas import Canvas
from stan_ct.simulation.phantom.shapes import FAR, Curve, Grid, Tube, capsule, ellipsoid, merge
from stan_ct.simulation.phantom.texture import Planes

VESSELS: dict[str, list[tuple[float, ...]]] = {
    "aorta": [
        (6, -28, -52, 14), (-2, -32, -38, 15), (-9, -32, -20, 15), (-11, -28, 0, 14.5), (-10, -19, 14, 14),
        (-4, -8, 23, 13), (6, 6, 26, 12.5), (16, 20, 21, 12), (22, 30, 8, 11.5), (23, 34, -10, 11.5),
        (22, 36, -40, 11), (18, 34, -70, 11), (11, 32, -105, 10.5), (5, 33, -150, 10.5),
    ],
    "superior vena cava": [(-30, -16, 42, 7.5), (-32, -12, 10, 8), (-33, -10, -25, 8.5), (-30, -15, -45, 10)],
    "inferior vena cava": [(-26, -10, -88, 11), (-26, -2, -105, 11), (-24, 6, -150, 12)],
    "left brachiocephalic vein": [(80, -46, 94, 6), (46, -46, 72, 6), (24, -42, 58, 6.5), (2, -38, 48, 6.5), (-20, -26, 39, 7)],
    "right brachiocephalic vein": [(-80, -46, 94, 6), (-44, -44, 72, 6.5), (-30, -32, 55, 7), (-28, -18, 40, 7.5)],
    "brachiocephalic trunk": [(-5, -12, 24, 7), (-12, -10, 42, 6.5), (-20, -6, 62, 6), (-24, -4, 110, 5)],
    "left carotid": [(3, -2, 26, 4.5), (10, -2, 48, 4), (17, -2, 110, 4)],
    "left subclavian": [(13, 10, 26, 5.5), (21, 10, 55, 5), (23, 4, 85, 4.5), (44, -12, 106, 4.5), (90, -20, 112, 4.5)],
    "pulmonary trunk": [(10, -54, -66, 14), (14, -48, -48, 14), (17, -38, -34, 13.5), (20, -24, -22, 13)],
    "right pulmonary artery": [(20, -24, -22, 12), (6, -8, -23, 10.5), (-14, -2, -26, 9.5), (-36, 0, -29, 9)],
    "left pulmonary artery": [(20, -24, -22, 12), (30, -8, -14, 11), (40, 8, -15, 10), (43, 22, -24, 8.5)],
    "azygos": [(-8, 36, -130, 3), (-8, 36, -10, 3.5), (-14, 28, 5, 3.8), (-22, 12, 11, 4), (-31, -6, 9, 4.5)],
    "right superior vein": [(-14, 0, -44, 7), (-30, -6, -38, 6.5), (-44, -12, -30, 5.5)],
    "right inferior vein": [(-14, 10, -54, 7), (-32, 18, -60, 6), (-46, 26, -64, 5)],
    "left superior vein": [(20, 0, -42, 7), (34, -8, -34, 6.5), (46, -14, -26, 5.5)],
    "left inferior vein": [(20, 10, -52, 7), (36, 20, -56, 6), (48, 28, -60, 5)],
}  # fmt: skip
"""Centre lines in the reference body: x, y, z, radius, mm."""

AIRWAYS = {
    "trachea": [(-1, -2, 120, 8.5), (0, 2, 60, 8.5), (1, 9, 20, 8.5), (1, 12, 2, 9)],
    "right bronchi": [(0, 12, 4, 7.5), (-12, 15, -9, 7), (-21, 18, -20, 6), (-25, 21, -40, 5), (-33, 30, -58, 4)],
    "right upper lobe": [(-17, 16, -12, 5), (-30, 15, -15, 4.4), (-44, 12, -12, 3.5)],
    "middle lobe": [(-25, 21, -42, 3.6), (-34, 10, -50, 3.2), (-46, -4, -58, 2.5)],
    "left bronchi": [(2, 12, 4, 7), (13, 17, -11, 6.2), (26, 21, -24, 5.6), (35, 24, -36, 4.6), (42, 34, -58, 3.8)],
    "left upper lobe": [(30, 22, -28, 4.5), (42, 12, -27, 4), (52, 2, -20, 3)],
}

CHAMBERS = {
    "left atrium": ((5, 3, -50), (33, 19, 21), 0.05),
    "right atrium": ((-27, -26, -70), (22, 30, 36), -0.25),
    "right ventricle": ((10, -54, -83), (44, 25, 40), -0.45),
    "left ventricle": ((37, -22, -82), (38, 21, 36), -0.68),
}
"""Blood pools of the heart: centre, radii, angle in the axial plane."""

MUSCLE_WALL = {"left atrium": 2.0, "right atrium": 2.0, "right ventricle": 3.5, "left ventricle": 9.5}
"""Thickness of the wall, mm."""

NODES = (
    (-22, -4, 16),
    (-16, 2, 4),
    (14, 0, 4),
    (5, 20, -16),
    (-4, 16, -24),
    (-42, 8, -38),
    (48, 14, -36),
    (-14, -40, 30),
    (10, -44, 12),
)
"""Usual positions of lymph nodes: x, y, z, mm."""

OESOPHAGUS = [(4, 20, 120, 6), (6, 25, 50, 6), (5, 28, 0, 6), (6, 27, -50, 6), (10, 22, -95, 6.5), (16, 8, -125, 8)]
HEART = (8.0, -20.0, -68.0)
FRONT_FAT = Curve((-130, -90, -40, 0, 30, 60, 90), (-92, -92, -90, -82, -70, -50, -20))
"""y of the front of the fat behind the sternum."""
FRONT_WIDTH = Curve((-130, -60, 0, 30, 50, 75), (9, 3, 2.5, 6, 17, 26))
"""Half width of that fat in front, where the lungs come closest; above, the vessels of the neck spread."""


class Mediastinum:
    """The organs between the lungs of one patient."""

    def __init__(self, anatomy: Anatomy) -> None:
        self._anatomy = anatomy
        self.vessels = {name: Tube(_vary(line, anatomy.vary(name))) for name, line in VESSELS.items()}
        self.airways = {name: Tube(_vary(line, anatomy.vary(name))) for name, line in AIRWAYS.items()}
        self.oesophagus = Tube(OESOPHAGUS)
        self.nodes = [(place, [3.2 + 1.8 * anatomy.vary(f"node {place}")] * 2 + [5.0]) for place in NODES]
        self.chambers = {name: self._chamber(*shape, anatomy.vary(name)) for name, shape in CHAMBERS.items()}

    def section(self, grid: Grid) -> Organs:
        """Distances of all organs on one section."""
        lively = self._anatomy.crumple(grid)
        present = {name: distance for name, tube in self.vessels.items() if (distance := tube(lively)) is not None}
        airways = [distance for tube in self.airways.values() if (distance := tube(grid)) is not None]
        pools = {name: ellipsoid(lively, *shape) for name, shape in self.chambers.items()}
        pools = {name: distance for name, distance in pools.items() if distance.min() < 40}
        oesophagus = self.oesophagus(lively)
        nodes = [ellipsoid(lively, *node) for node in self.nodes if abs(grid.z - node[0][2]) < 5]
        front = self._front(grid)
        return Organs(present, airways, pools, nodes, front, np.full_like(grid.x, FAR) if oesophagus is None else oesophagus)

    def _front(self, grid: Grid) -> np.ndarray:
        """Distance to the wedge of fat behind the sternum."""
        y, width = FRONT_FAT(grid.z), FRONT_WIDTH(grid.z)
        lean, bulk = 6 * self._anatomy.vary("front fat leans"), 14 + 4 * self._anatomy.vary("front fat")
        return capsule(grid, (2 + lean, y), (-2, y + 46), (width, bulk + 0.3 * width))

    def _chamber(self, centre: tuple, radii: tuple, angle: float, vary: float) -> tuple[list, list, float]:
        size = self._anatomy.build.heart
        moved = [h + (c - h) * size for c, h in zip(centre, HEART, strict=True)]
        return moved, [r * size * (1 + 0.06 * vary) for r in radii], angle + 0.15 * vary


class Organs:
    """Distances of the organs between the lungs on one section."""

    def __init__(
        self, vessels: dict, airways: list, pools: dict, nodes: list, front: np.ndarray, oesophagus: np.ndarray
    ) -> None:
        self.vessels, self.airways, self.pools, self.nodes = vessels, airways, pools, nodes
        self.front, self.oesophagus = front, oesophagus

    def surface(self, grid: Grid, spine: np.ndarray) -> np.ndarray:
        """Distance to the mediastinum: all organs with the fat that rounds off the gaps between them."""
        organs = [distance - 1.5 for distance in self.vessels.values()]
        organs += [distance - 3.0 for distance in self.airways]
        organs += [self.heart() - 2.5] if self.pools else []
        back = ellipsoid(grid, (3, SPINE(grid.z) - 26), (12, 20))
        return merge([*organs, self.oesophagus - 1.5, spine - 2.5, self.front, back], 3.5)

    def heart(self) -> np.ndarray:
        """Distance to the outside of the heart: the chambers in their walls, with the grooves between them filled."""
        return merge([distance - MUSCLE_WALL[name] for name, distance in self.pools.items()], 6.0)

    def paint(self, canvas: Canvas, anatomy: Anatomy, z: float, planes: Planes) -> None:
        """Heart muscle, blood and oesophagus."""
        build = anatomy.build
        texture = 3 * planes.cloud
        muscle = (95 if build.contrast else 46) + texture
        blood = build.blood + texture
        for distance in self.nodes:
            canvas.paint(distance, 35 + texture)
        if self.pools:
            canvas.paint(self.heart() + 1.0, -55 + 9 * planes.cloud)  # fat in the grooves
            canvas.paint(merge([d - MUSCLE_WALL[name] for name, d in self.pools.items()], 2.0), muscle)
        for distance in self.vessels.values():
            canvas.paint(distance, 40 + texture)
        for distance in [*self.pools.values(), *(d + 1.3 for d in self.vessels.values())]:
            canvas.paint(distance, blood)
        canvas.paint(self.oesophagus, 36 + texture)
        gas = 4.6 + 2.2 * np.sin(z / 8 + 3 * anatomy.vary("gas"))  # comes and goes along the gullet
        canvas.paint(self.oesophagus + float(gas), -700.0)

    def paint_airways(self, canvas: Canvas) -> None:
        """Walls, then lumina, so that branches open into each other."""
        for distance in self.airways:
            canvas.paint(distance - 1.4, 35.0)
        for distance in self.airways:
            canvas.paint(distance, -998.0)


def _vary(line: ArrayLike, vary: float) -> np.ndarray:
    """A centre line whose radii are `vary` times 10 % larger, (n, 4)."""
    return np.asarray(line, float) * [1, 1, 1, 1 + 0.1 * vary]
