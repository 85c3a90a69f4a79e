r"""A CT scan of a known object: noise, slice thickness, kernel, sampling (simulated, in the image domain).

.. math::
    I_{k,T} = \mathrm{clip}(\mathrm{round}(D\,F^{-1}[M_k(f)\,F(o_T + n_T)]))

o_T and n_T are object and noise averaged along z with the slice sensitivity profile of thickness T. The noise n is that of
filtered back-projection before any kernel. There is **one** raw noise per patient for all kernels and thicknesses, as there
is one raw data set in a scanner, so images of two kernels share theirs. M_k is the kernel's MTF, D the sampling at pixel
centres (with its aliasing).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy import fft, ndimage, special

from stan_ct.ct.kernels import Kernel
from stan_ct.ct.spectra import radial_frequency
from stan_ct.simulation.phantom.canvas import FIELD_OF_VIEW

Z_STEP = 0.5
"""Distance of the raw slices in which object and noise are made, mm."""

PIXELS = 512
"""Side of an image; over the field of view that gives pixels of 0.7 mm."""

OVERSAMPLING = 2
"""Raw pixels per image pixel, along rows and columns."""

FOCUS = 0.45
"""Blur along z of focal spot and detector, full width at half maximum, mm."""

STORED_HU = (-1024, 3071)
"""Range of 12 bits with a Rescale Intercept of -1024, HU."""

DOSES = (0.01, 1e9)
"""Range of dose factors: below it, too few quanta pass a chest for the noise model; 1e9 is a scan without noise."""

COARSE = 128
"""Side of the grid on which ray sums and noise amplitudes are computed."""


@dataclass(frozen=True)
class Scanner:
    """Parameters of the scanner that determine the noise.

    Attributes:
        dose: Factor on `photons`.
        photons: Number of quanta per ray and raw slice in air at the centre of the fan.
        views: Number of projections over half a turn.
        detector: Distance of rays at the centre of rotation, mm.
        electronic_noise: Variance of the detector's own noise, quanta squared.
        water: Linear attenuation of water, 1/mm.
        bowtie: Strength of the bow-tie filter, which spares the periphery.
        modulation: Strength of the angular tube-current modulation; 0 for a constant current.
        noise_factor: Fraction of the noise that an iterative reconstruction leaves; 1 for filtered back-projection.
        directions: Number of wedges of directions in which the noise has an amplitude of its own.
    Raises:
        ValueError: If a number is out of its range.
    """

    dose: float = 1.0
    photons: float = 0.9e5
    views: int = 1050
    detector: float = 0.6
    electronic_noise: float = 40.0
    water: float = 0.0195
    bowtie: float = 0.6
    modulation: float = 0.5
    noise_factor: float = 1.0
    directions: int = 16

    def __post_init__(self) -> None:
        positive = (self.photons, self.views, self.detector, self.water)
        others = (self.electronic_noise, self.bowtie, self.modulation, self.noise_factor)
        if not (np.isfinite(positive + others).all() and min(positive) > 0 and min(others) >= 0 and self.directions >= 2):
            raise ValueError(f"expected finite numbers, none below 0, and two directions or more, got {self}")
        if not DOSES[0] <= self.dose <= DOSES[1]:
            raise ValueError(f"expected a dose from {DOSES[0]:g} to {DOSES[1]:g} (1 is a usual one), got {self.dose:g}")


def slice_sensitivity(thickness: float, step: float = Z_STEP) -> np.ndarray:
    """The slice sensitivity profile, a box of the nominal thickness blurred by `FOCUS`, sampled along z.

    Args:
        thickness: Nominal slice thickness, mm.
        step: Distance of the samples, mm.
    Returns:
        (2h + 1,) float64, >= 0, symmetric, sum 1.
    """
    sigma = FOCUS / np.sqrt(8 * np.log(2))
    half = int(np.ceil((thickness / 2 + 4 * sigma) / step))
    z = np.arange(-half, half + 1) * step
    edges = ((z + side * thickness / 2) / (sigma * np.sqrt(2)) for side in (1, -1))
    upper, lower = map(special.erf, edges)
    weights = np.where(upper - lower > 1e-4 * np.max(upper - lower), upper - lower, 0)
    first = int(np.flatnonzero(weights)[0])
    weights = weights[first : len(weights) - first]
    return weights / weights.sum()


def ray_sums(object_hu: np.ndarray, pitch: float, scanner: Scanner) -> np.ndarray:
    """Line integrals of attenuation through a coarse slice, perpendicular to each direction, (J, n)."""
    attenuation = np.clip((object_hu + 1000) / 1000, 0, None) * scanner.water  # 1/mm
    degrees = 180 * np.arange(scanner.directions) / scanner.directions
    rotated = (ndimage.rotate(attenuation, angle, reshape=False, order=1) for angle in degrees)
    return np.array([image.sum(0) * pitch for image in rotated])


def quanta(sums: np.ndarray, pitch: float, scanner: Scanner) -> np.ndarray:
    """Mean number of quanta that each ray leaves in the detector, (J, n), from its line integral, (J, n)."""
    thickest = sums.max(1, keepdims=True)
    current = np.exp(scanner.modulation * (thickest - thickest.mean()) / 2)
    offset = (np.arange(sums.shape[1]) - (sums.shape[1] - 1) / 2) * pitch
    radius = 160.0  # of the water cylinder that the bow-tie filter evens out, mm
    missing = 2 * (radius - np.sqrt(np.clip(radius**2 - offset**2, 0, None)))  # path, mm
    bowtie = np.exp(-scanner.bowtie * scanner.water * missing)
    return scanner.dose * scanner.photons * current / current.mean() * bowtie * np.exp(-sums)


class Noise:
    r"""The raw noise of a slice, before any kernel.

    :math:`n = \sum_j A_j(x)\,F^{-1}[\sqrt{|f|}\,W_j F(w)] / \Delta` with white noise w, cosine-squared wedges of direction
    :math:`W_j` that sum to 1 (in amplitude, since they share w), and :math:`A_j^2 = (1000/\mu_w)^2 (\pi/m)\,\Delta s\,
    \mathrm{Var}\,p(x \cdot \theta_j, \theta_j)`, :math:`\mathrm{Var}\,p = (1 + \sigma_e^2 / N) / N`. So the local noise power
    spectrum after the kernel is :math:`A^2 |f| M_k^2`, that of filtered back-projection.

    Args:
        scanner: Parameters of the scanner.
        pixels: Side of a raw slice, pixels.
        pitch: Pixel spacing of a raw slice, mm.
    """

    def __init__(
        self,
        scanner: Scanner,
        pixels: int = PIXELS * OVERSAMPLING,
        pitch: float = FIELD_OF_VIEW / PIXELS / OVERSAMPLING,
    ) -> None:
        self.scanner, self.pixels, self.pitch = scanner, pixels, pitch
        vertical, horizontal = fft.fftfreq(pixels, pitch)[:, None], fft.rfftfreq(pixels, pitch)[None]
        self._root = (np.sqrt(np.hypot(vertical, horizontal)) / pitch).astype(np.float32)  # f in 1/mm
        direction, step = np.arctan2(vertical, horizontal), np.pi / scanner.directions
        away = ((direction[None] - step * np.arange(scanner.directions)[:, None, None]) / step).astype(np.float32)
        away -= scanner.directions * np.rint(away / scanner.directions)  # directions repeat after pi
        self.wedges = np.where(np.abs(away) < 1, np.cos(np.pi / 2 * away) ** 2, 0).astype(np.float32)

    def amplitude(self, object_hu: np.ndarray) -> np.ndarray:
        """A_j on a coarse grid, (J, 128, 128) float32, HU mm^1.5, from the raw slice (pixels, pixels) HU."""
        size = self.pixels // COARSE
        coarse = object_hu.reshape(COARSE, size, COARSE, size).mean((1, 3), dtype=np.float64)
        scanner, pitch = self.scanner, self.pitch * size
        number = quanta(ray_sums(coarse, pitch, scanner), pitch, scanner)
        variance = ndimage.gaussian_filter1d((1 + scanner.electronic_noise / number) / number, 1.0, axis=1)
        place = (np.arange(COARSE) - (COARSE - 1) / 2) * pitch
        found = []
        for angle, along in zip(np.pi * np.arange(scanner.directions) / scanner.directions, variance, strict=True):
            offset = place[None, :] * np.cos(angle) + place[:, None] * np.sin(angle)
            found.append(np.interp(offset, place, along))
        scale = (1000 / scanner.water) ** 2 * np.pi / scanner.views * scanner.detector
        return (scanner.noise_factor * np.sqrt(scale * np.array(found))).astype(np.float32)

    def __call__(self, amplitude: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One sample of the noise, (pixels, pixels) float32 HU.

        Args:
            amplitude: From :meth:`amplitude`.
            rng: Source of the white noise, the only randomness of the scan.
        """
        n = self.pixels
        spectrum = fft.rfft2(rng.standard_normal((n, n), dtype=np.float32)) * self._root
        noise = np.zeros((n, n), np.float32)
        for wedge, strength in zip(self.wedges, amplitude, strict=True):
            part = fft.irfft2(spectrum * wedge, s=(n, n), overwrite_x=True)
            part *= cv2.resize(strength, (n, n), interpolation=cv2.INTER_LINEAR)
            noise += part
        return noise


