"""One random patient: build, contents and the smooth map from the scanner to a reference body.

All organs are described once, in a reference body of 316 mm x 220 mm whose back lies at y = 105 and whose carina lies at
z = 0. A patient is that body stretched, gently warped, and with sizes of its own.
"""

from __future__ import annotations

import zlib
from dataclasses import asdict, dataclass

import numpy as np

from stan_ct.simulation.phantom.canvas import CELLS, FIELD_OF_VIEW
from stan_ct.simulation.phantom.shapes import Curve, Grid

BACK = 105.0
"""y of the skin on the table, mm."""

VERTEBRA = 24.0
"""Height of a vertebra with its disc, mm; ribs repeat with it."""

LEVELS = (-140, -90, -50, -20, 10, 40, 65, 90, 120)
HALF_WIDTH = Curve(LEVELS, (150, 152, 154, 155, 154, 148, 140, 122, 100))
FRONT = Curve(LEVELS, (-117, -116, -114, -109, -101, -91, -80, -66, -55))
CAVITY_HALF_WIDTH = Curve(LEVELS, (124, 124, 122, 119, 114, 105, 92, 66, 34))
CAVITY_FRONT = Curve(LEVELS, (-93, -93, -91, -86, -78, -64, -42, -14, 5))
CAVITY_BACK = Curve(LEVELS, (82, 84, 84, 83, 81, 75, 67, 56, 46))
SPINE = Curve(LEVELS, (50, 51, 53, 54, 54, 51, 47, 42, 36))
"""y of the middle of the vertebral bodies."""


@dataclass(frozen=True)
class Build:
    """Random build of one patient.

    Attributes:
        shift: Distance of the patient to the left of the middle of the table, mm.
        width: Stretch of the reference body from side to side.
        depth: Stretch from front to back.
        height: Stretch along z.
        fat: Subcutaneous fat beyond that of the reference body, mm.
        muscle: Thickness of the muscles relative to the reference.
        breast: Size of the breasts in mm, 0 for men.
        contrast: Whether contrast medium was given.
        blood: HU of blood.
        lung: HU of the parenchyma at mid depth.
        gravity: Rise of the parenchyma from front to back, HU per 100 mm.
        emphysema: Severity in [0, 1].
        liver: HU of the liver.
        heart: Size of the heart relative to the reference.
        diaphragm: Level of the right dome, mm.
        spine_phase: Offset of the discs along the spine, fraction of a vertebra.
    """

    shift: float
    width: float
    depth: float
    height: float
    fat: float
    muscle: float
    breast: float
    contrast: bool
    blood: float
    lung: float
    gravity: float
    emphysema: float
    liver: float
    heart: float
    diaphragm: float
    spine_phase: float

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Build:
        """A random patient."""
        woman, contrast = rng.random() < 0.45, bool(rng.random() < 0.5)
        return cls(
            shift=rng.uniform(-6, 6),
            width=rng.uniform(0.92, 1.03) - 0.03 * woman,
            depth=rng.uniform(0.92, 1.07),
            height=rng.uniform(0.92, 1.08) - 0.03 * woman,
            fat=rng.uniform(-2, 10),
            muscle=rng.uniform(0.8, 1.15) - 0.12 * woman,
            breast=rng.uniform(14, 32) if woman else 0.0,
            contrast=contrast,
            blood=rng.uniform(140, 230) if contrast else rng.uniform(35, 50),
            lung=rng.uniform(-880, -830),
            gravity=rng.uniform(30, 80),
            emphysema=rng.uniform(0.15, 1) if rng.random() < 0.35 else 0.0,
            liver=rng.uniform(85, 115) if contrast else rng.uniform(45, 65),
            heart=rng.uniform(0.92, 1.12),
            diaphragm=rng.uniform(-108, -74),
            spine_phase=rng.uniform(0, 1),
        )


class Warp:
    """A smooth random displacement, a sum of a few waves in space; keeps organs from being perfect ellipses."""

    def __init__(self, rng: np.random.Generator, longest: float, shortest: float, share: float, waves: int = 7) -> None:
        """Draw `waves` waves of `longest` to `shortest` mm whose height is up to `share` of their length."""
        lengths = np.geomspace(longest, shortest, waves)
        direction = rng.standard_normal((2, waves, 3))
        direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
        self._wave = 2 * np.pi * direction / lengths[:, None]
        self._phase = rng.uniform(0, 2 * np.pi, (2, waves))
        self._size = rng.uniform(0.5, 1, (2, waves)) * lengths * share

    def __call__(self, x: np.ndarray, y: np.ndarray, z: float) -> tuple[np.ndarray, np.ndarray]:
        """Displacement along x and y in mm at the points of a section; x and y broadcast."""
        moves = []
        for wave, phase, size in zip(self._wave, self._phase, self._size, strict=True):
            terms = zip(wave.tolist(), phase.tolist(), size.tolist(), strict=True)
            moves.append(sum(s * np.sin(kx * x + ky * y + (kz * z + p)) for (kx, ky, kz), p, s in terms))
        return moves[0], moves[1]


class Anatomy:
    """The geometry of one patient: build, warp and the reference coordinates of any section."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.build = Build.sample(rng)
        self.warp = Warp(rng, 240, 42, 0.016)
        self.inner_warp = Warp(rng, 80, 24, 0.022)
        self._entropy = int(rng.integers(2**62))
        self._varied: dict[str, float] = {}

    def vary(self, what: str) -> float:
        """A small difference between patients, uniform in [-1, 1]; one patient has one value for the same words."""
        if what not in self._varied:
            rng = np.random.default_rng([self._entropy, zlib.crc32(what.encode())])
            self._varied[what] = float(rng.uniform(-1, 1))
        return self._varied[what]

    def grid(self, z: float, cells: int = CELLS) -> Grid:
        """The section at scanner level `z` in reference coordinates."""
        centres = ((np.arange(cells) + 0.5) * (FIELD_OF_VIEW / cells) - FIELD_OF_VIEW / 2).astype(np.float32)
        x, y = centres[None, :], centres[:, None]
        move_x, move_y = self.warp(x, y, z)
        reference_x = (x + move_x - self.build.shift) / self.build.width
        reference_y = (y + move_y * np.clip((BACK - y) / 40, 0.15, 1) - BACK) / self.build.depth + BACK
        return Grid(
            reference_x.astype(np.float32), reference_y.astype(np.float32), z / self.build.height, FIELD_OF_VIEW / cells
        )

    def to_scanner(self, points: np.ndarray) -> np.ndarray:
        """Points (n, 3) of the reference body in the scanner; the warp, a few mm, is left out."""
        build = self.build
        return (points - [0, BACK, 0]) * [build.width, build.depth, build.height] + [build.shift, BACK, 0]

    def crumple(self, grid: Grid) -> Grid:
        """The same section with a livelier warp, for organs whose outline is less even than that of the body."""
        move_x, move_y = self.inner_warp(grid.x, grid.y, grid.z)
        return Grid(grid.x + move_x, grid.y + move_y, grid.z, grid.pitch)

    def description(self) -> dict:
        """The build, ready for JSON."""
        return {key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(self.build).items()}
