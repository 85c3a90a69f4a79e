"""Chest wall of one section: skin, fat, breasts, the layers of muscle, and the table below."""

from __future__ import annotations

import numpy as np

from stan_ct.simulation.phantom.anatomy import BACK, FRONT, HALF_WIDTH, SPINE, Anatomy
from stan_ct.simulation.phantom.bones import scapula
from stan_ct.simulation.phantom.canvas import CELLS, FIELD_OF_VIEW, Canvas
from stan_ct.simulation.phantom.section import Section
from stan_ct.simulation.phantom.shapes import Curve, Grid, as_distance, capsule, ellipsoid, merge, window
from stan_ct.simulation.phantom.texture import Planes

SHOULDER = Curve((-60, -20, 10, 40, 70, 100), (-30, -14, -4, 0, 4, 6))
"""Protrusion of the soft tissue around the scapulae, mm; it vanishes below them."""
PECTORAL = Curve((-75, -50, -10, 20, 50, 80), (-1.5, 1.5, 3.5, 6.0, 8.0, 6.0))
"""Half thickness of the pectoral muscles, mm."""
LATISSIMUS = Curve((-120, -60, -20, 20, 50), (4.0, 6.2, 7.2, 6.5, 2.0))
"""Half thickness of the latissimus dorsi, mm."""
OUTSIDE = 9.6
"""Distance from the pleura to the muscles over the ribs, mm."""


def body(grid: Grid, anatomy: Anatomy) -> np.ndarray:
    """Distance to the skin: torso, shoulders, and breasts in women."""
    build = anatomy.build
    front, half_width = FRONT(grid.z) - build.fat, HALF_WIDTH(grid.z) + build.fat
    middle, half = (BACK + front) / 2, (BACK - front) / 2
    u, v = np.abs(grid.x) / half_width, np.abs(grid.y - middle) / half
    level = (u**2.4 + v**2.4) ** (1 / 2.4) - 1
    shapes = [as_distance(level * half, grid.pitch)]
    for side in (-1, 1):
        centre = side * (116 + 0.4 * build.fat), 44 + 0.2 * grid.z * (grid.z < 0)
        shapes.append(ellipsoid(grid, centre, (50, 48)) - SHOULDER(grid.z))
    shapes += [breast(grid, anatomy, side) for side in (-1, 1)] if build.breast else []
    return np.maximum(merge(shapes, 12.0) + 2.0, grid.y - BACK + 1.5)  # flattened by the table


def breast(grid: Grid, anatomy: Anatomy, side: int) -> np.ndarray:
    """Distance to one breast, lying flat and to the side."""
    size = anatomy.build.breast
    centre = side * (78 + 0.3 * size), FRONT(grid.z) - anatomy.build.fat + 26, -58 + 6 * anatomy.vary("breasts")
    return ellipsoid(grid, centre, (46 + 0.3 * size, 22 + size, 54), side * 0.45)


def paint_body(canvas: Canvas, section: Section, anatomy: Anatomy, planes: Planes) -> None:
    """Skin, fat with its thin strands, and the glands of the breasts."""
    canvas.paint(section.skin, 15.0)
    canvas.paint(section.skin + 1.9, fat(planes))
    for side in (-1, 1) if anatomy.build.breast else ():
        gland = np.maximum(breast(section.grid, anatomy, side) + 10, section.skin + 7)
        found = canvas.coverage(gland, 6.0)
        if found is not None:
            window, cover = found
            lobules = np.clip(0.3 + 1.6 * planes.septa[window] + 0.9 * planes.cloud[window], 0, 1)
            canvas.blend(window, cover * lobules, 25.0)


def fat(planes: Planes) -> np.ndarray:
    """HU of fat with its thin strands of connective tissue."""
    strands = np.clip(1.2 - np.abs(planes.septa) * 9, 0, 1) * np.clip(planes.cloud + 0.3, 0, 1)
    return -104 + 5 * planes.cloud + 55 * strands


def paint_muscles(canvas: Canvas, section: Section, anatomy: Anatomy, planes: Planes) -> None:
    """All muscles of the wall, each kept below the skin and outside the ribs, marbled with fat."""
    marbling = np.clip(1.0 - np.abs(planes.septa) * 7, 0, 1) * np.clip(0.9 * planes.cloud, 0, 1)
    fibres = 54 + 4 * planes.cloud - 110 * marbling
    for muscle in muscles(section, anatomy):
        canvas.paint(np.maximum(muscle, section.skin + 4.2), fibres)


