"""Spine, ribs, sternum, clavicles and scapulae of one section."""

from __future__ import annotations

import numpy as np

from stan_ct.simulation.phantom.anatomy import SPINE, VERTEBRA, Anatomy
from stan_ct.simulation.phantom.canvas import Canvas
from stan_ct.simulation.phantom.section import Section
from stan_ct.simulation.phantom.shapes import Curve, Grid, as_distance, capsule, ellipsoid, merge

STERNUM = Curve((-120, -90, -50, -20, 10, 40, 65), (-98, -98, -96, -91, -83, -71, -60))
"""y of the middle of the sternum."""
STERNUM_WIDTH = Curve((-120, -100, -60, -8, 0, 25, 48, 56), (8, 13, 19, 15, 18, 25, 30, 20))
RIB_DROP = Curve((-120, -20, 20, 50, 75), (118, 112, 92, 60, 35))
"""Descent of a rib from the spine to its front end, mm."""


def vertebra_phase(anatomy: Anatomy, z: float) -> float:
    """Phase of level `z` within a vertebra: 0 in the middle of a disc, 0.5 in the middle of a body."""
    return (z / VERTEBRA + anatomy.build.spine_phase) % 1.0


def vertebra(grid: Grid, anatomy: Anatomy) -> np.ndarray:
    """Distance to the vertebral body (or disc), waisted between the end plates."""
    waist = 1.6 * float(np.sin(np.pi * vertebra_phase(anatomy, grid.z))) ** 2
    body = ellipsoid(grid, (0, SPINE(grid.z)), (18.5 - waist, 15.5 - waist))
    hollow = ellipsoid(grid, (0, SPINE(grid.z) + 21), (12, 9))
    return np.maximum(body, -hollow)


def ribs(section: Section, anatomy: Anatomy) -> np.ndarray:
    """Distance to the nearest rib; ribs leave the spine at the pedicles and come down towards the front."""
    grid, angle = section.grid, section.angle
    drop = RIB_DROP(grid.z) * (0.5 - 0.5 * np.cos(np.clip(angle * 1.12, 0, np.pi))) * (1 + 0.04 * anatomy.vary("rib slope"))
    number = (grid.z + drop) / VERTEBRA + anatomy.build.spine_phase + 0.3 + 0.03 * np.sign(grid.x)  # whole within a rib
    height = (number - np.round(number)) * VERTEBRA
    thickness, tallness = 3.4 + 0.4 * anatomy.vary("rib thickness"), 6.3
    depth = (section.pleura - 5.2) / thickness
    level = np.sqrt(depth * depth + (height / tallness) ** 2 + 1e-6)  # 1 on the surface, an ellipse across the rib
    distance = as_distance((level - 1) * thickness, grid.pitch)
    ends = np.maximum(22 - np.abs(grid.x) - 60 * (grid.y < 0) * (grid.z < 40), (angle - 2.96) * 60)
    return np.maximum(distance, ends)


def paint_bones(canvas: Canvas, section: Section, anatomy: Anatomy, marrow: np.ndarray) -> None:
    """Paint the skeleton; `marrow` is an image of trabecular texture with SD 1."""
    grid = section.grid
    _paint_ribs(canvas, ribs(section, anatomy), section.angle, marrow)
    _paint_spine(canvas, grid, anatomy, marrow)
    sternum = ellipsoid(grid, (0, STERNUM(grid.z)), (STERNUM_WIDTH(grid.z), 5.6))
    _paint_cartilages(canvas, section, anatomy, marrow)
    if -105 < grid.z < 52:
        _bone(canvas, sternum, marrow, 110, 480, 0.9)
    _paint_clavicles(canvas, grid, marrow)
    _paint_scapulae(canvas, section, anatomy, marrow)


def _bone(canvas: Canvas, distance: np.ndarray, marrow: np.ndarray, inside: float, cortex: float, thickness: float) -> None:
    canvas.paint(distance, cortex)
    canvas.paint(distance + thickness, inside + 45 * marrow)


def _paint_ribs(canvas: Canvas, rib: np.ndarray, angle: np.ndarray, marrow: np.ndarray) -> None:
    front = (angle - 2.3) * 80
    _bone(canvas, np.maximum(rib, front), marrow, 190, 950, 1.2)
    canvas.paint(np.maximum(rib, -front), 115 + 12 * marrow)  # cartilage


