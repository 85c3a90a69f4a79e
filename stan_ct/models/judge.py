"""Check 2 with the source at hand: does a patch differ from its source as patches of the standard protocol do?

The paper's discriminator sees one patch alone, and the noise of patches varies twofold with dose, against a few percent
between a good and a bad output. Relative to its own source, what a change of kernel does to a patch varies little, so a sieve
of one class suffices: features of (source, output), their mean and covariance over patches that are acceptable, and the
Mahalanobis distance to them. Nothing that is to be rejected has to be known beforehand.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage

from stan_ct.patches.sampling import PATCH_SIZE

RANGE = (-1024.0, 1500.0)
"""HU that are judged; what lies outside is clipped."""
BANDS = 24
"""Bands of equal width from frequency 0 to the corner of the spectrum."""
TILE, SPOT = 16, 8
"""Sides of the squares whose texture, and whose mean, are compared one by one, px."""
DETAIL_FLOOR = 4.0
"""HU^2 that are added to a tile's variance, so that flat tiles compare as equal."""
SMALLEST = 0.25
"""Least size of a change by which it is divided before a lattice is looked for, HU."""
LATTICE_PERIODS = (2, 4, 8)
NEIGHBOURS = (-5, -4, -3, 3, 4, 5)
"""Distances in bins, along both axes, of the frequencies to which a lattice's are compared."""
LEAST_SPREAD = 0.03
"""Standard deviation of a feature at least: all are logarithms, and 3 % of power are nothing to reject a patch for."""
SHRINKAGE = 0.05
"""Share of the identity in the correlation matrices, so that few patches suffice."""
PASSED = 0.995
"""Share of the acceptable patches of patients that were not fitted whose distances lie within the limit of each group."""
THRESHOLD = 0.5
"""Plausibility at the limit: less is rejected."""
LATTICE_MARGIN = 2.0
"""Factor on the limit of the lattice, whose features have a long tail by chance and stand far out where there is one."""
MIN_PATCHES = 40
"""Acceptable patches that a judge is fitted to, at least."""

PLACES = (
    f"least texture of a square of {TILE} px",
    f"largest texture of a square of {TILE} px",
    "mean texture",
    f"largest change of a square of {TILE} px",
    f"largest change of a square of {SPOT} px",
)
"""The features of places in words."""
VERSION = 2
"""Version of the features, to which a judge's numbers belong."""
GROUPS = ("spectrum", "places", "lattice")
NUM_FEATURES = {"spectrum": 2 * BANDS, "places": len(PLACES), "lattice": len(LATTICE_PERIODS)}
"""Group -> number of its features."""


