"""A random thorax whose axial sections can be computed at any level, in any order."""

from __future__ import annotations

import numpy as np

from stan_ct.simulation.phantom import bones, lungs, wall
from stan_ct.simulation.phantom.anatomy import Anatomy
from stan_ct.simulation.phantom.canvas import CELLS, FIELD_OF_VIEW, Canvas
from stan_ct.simulation.phantom.lung_content import LungContent
from stan_ct.simulation.phantom.mediastinum import Mediastinum, Organs
from stan_ct.simulation.phantom.rods import Rods, render
from stan_ct.simulation.phantom.section import Section
from stan_ct.simulation.phantom.texture import Planes, Textures
from stan_ct.simulation.phantom.vessels import wander

__all__ = ["FIELD_OF_VIEW", "ThoraxPhantom"]

FAT_VESSELS = 700
FAT_VESSELS_WITHIN = ((-175, -125, -190), (175, 105, 120))
"""Lowest and highest x, y, z where the thin vessels in fat start, mm."""


class ThoraxPhantom:
    """One random patient, fully determined by `seed`.

    Attributes:
        description: Random properties, ready for JSON: the build (see `anatomy.Build`) and the nodules (see
            `nodules.Nodule`).
    Note:
        The anatomy is schematic. Images made from it must be labelled as simulated.
    """

    def __init__(self, seed: int) -> None:
        anatomy_rng, texture_rng, lung_rng, fat_rng = np.random.default_rng(seed).spawn(4)
        self._anatomy = Anatomy(anatomy_rng)
        self._mediastinum = Mediastinum(self._anatomy)
        self._textures = Textures(texture_rng)
        self._fat_vessels = Rods(wander(fat_rng, FAT_VESSELS, np.array(FAT_VESSELS_WITHIN)))
        lung = np.stack([self._section(z, lungs.MAP_CELLS)[0].lung for z in lungs.MAP_LEVELS.tolist()])
        self._content = LungContent(lung_rng, self._anatomy, lungs.LungMap(lung))
        nodules = [nodule.description() for nodule in self._content.nodules]
        self.description = {"seed": int(seed), **self._anatomy.description(), "nodules": nodules}

    def slice(self, z: float, pixels: int = 1024) -> np.ndarray:
        """The axial section at level `z`, a pure function of the seed and `z`.

        Args:
            z: mm, 0 at the carina, positive towards the head. Beyond the chest the nearest known shape goes on.
            pixels: Side of the image, a multiple of 256; the pitch is FIELD_OF_VIEW / pixels.
        Returns:
            (pixels, pixels) float32 HU, row 0 in front, column 0 at the patient's right.
        Raises:
            ValueError: If `pixels` is not a positive multiple of 256.
        """
        canvas, z = Canvas(pixels), float(z)
        section, organs = self._section(z, CELLS)
        planes = self._textures.at(z, pixels)
        wall.paint_table(canvas, section.skin, self._anatomy)
        wall.paint_body(canvas, section, self._anatomy, planes)
        self._paint_fat_vessels(canvas, section)
        wall.paint_muscles(canvas, section, self._anatomy, planes)
        self._paint_cavity(canvas, section, planes)
        organs.paint(canvas, self._anatomy, z, planes)
        self._content.paint(canvas, section, planes)
        organs.paint_airways(canvas)
        bones.paint_bones(canvas, section, self._anatomy, planes.marrow)
        return canvas.hu

    def _section(self, z: float, cells: int) -> tuple[Section, Organs]:
        """The surfaces of a section and the organs between the lungs."""
        grid = self._anatomy.grid(z, cells)
        pleura = lungs.cavity(grid)
        organs = self._mediastinum.section(grid)
        between = organs.surface(grid, bones.vertebra(grid, self._anatomy))
        below = np.minimum(*lungs.domes(grid, self._anatomy))
        lung = np.maximum(np.maximum(pleura, -between), -below)
        return Section(z, grid, wall.body(grid, self._anatomy), pleura, lung), organs

    def _paint_cavity(self, canvas: Canvas, section: Section, planes: Planes) -> None:
        """Fill the chest cavity with fat and its vessels, and with what lies below the diaphragm."""
        canvas.paint(section.pleura - 1.0, wall.fat(planes))
        self._paint_fat_vessels(canvas, section)
        liver, spleen = lungs.domes(section.grid, self._anatomy)
        texture = 4 * planes.cloud
        canvas.paint(np.maximum(np.maximum(spleen, section.pleura) + 1.5, 25 - section.grid.x), 50 + texture)
        canvas.paint(np.maximum(liver, section.pleura) + 1.5, self._anatomy.build.liver + texture)

    def _paint_fat_vessels(self, canvas: Canvas, section: Section) -> None:
        """Thin vessels; the caller paints what hides them afterwards."""
        inside = np.clip(-2.5 - canvas.enlarge(section.skin), 0, 1)
        cover = render(canvas, self._fat_vessels.at(section.z), section.z)
        canvas.blend(canvas.everywhere, cover * inside, 30 + 0.25 * self._anatomy.build.blood)
