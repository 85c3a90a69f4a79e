"""Reconstruction kernels as modulation transfer functions: the curve, a table of estimates, and how to measure one.

The names are those of the scanners; the numbers are not. No manufacturer publishes the curves of BR40, BL57 and BL64:
those in `KERNELS` are estimates (+-15 %), made from published curves of older kernels. A site that knows better, from a
wire phantom (:func:`measure_mtf`) or from a pair of real series (:func:`kernel_from_ratio`), gives its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy import optimize, special

from stan_ct.ct.filters import RadialFilter
from stan_ct.files import write_atomically

SLOPE, OVERSHOOT, PLACE = 1.05, 1.5, 0.3
"""Least f10 / f50, largest overshoot, and least place of it in units of f50, that a CT kernel may have."""

TYPICAL_SLOPE = 1.3
"""f10 / f50 of sharp kernels, where nothing is known of it."""

WIRE_RADIUS = 12
"""Pixels around a wire that :func:`measure_mtf` looks at."""


@dataclass(frozen=True)
class Kernel:
    r"""A radially symmetric modulation transfer function (MTF).

    :math:`M(f) = [1 + a (f/f_b)^2 e^{1 - (f/f_b)^2}] \exp(-(f/f_s)^n)`, with :math:`f_s, n` such that M is 0.5 at `f50`
    and 0.1 at `f10`.

    Attributes:
        name: Convolution Kernel (0018,1210); several values with "/" between, as "Br40d/3".
        f50: Frequency at which M falls to 0.5, lp/cm.
        f10: Frequency at which M falls to 0.1, lp/cm.
        overshoot: a, >= 0; edge enhancement.
        overshoot_frequency: f_b, lp/cm; half of `f50` where it is 0.
    Raises:
        ValueError: If no such curve exists.
    """

    name: str
    f50: float
    f10: float
    overshoot: float = 0.0
    overshoot_frequency: float = 0.0

    def __post_init__(self) -> None:
        numbers = (self.f50, self.f10, self.overshoot, self.overshoot_frequency)
        told = f"f50 {self.f50:g}, f10 {self.f10:g}, overshoot {self.overshoot:g} at {self.overshoot_frequency:g} lp/cm"
        if not (np.isfinite(numbers).all() and self.f50 > 0 and self.f10 / self.f50 >= SLOPE and min(numbers[2:]) >= 0):
            raise ValueError(f"kernel {self.name}: expected 0 < f50 < f10 in lp/cm and an overshoot >= 0, got {told}")
        if self.f50 < 1 or self.overshoot > OVERSHOOT or 0 < self.overshoot_frequency < PLACE * self.f50:
            raise ValueError(
                f"kernel {self.name}: no CT kernel has {told}; expected f50 >= 1 lp/cm, overshoot <= {OVERSHOOT:g} at "
                f"{PLACE:g} of f50 or more. Frequencies are in lp/cm, not in lp/mm"
            )
        if not self._lift(self.f10) / 0.1 > self._lift(self.f50) / 0.5:
            raise ValueError(
                f"kernel {self.name}: an overshoot of {self.overshoot:g} leaves no curve that falls through f50 and f10"
            )
        if not all(re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9_. -]{0,14}[A-Za-z0-9_-])?", part) for part in self.name.split("/")):
            raise ValueError(
                f"kernel name {self.name!r}: expected 1 to 16 letters, digits, '_', '-', '.' or spaces, and '/' between values"
            )

    def mtf(self, frequency: np.ndarray) -> np.ndarray:
        """M at frequencies in lp/cm, any shape, float64; 1 at 0."""
        scale, exponent = self._fall
        return self._lift(frequency) * np.exp(-((np.asarray(frequency, np.float64) / scale) ** exponent))

    def _lift(self, frequency: np.ndarray | float) -> np.ndarray:
        ratio = (np.asarray(frequency, np.float64) / (self.overshoot_frequency or self.f50 / 2)) ** 2
        return 1 + self.overshoot * ratio * np.exp(1 - ratio)

    @property
    def _fall(self) -> tuple[float, float]:
        """f_s in lp/cm and n: from (f50 / f_s)^n = ln(lift(f50) / 0.5) and the same for f10."""
        at50, at10 = np.log(self._lift(self.f50) / 0.5), np.log(self._lift(self.f10) / 0.1)
        exponent = np.log(at10 / at50) / np.log(self.f10 / self.f50)
        return float(self.f50 / at50 ** (1 / exponent)), float(exponent)


KERNELS = {
    kernel.name: kernel
    for kernel in (
        Kernel("BR40", 4.2, 7.0),
        Kernel("BR44", 4.9, 8.1),
        Kernel("BL57", 7.6, 10.6, 0.20, 3.8),
        Kernel("BL64", 9.6, 12.6, 0.30, 4.6),
        Kernel("B31f", 3.6, 6.1),
        Kernel("B40f", 4.07, 6.8),
        Kernel("B70f", 8.5, 11.05, 0.34),
    )
}
"""Name -> kernel. **Estimates.** B30 and D45 of a Siemens Definition AS have published f50 / f10 of 3.5 / 5.9 and
5.6 / 9.4 lp/cm; at about 4 % per step of the index, less 7 to 11 % where that rule overshoots, follow BR40 to BL64 and B31f.
B40f and B70f reproduce the measured ratio of a real pair of such series; their absolute curves are not constrained by it."""


def parse_kernel(text: str, table: dict[str, Kernel]) -> Kernel:
    """A kernel from a flag: a name of the table, or "NAME:f50:f10[:overshoot[:overshoot frequency]]".

    Raises:
        ValueError: If the name is not in the table, or the numbers are none.
    Example:
        >>> parse_kernel("SOFT:3.5:5.9", {})
        Kernel(name='SOFT', f50=3.5, f10=5.9, overshoot=0.0, overshoot_frequency=0.0)
    """
    name, *numbers = text.split(":")
    if not numbers and name in table:
        return table[name]
    if not 2 <= len(numbers) <= 4:
        raise ValueError(f"kernel {text!r} is unknown: expected {', '.join(table)} or NAME:f50:f10[:overshoot[:at]] in lp/cm")
    try:
        return Kernel(name, *map(float, numbers))
    except ValueError as error:
        raise ValueError(f"kernel {text!r}: {error}") from error


def read_kernels(path: Path | str) -> dict[str, Kernel]:
    """Kernels from a JSON file, {"NAME": {"f50": 4.2, "f10": 7.0, "overshoot": 0, "overshoot_frequency": 0}, ...}.

    Raises:
        ValueError: If it is no such file.
        OSError: If it cannot be read.
    """
    try:
        table = json.loads(Path(path).read_text())
        return {name: Kernel(name, **{k: float(n) for k, n in numbers.items()}) for name, numbers in table.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f'{path}: expected {{"NAME": {{"f50": .., "f10": .., "overshoot": ..}}}}, got: {error}') from error


def write_kernels(path: Path | str, kernels: Mapping[str, Kernel]) -> None:
    """Writes kernels as :func:`read_kernels` reads them; the file appears complete or not at all.

    Args:
        path: The file; one that exists is replaced.
        kernels: Name -> kernel.
    Raises:
        OSError: If it cannot be written.
    """
    table = {name: {k: v for k, v in asdict(kernel).items() if k != "name"} for name, kernel in kernels.items()}
    write_atomically(Path(path), json.dumps(table, indent=1) + "\n")


def measure_mtf(
    images: Sequence[np.ndarray], pixel_spacing: tuple[float, float], frequency: np.ndarray, smoothness: float = 1e-5
) -> np.ndarray:
    r"""The presampled MTF, from images of a thin wire across the slice (each of the same wire or of others).

    A wire at :math:`x_0` gives :math:`I(x) = c \int M(f) J_0(2 \pi f |x - x_0|) 2 \pi f \, df`, which is linear in M: the
    samples around the wire are solved for it by least squares with a penalty on its second differences. Since the distances
    |x - x_0| differ from pixel to pixel, the curve is found beyond the Nyquist frequency as well.

    Args:
        images: (H, W) HU each, with one wire that is their brightest point, at least `WIRE_RADIUS` pixels from the border.
            The wire lies in water or plastic: in air, undershoot would be clipped at -1024 HU.
        pixel_spacing: (row, column), mm; equal to each other.
        frequency: (n,) equidistant from 0, lp/cm, to beyond the point where the MTF vanishes.
        smoothness: Weight of the penalty.
    Returns:
        (n,) M, 1 at frequency 0.
    Raises:
        ValueError: If a wire is too near to the border, or the pixels are not square.
    """
    if not np.isclose(*pixel_spacing, rtol=1e-3):
        raise ValueError(f"the MTF is measured on square pixels, not on {pixel_spacing[0]:g} x {pixel_spacing[1]:g} mm")
    normal, right = len(images) * _penalty(len(frequency), smoothness), np.zeros(len(frequency))
    for image in images:
        around = _around_wire(np.asarray(image, np.float64))
        rows = _bessel_rows(_centre(around, pixel_spacing[0], frequency), pixel_spacing[0], frequency)
        normal = normal + rows.T @ rows
        right = right + rows.T @ (around.ravel() / around.sum())
    curve = np.linalg.solve(normal, right)
    return curve / curve[0]  # the sum of the pixels is aliased, and of a sharp kernel up to 8 % off


def _penalty(n: int, smoothness: float) -> np.ndarray:
    """Quadratic form that punishes bends of a curve of n points, and a slope at its start, (n, n)."""
    bends = np.vstack([np.diff(np.eye(n), 2, axis=0), np.diff(np.eye(n)[:2], axis=0)])
    return smoothness * n**2 * bends.T @ bends


def _around_wire(image: np.ndarray) -> np.ndarray:
    """The square around the brightest pixel, less the background (median of its border), (2R + 1, 2R + 1)."""
    row, column = np.unravel_index(np.argmax(image), image.shape)
    r = WIRE_RADIUS
    if min(row, column, image.shape[0] - 1 - row, image.shape[1] - 1 - column) < r:
        raise ValueError(f"the wire at row {row}, column {column} is less than {r} pixels from the border of the image")
    around = image[row - r : row + r + 1, column - r : column + r + 1]
    border = np.ones(around.shape, bool)
    border[1:-1, 1:-1] = False
    return around - np.median(around[border])


def _bessel_rows(centre: tuple[float, float], pitch: float, frequency: np.ndarray) -> np.ndarray:
    """What each frequency adds to each pixel around a wire, (pixels, n)."""
    row, column = np.mgrid[-WIRE_RADIUS : WIRE_RADIUS + 1, -WIRE_RADIUS : WIRE_RADIUS + 1]
    distance = np.hypot(row - centre[0], column - centre[1]).ravel() * pitch / 10  # cm
    step = frequency[1] - frequency[0]
    return special.j0(2 * np.pi * frequency * distance[:, None]) * (2 * np.pi * frequency * step * (pitch / 10) ** 2)


def _centre(around: np.ndarray, pitch: float, frequency: np.ndarray) -> tuple[float, float]:
    """Where the wire is, (row, column) in pixels from the brightest one: the place about which the image is symmetric."""
    steps = int(np.ceil(frequency[-1] * 3 * WIRE_RADIUS * pitch / 10))  # a sum over f in steps d repeats itself at distance 1/d
    coarse = np.linspace(0, frequency[-1], steps + 1)
    penalty, values = _penalty(len(coarse), 1e-8), around.ravel() / around.sum()

    def misfit(centre: np.ndarray) -> float:
        rows = _bessel_rows(tuple(centre), pitch, coarse)
        curve = np.linalg.solve(rows.T @ rows + penalty, rows.T @ values)
        return float(np.sum((rows @ curve - values) ** 2) + curve @ penalty @ curve)

    place = np.mgrid[-1:2, -1:2].reshape(2, -1)
    near = np.clip(around[WIRE_RADIUS - 1 : WIRE_RADIUS + 2, WIRE_RADIUS - 1 : WIRE_RADIUS + 2].ravel(), 0, None)
    start = place @ near / near.sum()  # centroid of the nearest nine pixels
    simplex = start + np.array([[0, 0], [0.1, 0], [0, 0.1]])
    options = {"initial_simplex": simplex, "xatol": 1e-4, "fatol": 1e-12}
    found = optimize.minimize(misfit, start, method="Nelder-Mead", options=options)
    return float(found.x[0]), float(found.x[1])


def fit_kernel(name: str, frequency: np.ndarray, mtf: np.ndarray) -> Kernel:
    """The kernel whose curve is nearest to a measured one, in least squares.

    Args:
        name: Its name.
        frequency: (n,) lp/cm.
        mtf: (n,) measured.
    Raises:
        ValueError: If the curve is not finite, or starts below 0.5.
    Note:
        A curve that ends above 0.5, as at the Nyquist frequency of a pair of series, gives an extrapolated `f50`, and an
        `f10` of `TYPICAL_SLOPE` times that.
    """
    frequency, mtf = np.asarray(frequency, np.float64), np.asarray(mtf, np.float64)
    if mtf[0] < 0.5:
        raise ValueError(f"the curve of {name} must start at about 1, not at {mtf[0]:.2f}")
    if not np.isfinite(mtf).all():
        raise ValueError(f"the curve of {name} must be finite, but {np.count_nonzero(~np.isfinite(mtf))} of its points are not")
    below = np.flatnonzero(mtf < 0.5)
    half = frequency[below[0] if below.size else -1]
    slopes = (SLOPE, 2.5) if below.size else (TYPICAL_SLOPE, TYPICAL_SLOPE + 1e-6)  # nothing shows how steeply it falls

    def kernel(p: np.ndarray) -> Kernel:
        return Kernel(name, p[0], p[0] * p[1], p[2], p[0] * p[3])

    low, high = zip((half * 0.5, half * 2), slopes, (0.0, OVERSHOOT), (PLACE + 0.01, 0.8), strict=True)
    starts = [np.clip(start, low, high) for start in ([half, 1.4, 0.05, 0.5], [half, 1.3, 0.3, 0.5])]
    fits = [optimize.least_squares(lambda p: kernel(p).mtf(frequency) - mtf, start, bounds=(low, high)) for start in starts]
    found = kernel(min(fits, key=lambda fit: fit.cost).x)
    return Kernel(name, *(round(float(n), 3) for n in (found.f50, found.f10, found.overshoot, found.overshoot_frequency)))


def certain_frequencies(ratio: RadialFilter, known: Kernel) -> np.ndarray:
    """Frequencies at which a measured ratio is one of two curves: elsewhere it is one of noise and rounding, or aliased.

    Args:
        ratio: Ratio of two kernels, (n,) frequencies.
        known: Kernel in the denominator.
    Returns:
        (n,) bool, True where the known curve exceeds 0.05, without the last fifth of the frequencies.
    """
    frequency = np.asarray(ratio.frequency)
    return (known.mtf(frequency) > 0.05) & (frequency < 0.8 * frequency[-1])


def kernel_from_ratio(name: str, ratio: RadialFilter, known: Kernel) -> Kernel:
    """The kernel of the target series, from the filter source -> target of a real pair and the source's known kernel.

    Only the ratio of two curves can be had from a pair: what comes out is as good as `known` is.

    Args:
        name: Of the target's kernel.
        ratio: From :func:`stan_ct.ct.filters.fit_radial_filter`, method "amplitude", without the corners of the spectrum.
        known: Kernel of the source.
    Raises:
        ValueError: As :func:`fit_kernel`.
    Note:
        Aliasing lifts the ratio near the Nyquist frequency: the last fifth of the curve is left out. Where the target is
        sharp, its f50 lies beyond and is extrapolated.
    """
    frequency, gain = np.asarray(ratio.frequency), np.asarray(ratio.gain)
    source = known.mtf(frequency)
    certain = certain_frequencies(ratio, known)
    return fit_kernel(name, frequency[certain], (source * gain)[certain])
