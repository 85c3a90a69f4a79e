"""Check 2 with the source at hand: does a patch differ from its source as patches of the standard protocol do?

The paper's discriminator sees one patch alone, and the noise of patches varies twofold with dose, against a few percent
between a good and a bad output. Relative to its own source, what a change of kernel does to a patch varies little, and most of
that follows from the source: its kernel, thickness, dose and anatomy show in its own spectrum and edges. So features of
(source, output) are predicted from the source by ridge regression, fitted to patches that are acceptable, and what is
left is judged by its Mahalanobis distance. No protocol has to be named, and nothing that is to be rejected has to be known.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from stan_ct.models.judge_features import BANDS, PATTERN, PLACES, SPECTRUM, VALUES, PairFeatures, pair_features
from stan_ct.models.judge_places import SPREAD_TERMS, SUMMARIES, TERMS, expectation, summaries, summary_name
from stan_ct.patches.sampling import PATCH_SIZE

LEAST_SPREAD = {"gain": 0.005, "rest": 0.05, "values": 0.03, "pattern": 0.1, "places": 0.05}
"""Group -> standard deviation of its features at least: half a percent of amplitude, or half a HU, are no reason to reject."""
SHRINKAGE = 0.1
"""Share of the identity in the correlation matrices, so that few patches suffice."""
RIDGE = 0.1
"""Weight of the penalty on what is predicted from the source, per patch."""
LEAST_SOURCE_SPREAD = 0.05
"""Standard deviation of what the source is like at least, by which it is divided."""
FOLDS = 8
"""Parts of the patches, each spread over all of them, that are judged by a judge fitted to the others."""
PASSED = 0.98
"""Share of the acceptable patches that were not fitted whose distances, times `MARGIN`, are within the limits."""
MARGIN = {"gain": 1.5, "rest": 1.75, "values": 2.5, "pattern": 2.0, "places": 1.75}
"""Group -> factor on its limit: validation has few patients, and new ones differ more from them than these do."""
THRESHOLD = 0.5
"""Plausibility at the limit: less is rejected."""
MIN_PATCHES = 40
"""Acceptable patches that a judge is fitted to, at least."""

VERSION = 3
"""Version of the features, to which a judge's numbers belong."""
GROUPS = (*SPECTRUM, "values", "pattern", "places")
NUM_FEATURES = {
    "gain": BANDS,
    "rest": BANDS,
    "values": len(VALUES),
    "pattern": len(PATTERN),
    "places": len(PLACES) * len(SUMMARIES),
}
"""Group -> number of its features."""
CIRCUMSTANCES = BANDS + 4
"""Number of features of the source from which the others are predicted."""


@dataclass(frozen=True)
class _Measured:
    """What sources are like, (N, circumstances), and the features of each group, (N, features) each."""

    source: np.ndarray
    groups: dict[str, np.ndarray]

    def __getitem__(self, chosen: np.ndarray) -> _Measured:
        return _Measured(self.source[chosen], {group: values[chosen] for group, values in self.groups.items()})


