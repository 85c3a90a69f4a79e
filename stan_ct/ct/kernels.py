"""Reconstruction kernels as modulation transfer functions: the curve, and a table of estimates.

The names are those of the scanners; the numbers are not. No manufacturer publishes the curves of BR40, BL57 and BL64:
those in `KERNELS` are estimates (+-15 %), made from published curves of older kernels. A site can measure its own with a
wire phantom (:func:`stan_ct.ct.mtf.measure_mtf`) or fit them to a pair of series (:func:`stan_ct.ct.mtf.kernel_from_ratio`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from stan_ct.files import write_atomically

MIN_SLOPE, MAX_OVERSHOOT, MIN_OVERSHOOT_PLACE = 1.05, 1.5, 0.3
"""Smallest f10 / f50, largest overshoot, and smallest overshoot frequency in units of f50, that a CT kernel may have."""


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
        if not (np.isfinite(numbers).all() and self.f50 > 0 and self.f10 / self.f50 >= MIN_SLOPE and min(numbers[2:]) >= 0):
            raise ValueError(f"kernel {self.name}: expected 0 < f50 < f10 in lp/cm and an overshoot >= 0, got {told}")
        if self.f50 < 1 or self.overshoot > MAX_OVERSHOOT or 0 < self.overshoot_frequency < MIN_OVERSHOOT_PLACE * self.f50:
            raise ValueError(
                f"kernel {self.name}: no CT kernel has {told}; expected f50 >= 1 lp/cm, overshoot <= {MAX_OVERSHOOT:g} at "
                f"{MIN_OVERSHOOT_PLACE:g} of f50 or more. Frequencies are in lp/cm, not in lp/mm"
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