def muscles(section: Section, anatomy: Anatomy) -> list[np.ndarray]:
    """Distances to the muscles of the wall, from the innermost out."""
    grid, pleura, angle = section.grid, section.pleura, section.angle
    bulk = anatomy.build.muscle
    wave = 0.9 * np.sin(5 * angle + grid.z / 17 + 3 * anatomy.vary("muscle waves")) + 0.7 * np.sin(grid.x / 13 - grid.z / 23)
    depth = pleura + wave
    serratus, latissimus, pectoral = 4.4 * bulk, LATISSIMUS(grid.z) * bulk, PECTORAL(grid.z) * bulk
    minor = 0.6 * max(pectoral, 0) if grid.z > -35 else 0.0
    found = [
        np.abs(pleura - 5.0) - 4.3 * np.sqrt(np.clip((2.95 - angle) * 6, 0, 1)) + 1.0,  # intercostals
        _layer(depth, angle, OUTSIDE + serratus, serratus, 0.85, 2.1),
        _layer(depth, angle, OUTSIDE + 2 * serratus + 1.0 + latissimus, latissimus, 0.5, 1.75),
        _layer(depth, angle, OUTSIDE + 2 * minor + 1.0 + pectoral, pectoral, 1.75, 2.98),
    ]
    if minor:
        found.append(_layer(depth, angle, OUTSIDE + minor, minor, 1.9, 2.55))
    return found + _back_muscles(section, anatomy) + _shoulder_muscles(section, anatomy)


def _layer(depth: np.ndarray, angle: np.ndarray, middle: float, half: float, start: float, stop: float) -> np.ndarray:
    """Distance to a sheet of muscle `middle` mm outside the pleura that tapers towards its ends."""
    return np.abs(depth - middle) - (half + 2) * np.sqrt(window(angle, start, stop, 0.5)) + 2


def _back_muscles(section: Section, anatomy: Anatomy) -> list[np.ndarray]:
    """Muscles beside the spinous processes, and the trapezius over them."""
    grid, pleura, skin = section.grid, section.pleura, section.skin
    y, bulk = SPINE(grid.z), anatomy.build.muscle
    found = []
    for side in (-1, 1):
        deep = ellipsoid(grid, (side * 12, y + 33), (11.5 * bulk, 11), side * 0.5)
        long = ellipsoid(grid, (side * 31, y + 36), (22 * bulk, 10 * bulk), -side * 0.12)
        found += [np.maximum(deep, 8.6 - pleura), np.maximum(long, 8.6 - pleura)]
    trapezius = max(1.5, (3.4 + 0.03 * grid.z) * bulk)
    sheet = np.abs(skin + 6 + max(0, anatomy.build.fat) * 0.5 + trapezius) - trapezius
    sheet += 30 * np.clip(np.abs(grid.x) / max(30, 60 + 0.5 * grid.z) - 0.85, 0, 1)
    found.append(np.maximum(np.maximum(sheet, 1.5 - np.abs(grid.x)), 30 - grid.y))
    return found


def _shoulder_muscles(section: Section, anatomy: Anatomy) -> list[np.ndarray]:
    """Muscle in front of and behind each scapula, towards the raised arm, and where the pectorals gather."""
    grid, pleura, found = section.grid, section.pleura, []
    bulk = anatomy.build.muscle
    for side in (-1, 1):
        inner, outer, size = scapula(grid, anatomy, side)
        if size <= 0.02:
            continue
        for shift, thick in ((-10.5, 12.0), (11.5, 11.5)):  # subscapularis, infraspinatus
            normal = (side * 0.66 * shift * size, 0.75 * shift * size)
            start, end = ((p[0] + normal[0], p[1] + normal[1]) for p in (inner, outer))
            muscle = capsule(grid, start, end, (thick * 0.6 * size * bulk, thick * size * bulk))
            found.append(np.maximum(muscle, 9.8 - pleura))
        teres = ellipsoid(grid, (outer[0] + side * 6, outer[1] - 10), (16 * size * bulk, 23 * size * bulk), side * 0.5)
        found.append(np.maximum(teres, 12 - pleura))
        gather = float(np.clip((grid.z - 15) / 30, 0, 1))
        if gather > 0:
            knob = ellipsoid(grid, (side * (104 + 0.15 * grid.z), -58), (24 * gather * bulk, 13 * gather * bulk), side * 0.35)
            found.append(np.maximum(knob, 11 - pleura))
    return found


def paint_table(canvas: Canvas, skin: np.ndarray, anatomy: Anatomy) -> None:
    """A curved shell of carbon fibre around foam; tables differ in their curve."""
    centres = ((np.arange(CELLS) + 0.5) * (FIELD_OF_VIEW / CELLS) - FIELD_OF_VIEW / 2).astype(np.float32)
    curve = 150 + 70 * anatomy.vary("table")
    depth = centres[:, None] - (BACK + 7 - (centres[None, :] / 520) ** 2 * curve)  # below the top of the table
    outside = 1.5 - skin
    for half, hu in ((13.0, -150.0), (11.4, -900.0)):
        canvas.paint(np.maximum(np.abs(depth - 13) - half, outside), hu)
