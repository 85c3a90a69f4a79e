"""Lung nodules: solid, part-solid and ground glass, some spiculated."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import numpy as np

from stan_ct.simulation.phantom.canvas import FIELD_OF_VIEW, Canvas

KINDS = ("solid", "part-solid", "ground glass")


@dataclass(frozen=True)
class Nodule:
    """One nodule.

    Attributes:
        kind: One of KINDS.
        centre: (x, y, z) in mm; x to the patient's left, y to the back, from the middle of the image; z to the head.
        radius: Mean radius, mm.
        spiculated: Whether spicules radiate from it.
        phases: Angles that make its outline its own, rad.
    """

    kind: str
    centre: tuple[float, float, float]
    radius: float
    spiculated: bool
    phases: tuple[float, ...] = field(repr=False)

    @classmethod
    def sample(cls, rng: np.random.Generator, centre: tuple[float, float, float], radius: float) -> Nodule:
        """A random nodule at `centre`."""
        kind = str(rng.choice(KINDS, p=(0.5, 0.25, 0.25)))
        spiculated = bool(rng.random() < 0.35) and kind != "ground glass"
        return cls(kind, centre, radius, spiculated, tuple(rng.uniform(0, 2 * np.pi, 8).tolist()))

    def description(self) -> dict:
        """Properties of the nodule, ready for JSON."""
        shown = asdict(self)
        del shown["phases"]
        return shown | {"centre": [round(c, 2) for c in self.centre], "radius": round(self.radius, 2)}

    def paint(self, canvas: Canvas, z: float, cloud: np.ndarray, inside: np.ndarray) -> None:
        """Paint the section at `z`; `inside` is the share of each pixel within the chest cavity, (pixels, pixels)."""
        rise = z - self.centre[2]
        if abs(rise) > 2 * self.radius + 3:
            return
        window, x, y = self._window(canvas)
        angle, edge = np.arctan2(y, x), self._radius(np.arctan2(y, x), rise)
        distance = np.sqrt(x * x + y * y + rise * rise) - edge
        share = inside[window]
        if self.spiculated:
            canvas.blend(window, share * self._spicules(angle, distance, rise), 10.0)
        texture = cloud[window]
        if self.kind == "solid":
            canvas.blend(window, share * _ramp(distance, 0.8), 35 + 8 * texture)
            return
        glass = np.maximum(-610 + 35 * texture, canvas.hu[window])  # vessels show through
        canvas.blend(window, 0.92 * share * _ramp(distance, 2.5), glass)
        if self.kind == "part-solid":
            core = np.sqrt((x - 0.15 * self.radius) ** 2 + y * y + rise * rise) - 0.55 * edge
            canvas.blend(window, share * _ramp(core, 1.0), 20 + 8 * texture)

    def _window(self, canvas: Canvas) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray]:
        """Pixels around the nodule, and where they lie from its centre in mm: x a row, y a column."""
        reach = 2.1 * self.radius + 3
        spans = []
        for middle in self.centre[:2]:
            first, last = ((middle + s * reach + FIELD_OF_VIEW / 2) / canvas.pitch for s in (-1, 1))
            spans.append(slice(max(0, int(first)), min(canvas.pixels, int(last) + 1)))
        columns, rows = spans
        x, y = (
            ((np.arange(s.start, s.stop) + 0.5) * canvas.pitch - FIELD_OF_VIEW / 2 - middle).astype(np.float32)
            for s, middle in zip(spans, self.centre[:2], strict=True)
        )
        return (rows, columns), x[None, :], y[:, None]

    def _radius(self, angle: np.ndarray, rise: float) -> np.ndarray:
        """Radius by direction: lobulated, and different from level to level."""
        p, turn = self.phases, rise / self.radius
        waves = (
            0.10 * np.sin(2 * angle + p[0]) + 0.08 * np.sin(3 * angle + p[1] + turn) + 0.05 * np.sin(5 * angle + p[2] - turn)
        )
        return self.radius * (1 + waves)

    def _spicules(self, angle: np.ndarray, distance: np.ndarray, rise: float) -> np.ndarray:
        p = self.phases
        rays = np.abs(np.cos(3.5 * angle + p[3] + 0.8 * np.sin(2 * angle + p[4]) + 0.6 * rise / self.radius)) ** 40
        length = 0.9 * self.radius * max(0.0, 1 - abs(rise) / (1.3 * self.radius))
        return 0.6 * rays * np.clip(1 - distance / (length + 1e-3), 0, 1) * (distance > -1)


def _ramp(distance: np.ndarray, edge: float) -> np.ndarray:
    return np.clip(0.5 - distance * np.float32(1 / edge), 0, 1)