@dataclass(frozen=True)
class Judge:
    """Judges synthesized patches by what sources they were made of.

    Attributes:
        mean: Mean of each group's features, (features,) each.
        scale: Their standard deviation, (features,) each.
        precision: Inverse of their shrunk correlation matrix, (features, features) each.
        limit: Distance up to which a patch is acceptable, for each group.
    """

    mean: dict[str, np.ndarray]
    scale: dict[str, np.ndarray]
    precision: dict[str, np.ndarray]
    limit: dict[str, float]

    def __call__(self, sources: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """Plausibility of outputs, (N,) in [0, 1]: 2 ** -d**2, `THRESHOLD` where the distance d is at its limit.

        Args:
            sources: (N, H, W) HU, as the network got them; H and W multiples of `PATCH_SIZE`.
            outputs: What it made of them, same shape, HU.
        """
        # Larger images are judged by their worst patch.
        worst = [max(self.distances(*_patches(pair)).max(0)) for pair in zip(sources, outputs, strict=True)]
        return np.exp2(-np.square(np.array(worst, float)))

    def passed(self, sources: np.ndarray, outputs: np.ndarray) -> float:
        """Share of outputs that are plausible; arguments as in :meth:`__call__`."""
        return float(np.mean(self(sources, outputs) >= THRESHOLD))

    def explain(self, sources: np.ndarray, outputs: np.ndarray) -> list[str]:
        """Names for each output the feature that is farthest from what is acceptable, or its lattice, in words.

        Args:
            sources: (N, H, W) HU, as in :meth:`__call__`.
            outputs: Same shape, HU.
        """
        return [self._explain(*_patches(pair)) for pair in zip(sources, outputs, strict=True)]

    def _explain(self, sources: np.ndarray, outputs: np.ndarray) -> str:
        """The farthest feature of the worst of some patches."""
        distances = self.distances(sources, outputs)
        if not np.isfinite(distances).all():
            return "values that are no numbers"
        lattice = GROUPS.index("lattice")  # it is in the spectrum too, which says less
        rows = [lattice] if distances[lattice].max() > max(1, distances.max() / 10) else range(len(GROUPS))
        row, patch = max(itertools.product(rows, range(len(sources))), key=lambda place: distances[place])
        group = GROUPS[row]
        found = patch_features(sources[patch : patch + 1], outputs[patch : patch + 1])[group][0] - self.mean[group]
        normal = found / self.scale[group]
        number = int(np.argmax(normal * (self.precision[group] @ normal)))
        return f"{feature_name(group, number)} too {'high' if found[number] > 0 else 'low'}"

    def distances(self, sources: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """Distance of each patch from the acceptable ones in units of the limits, (groups, N).

        Args:
            sources: (N, `PATCH_SIZE`, `PATCH_SIZE`) HU.
            outputs: Same shape.
        """
        found = patch_features(sources, outputs)
        return np.stack([self._distance(group, found[group]) / self.limit[group] for group in GROUPS])

    def _distance(self, group: str, features: np.ndarray) -> np.ndarray:
        return _mahalanobis(features, self.mean[group], self.scale[group], self.precision[group])

    @classmethod
    def fit(cls, sources: np.ndarray, acceptable: Sequence[np.ndarray]) -> Judge:
        """Fits a judge to patches that must pass.

        Limits, one standard deviation at least, are found on patches that were not fitted: first and second half of the
        patches, which in records belong to different patients, judge each other.

        Args:
            sources: (N, `PATCH_SIZE`, `PATCH_SIZE`) HU, as the network gets them.
            acceptable: Targets of these sources and, where they are good, the model's own outputs, same shape each.
        Raises:
            ValueError: If there are fewer than `MIN_PATCHES` sources.
        """
        if len(sources) < MIN_PATCHES:
            raise ValueError(
                f"a judge needs {MIN_PATCHES} validation patches at least, not {len(sources)}: make records of more slices"
            )
        found = [patch_features(sources, outputs) for outputs in acceptable]
        mean, scale, precision, limit = {}, {}, {}, {}
        half = len(sources) // 2
        for group in GROUPS:
            kinds = [features[group] for features in found]
            mean[group], scale[group], precision[group] = _fit(np.concatenate(kinds))
            first, second = (np.concatenate([k[part] for k in kinds]) for part in (np.s_[:half], np.s_[half:]))
            unseen = [_mahalanobis(second, *_fit(first)), _mahalanobis(first, *_fit(second))]
            found_limit = float(np.quantile(np.concatenate(unseen), PASSED))
            limit[group] = max(found_limit, 1.0) * (LATTICE_MARGIN if group == "lattice" else 1.0)
        return cls(mean, scale, precision, limit)

    def arrays(self) -> dict[str, np.ndarray]:
        """The judge as float64 arrays by name."""
        arrays = {f"{name}_{group}": getattr(self, name)[group] for name in _FIELDS for group in GROUPS}
        return {name: np.asarray(values, np.float64) for name, values in (arrays | {"version": VERSION}).items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Judge:
        """The judge that :meth:`arrays` returned.

        Raises:
            ValueError: If it is not, or has limits or deviations that are not above 0.
        """
        version = arrays.get("version")
        if version is None or version.shape != () or version != VERSION:
            found = "one without a version" if version is None else f"version {version}"
            raise ValueError(f"expected version {VERSION}, got {found}: fit it again with stan-ct fit-judge")
        number = {"mean": 1, "scale": 1, "precision": 2, "limit": 0}  # axes
        for name, group in ((name, group) for name in _FIELDS for group in GROUPS):
            values, shape = arrays.get(f"{name}_{group}"), (NUM_FEATURES[group],) * number[name]
            if values is None or values.shape != shape:
                raise ValueError(f"expected {name}_{group} of shape {shape}, got {'none' if values is None else values.shape}")
            if name in ("scale", "limit") and not (values > 0).all():
                raise ValueError(f"expected {name}_{group} above 0, got {values.min():g}")
        mean, scale, precision = ({g: arrays[f"{name}_{g}"] for g in GROUPS} for name in _FIELDS[:3])
        return cls(mean, scale, precision, {group: float(arrays[f"limit_{group}"]) for group in GROUPS})


_FIELDS = ("mean", "scale", "precision", "limit")


def feature_name(group: str, number: int) -> str:
    """A feature of :func:`patch_features` in words, by its place in its group.

    Example:
        >>> feature_name("spectrum", 12)
        'power at 0.37 cycles/px'
    """
    if group == "spectrum":
        frequency = (number % BANDS + 0.5) / BANDS * np.sqrt(0.5)
        return f"power {'of the change ' if number >= BANDS else ''}at {frequency:.2f} cycles/px"
    if group == "lattice":
        return f"pattern of {LATTICE_PERIODS[number]} px"
    return PLACES[number]


def patch_features(sources: np.ndarray, outputs: np.ndarray) -> dict[str, np.ndarray]:
    """Features of patches relative to their sources.

    Args:
        sources: (N, `PATCH_SIZE`, `PATCH_SIZE`) HU.
        outputs: Same shape.
    Returns:
        spectrum: Logarithm of the output's and of the change's power over the source's, in each band, (N, 2 `BANDS`).
        places: Least, largest and mean logarithm of the detail's variance over the source's, tile by tile, and the largest mean
            change of a tile and of a spot, log(1 + HU), (N, 5).
        lattice: Logarithm of the change's power at periods of 2, 4 and 8 px over that beside, 0 where it is lower, (N, 3).
    """
    rows = [_features(*np.clip(pair, *RANGE).astype(np.float32)) for pair in zip(sources, outputs, strict=True)]
    return {group: np.stack([row[k] for row in rows]).astype(np.float64) for k, group in enumerate(GROUPS)}


def _features(source: np.ndarray, output: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    change = output - source
    before, after, difference = (log_spectrum(image) for image in (source, output, change))
    spectrum = np.concatenate([after - before, difference - before])
    detail = [
        np.log(_squares(image - ndimage.uniform_filter(image, 3), TILE).var(1) + DETAIL_FLOOR) for image in (output, source)
    ]
    texture = detail[0] - detail[1]
    moved = [np.log1p(np.abs(_squares(change, side).mean(1)).max()) for side in (TILE, SPOT)]
    return spectrum, np.array([texture.min(), texture.max(), texture.mean(), *moved]), _lattice(change)


def log_spectrum(image: np.ndarray) -> np.ndarray:
    """Natural logarithm of the mean power in each band, (`BANDS`,)."""
    power = np.abs(fft.rfft2((image - image.mean()) * _TAPER)) ** 2
    return np.log(np.bincount(_BAND, power.ravel(), BANDS) / _COUNT + 1.0)


def _lattice(change: np.ndarray) -> np.ndarray:
    # Divided by its local size, lest edges of anatomy drown what is written on tissue.
    change = (change - change.mean()) / np.sqrt(ndimage.uniform_filter(np.square(change), TILE) + SMALLEST**2)
    power = np.abs(fft.fft2(change - change.mean())) ** 2
    ratios = []
    for bins, beside in _LATTICES:
        ratios.append(max(np.log((power[bins].sum() + 1) / (power[beside].mean(1).sum() + 1)), 0.0))
    return np.array(ratios)


def _squares(image: np.ndarray, side: int) -> np.ndarray:
    """(H, W) -> (squares, side * side)."""
    number = PATCH_SIZE // side
    return image.reshape(number, side, number, side).swapaxes(1, 2).reshape(-1, side * side)


def _fit(features: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, standard deviation and inverse shrunk correlation of features (N, F)."""
    mean, scale = features.mean(0), np.maximum(features.std(0), LEAST_SPREAD)
    normal = (features - mean) / scale
    correlation = (1 - SHRINKAGE) * normal.T @ normal / len(normal) + SHRINKAGE * np.eye(len(mean))
    return mean, scale, np.linalg.inv(correlation)


def _mahalanobis(features: np.ndarray, mean: np.ndarray, scale: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Distance of features (N, F) from the mean, root mean square over the features, (N,)."""
    normal = (features - mean) / scale
    return np.sqrt(np.einsum("ni,ij,nj->n", normal, precision, normal) / len(mean))


def _patches(pair: tuple[np.ndarray, np.ndarray]) -> Iterator[np.ndarray]:
    """Images (H, W) -> their patches, (patches, `PATCH_SIZE`, `PATCH_SIZE`) each."""
    for image in pair:
        rows, columns = (n // PATCH_SIZE for n in image.shape)
        parts = image.reshape(rows, PATCH_SIZE, columns, PATCH_SIZE).swapaxes(1, 2)
        yield parts.reshape(-1, PATCH_SIZE, PATCH_SIZE)


def _bands() -> tuple[np.ndarray, np.ndarray]:
    frequency = np.hypot(fft.fftfreq(PATCH_SIZE)[:, None], fft.rfftfreq(PATCH_SIZE)[None])  # cycles per pixel
    band = np.minimum((frequency / np.sqrt(0.5) * BANDS).astype(int), BANDS - 1).ravel()
    return band, np.bincount(band, minlength=BANDS)


def _lattices() -> list[tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]]:
    """For each period the bins of its frequencies, and of their neighbours, (frequencies, neighbours)."""
    found, seen = [], {(0, 0)}
    down, across = (d.ravel() for d in np.meshgrid(NEIGHBOURS, NEIGHBOURS))
    for period in LATTICE_PERIODS:
        step = PATCH_SIZE // period
        bins = [(i * step, j * step) for i, j in np.ndindex(period, period) if (i * step, j * step) not in seen]
        seen.update(bins)
        rows, columns = np.array(bins).T
        beside = ((rows[:, None] + down) % PATCH_SIZE, (columns[:, None] + across) % PATCH_SIZE)
        found.append(((rows, columns), beside))
    return found


_BAND, _COUNT = _bands()
_LATTICES = _lattices()
_WINDOW = np.hanning(PATCH_SIZE + 1)[:-1]
_TAPER = (np.outer(_WINDOW, _WINDOW) / np.sum(_WINDOW**2)).astype(np.float32)