class Reconstruction:
    """Raw slices -> images of several kernels.

    Args:
        kernels: Kernels to reconstruct, one image each.
        pixels: Side of an image, pixels.
        pitch: Pixel spacing of an image, mm.
    """

    def __init__(self, kernels: Sequence[Kernel], pixels: int = PIXELS, pitch: float = FIELD_OF_VIEW / PIXELS) -> None:
        self.pixels, n = pixels, pixels * OVERSAMPLING
        frequency = radial_frequency((n, n), (pitch / OVERSAMPLING,) * 2)  # lp/cm
        self._responses = [kernel.mtf(frequency).astype(np.float32) for kernel in kernels]
        shift = (OVERSAMPLING - 1) / 2  # an image pixel's centre lies between raw pixels
        turn = shift * (fft.fftfreq(n)[:, None] + fft.rfftfreq(n)[None])
        self._centre = np.exp(2j * np.pi * turn).astype(np.complex64)

    def __call__(self, raw: np.ndarray) -> list[np.ndarray]:
        """The images of one raw slice (2 pixels, 2 pixels) HU, one (pixels, pixels) float32 HU per kernel."""
        spectrum = fft.rfft2(raw) * self._centre
        shape = (self.pixels, self.pixels)
        return [fft.irfft2(_fold(spectrum * response), s=shape).astype(np.float32) for response in self._responses]


def _fold(spectrum: np.ndarray) -> np.ndarray:
    """The half spectrum of every second sample, (n/2, n/4 + 1), from that of all samples, (n, n/2 + 1)."""
    n = spectrum.shape[0]
    mirrored = np.roll(spectrum[::-1, n // 2 - np.arange(n // 4 + 1)], 1, axis=0).conj()  # at columns + n/2
    both = spectrum[:, : n // 4 + 1] + mirrored
    return (both[: n // 2] + both[n // 2 :]) / 4


def to_stored_hu(image: np.ndarray) -> np.ndarray:
    """HU as a scanner stores them: int16, rounded, clipped to `STORED_HU`.

    Raises:
        ValueError: If a value is not finite.
    """
    if not np.isfinite(image).all():
        raise ValueError(f"HU must be finite, but {np.count_nonzero(~np.isfinite(image))} pixels are not")
    return np.clip(np.rint(image), *STORED_HU).astype(np.int16)