def _paint_spine(canvas: Canvas, grid: Grid, anatomy: Anatomy, marrow: np.ndarray) -> None:
    phase = vertebra_phase(anatomy, grid.z)
    from_disc = min(phase, 1 - phase) * VERTEBRA  # mm to the middle of the disc
    plate = float(np.clip(1 - abs(from_disc - 3.4) / 1.4, 0, 1))
    bony = float(np.clip((from_disc - 2.2) / 0.8, 0, 1))
    body = vertebra(grid, anatomy)
    canvas.paint(body, 85.0 + 6 * marrow)
    cortex, interior = canvas.coverage(body), canvas.coverage(body + 1.0)
    if cortex is not None and interior is not None and bony > 0:
        region, cover = cortex
        canvas.blend(region, cover * bony, 620.0)
        region, cover = interior
        canvas.blend(region, cover * bony, 165 + 330 * plate + 60 * marrow[region])
    _paint_arch(canvas, grid, phase, marrow)


def _paint_arch(canvas: Canvas, grid: Grid, phase: float, marrow: np.ndarray) -> None:
    """Pedicles, laminae, transverse and spinous processes around the canal, swelling and fading along z."""
    y = SPINE(grid.z)
    swell = float(np.cos(2 * np.pi * (phase - 0.7)))  # pedicles leave the upper half of the body
    parts = [capsule(grid, (0, y + 31), (0, y + 40 + 3 * swell), (2.6, 2.2 + 0.8 * swell))]
    for side in (-1, 1):
        parts.append(capsule(grid, (side * 13, y + 21), (0, y + 31), (3.4 - swell * 0.8, 2.8)))
        parts.append(capsule(grid, (side * 12, y + 6), (side * 14, y + 20), (1.2 + 3.4 * swell, 1.5 + 3 * swell)))
        parts.append(capsule(grid, (side * 15, y + 20), (side * 33, y + 27), (1.5 + 3 * swell, 0.9 + 3.4 * swell)))
    arch = merge(parts, 1.0)
    canal = ellipsoid(grid, (0, y + 20), (9.5, 8))
    _bone(canvas, np.maximum(arch, -canal), marrow, 230, 760, 1.1)
    canvas.paint(canal, -15.0)
    canvas.paint(ellipsoid(grid, (0, y + 20), (7.5, 6.3)), 22.0)
    canvas.paint(ellipsoid(grid, (0, y + 20), (4.6, 3.8)), 42.0)


def _paint_cartilages(canvas: Canvas, section: Section, anatomy: Anatomy, marrow: np.ndarray) -> None:
    """Cartilages between ribs and sternum, one below the other."""
    for side in (-1, 1):
        phase = 2 * np.pi * (section.grid.z / 23 + anatomy.vary(f"cartilages {side}"))
        half = 5.0 * float(np.cos(phase))
        if half > 0 and -105 < section.grid.z < 45:
            taper = np.sqrt(np.clip((3.04 - section.angle) * 8, 0, 1) * np.clip((section.angle - 2.55) * 4, 0, 1))
            sheet = np.abs(section.pleura - 6.0) - (half + 1) * taper + 1
            canvas.paint(np.maximum(sheet, -side * section.grid.x), 105 + 14 * marrow)


def _paint_clavicles(canvas: Canvas, grid: Grid, marrow: np.ndarray) -> None:
    """Inner ends of the clavicles beside the top of the sternum, moving outwards with z."""
    if not 36 < grid.z < 92:
        return
    rise = grid.z - 40
    for side in (-1, 1):
        heads = ellipsoid(grid, (side * (26 + rise * 1.6), -68 + rise * 0.35, 52 + rise * 0.2), (15 + rise * 0.3, 8, 16))
        _bone(canvas, heads, marrow, 170, 800, 1.2)


def scapula(grid: Grid, anatomy: Anatomy, side: int) -> tuple[tuple, tuple, float]:
    """Ends of the blade and its share of full size; arms are up, so it lies obliquely behind the outer ribs."""
    size = float(np.clip((grid.z + 52) / 60, 0, 1.25))
    lean = 0.10 * anatomy.vary(f"scapula {side}")
    inner = (side * (88 + 4 * anatomy.vary("scapulae")), 76 - 6 * lean)
    outer = (inner[0] + side * 46 * size * (0.95 - lean), inner[1] - 44 * size)
    return inner, outer, size


def _paint_scapulae(canvas: Canvas, section: Section, anatomy: Anatomy, marrow: np.ndarray) -> None:
    grid = section.grid
    for side in (-1, 1):
        inner, outer, size = scapula(grid, anatomy, side)
        if size <= 0.02:
            continue
        bend = ((inner[0] + outer[0]) / 2 + side * 2, (inner[1] + outer[1]) / 2 + 4 * size)
        blade = [capsule(grid, inner, bend, (2.6, 1.6)), capsule(grid, bend, outer, (1.6, 2.2 + 4 * size))]
        if grid.z > 30:  # the spine of the scapula stands up from the blade
            tip = (bend[0] + side * min(0.9 * (grid.z - 30), 30), bend[1] + 14 + 4)
            blade.append(capsule(grid, bend, tip, (1.8, 3.5)))
        _bone(canvas, np.maximum(merge(blade, 1.2), section.skin + 5), marrow, 260, 880, 1.1)