@dataclass(frozen=True)
class Judge:
    """Judges synthesized patches by what sources they were made of.

    Attributes:
        expected: What is expected place by place, see :mod:`stan_ct.models.judge_places`.
        source: Mean and standard deviation of what sources are like, (2, circumstances).
        mean: Mean of each group's features, (features,) each.
        slope: By what they change with the source, (circumstances, features) each.
        scale: Standard deviation of what is left, (features,) each.
        precision: Inverse of its shrunk correlation matrix, (features, features) each.
        limit: Distance up to which a patch is acceptable, for each group.
    """

    expected: np.ndarray
    source: np.ndarray
    mean: dict[str, np.ndarray]
    slope: dict[str, np.ndarray]
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
        """Names for each output the feature that is farthest from what is acceptable, or its pattern, in words.

        Args:
            sources: (N, H, W) HU, as in :meth:`__call__`.
            outputs: Same shape, HU.
        """
        return [self._explain(*_patches(pair)) for pair in zip(sources, outputs, strict=True)]

    def _explain(self, sources: np.ndarray, outputs: np.ndarray) -> str:
        """The farthest feature of the worst of some patches."""
        normal = self._normal(_measure(_features(sources, outputs), self.expected))
        distances = self._distances(normal)
        if not np.isfinite(distances).all():
            return "values that are no numbers"
        pattern = GROUPS.index("pattern")  # it is in the spectrum too, which says less
        rows = [pattern] if distances[pattern].max() > max(1, distances.max() / 10) else range(len(GROUPS))
        row, patch = max(itertools.product(rows, range(len(sources))), key=lambda place: distances[place])
        group = GROUPS[row]
        found = normal[group][patch]
        number = int(np.argmax(found * (self.precision[group] @ found)))
        return f"{feature_name(group, number)} too {'high' if found[number] > 0 else 'low'}"

    def distances(self, sources: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """Distance of each patch from the acceptable ones in units of the limits, (groups, N).

        Args:
            sources: (N, `PATCH_SIZE`, `PATCH_SIZE`) HU.
            outputs: Same shape.
        """
        return self._distances(self._normal(_measure(_features(sources, outputs), self.expected)))

    def _distances(self, normal: Mapping[str, np.ndarray]) -> np.ndarray:
        """(groups, N): root mean square over the features of a group, in units of its limit."""
        rows = []
        for group in GROUPS:
            squares = np.einsum("ni,ij,nj->n", normal[group], self.precision[group], normal[group])
            rows.append(np.sqrt(squares / NUM_FEATURES[group]) / self.limit[group])
        return np.stack(rows)

    def _normal(self, found: _Measured) -> dict[str, np.ndarray]:
        """What the source does not explain of the features, in standard deviations, (N, features) each."""
        source = (found.source - self.source[0]) / self.source[1]
        return {g: (found.groups[g] - self.mean[g] - source @ self.slope[g]) / self.scale[g] for g in GROUPS}

    @classmethod
    def fit(cls, sources: np.ndarray, acceptable: Sequence[np.ndarray]) -> Judge:
        """Fits a judge to patches that must pass.

        Limits, one standard deviation at least before their margin, are found on patches that were not fitted: each of `FOLDS`
        parts is judged by a judge fitted to the others. The parts are spread over all patches, since records have few
        patients of some protocols: a judge that lacks one wholly would make limits that are wide for all of them.

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
        features = [one for outputs in acceptable for one in _features(sources, outputs)]
        expected = expectation(features)
        found = _measure(features, expected)
        number = min(FOLDS, len(sources))
        fold = np.tile(np.arange(len(sources)) % number, len(acceptable))
        unseen = []
        for own in (fold == n for n in range(number)):
            judge = cls._fit(expected, found[~own])
            unseen.append(judge._distances(judge._normal(found[own])))
        limits = np.maximum(np.quantile(np.concatenate(unseen, axis=1), PASSED, axis=1), 1.0)
        return replace(
            cls._fit(expected, found), limit={g: MARGIN[g] * float(one) for g, one in zip(GROUPS, limits, strict=True)}
        )

    @classmethod
    def _fit(cls, expected: np.ndarray, found: _Measured) -> Judge:
        """A judge whose limits are 1."""
        source = np.stack([found.source.mean(0), np.maximum(found.source.std(0), LEAST_SOURCE_SPREAD)])
        normal = (found.source - source[0]) / source[1]
        penalty = RIDGE * len(normal) * np.eye(normal.shape[1])
        mean, slope, scale, precision = {}, {}, {}, {}
        for group, values in found.groups.items():
            mean[group] = values.mean(0)
            slope[group] = np.linalg.solve(normal.T @ normal + penalty, normal.T @ (values - mean[group]))
            left = values - mean[group] - normal @ slope[group]
            scale[group] = np.maximum(left.std(0), LEAST_SPREAD[group])
            left = left / scale[group]
            correlation = (1 - SHRINKAGE) * left.T @ left / len(left) + SHRINKAGE * np.eye(left.shape[1])
            precision[group] = np.linalg.inv(correlation)
        return cls(expected, source, mean, slope, scale, precision, dict.fromkeys(GROUPS, 1.0))

    def arrays(self) -> dict[str, np.ndarray]:
        """The judge as float64 arrays by name."""
        arrays = {f"{name}_{group}": getattr(self, name)[group] for name in _SHAPES for group in GROUPS}
        arrays |= {"expected": self.expected, "source": self.source, "version": VERSION}
        return {name: np.asarray(values, np.float64) for name, values in arrays.items()}

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
        expected: dict[str, tuple[int, ...]] = {"expected": (len(PLACES), TERMS + SPREAD_TERMS), "source": (2, CIRCUMSTANCES)}
        for group, number in NUM_FEATURES.items():
            expected |= {
                f"{name}_{group}": tuple(number if n == "f" else CIRCUMSTANCES for n in axes) for name, axes in _SHAPES.items()
            }
        for name, shape in expected.items():
            values = arrays.get(name)
            if values is None or values.shape != shape:
                raise ValueError(f"expected array {name} of shape {shape}, got {'none' if values is None else values.shape}")
            divisors = values[1] if name == "source" else values if name.startswith(("scale", "limit")) else np.ones(1)
            if not (divisors > 0).all():
                raise ValueError(f"expected {name} above 0, got {divisors.min():g}")
        mean, slope, scale, precision = ({g: arrays[f"{name}_{g}"] for g in GROUPS} for name in list(_SHAPES)[:4])
        limit = {group: float(arrays[f"limit_{group}"]) for group in GROUPS}
        return cls(arrays["expected"], arrays["source"], mean, slope, scale, precision, limit)


_SHAPES = {"mean": "f", "slope": "sf", "scale": "f", "precision": "ff", "limit": ""}
"""Attribute of each group -> its axes: features, or what the source is like."""


def feature_name(group: str, number: int) -> str:
    """A feature of :func:`pair_features` in words, by its place in its group.

    Example:
        >>> feature_name("gain", 12)
        'gain at 0.37 cycles/px'
    """
    if group in SPECTRUM:
        frequency = (number + 0.5) / BANDS * np.sqrt(0.5)
        return f"{'gain' if group == 'gain' else 'power unrelated to the source'} at {frequency:.2f} cycles/px"
    return {"values": VALUES, "pattern": PATTERN}[group][number] if group != "places" else summary_name(number)


def _features(sources: np.ndarray, outputs: np.ndarray) -> list[PairFeatures]:
    return [pair_features(*pair) for pair in zip(sources, outputs, strict=True)]


def _measure(found: Sequence[PairFeatures], expected: np.ndarray) -> _Measured:
    """In float64, as a judge is stored: one that was fitted judges as the same one read from its file."""
    groups = {group: np.stack([one.groups[group] for one in found]).astype(np.float64) for group in GROUPS[:-1]}
    groups["places"] = np.stack([summaries(one, expected) for one in found]).astype(np.float64)
    return _Measured(np.stack([one.source for one in found]).astype(np.float64), groups)


def _patches(pair: tuple[np.ndarray, np.ndarray]) -> Iterator[np.ndarray]:
    """Images (H, W) -> their patches, (patches, `PATCH_SIZE`, `PATCH_SIZE`) each."""
    for image in pair:
        rows, columns = (n // PATCH_SIZE for n in image.shape)
        parts = image.reshape(rows, PATCH_SIZE, columns, PATCH_SIZE).swapaxes(1, 2)
        yield parts.reshape(-1, PATCH_SIZE, PATCH_SIZE)
