"""Measurements of source, synthesized and target series, patch by patch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from stan_ct.dicom.refusal import Refused
from stan_ct.dicom.series import Instance
from stan_ct.errors import NotComparable
from stan_ct.evaluation.measure.image_quality import Quality, measure_quality
from stan_ct.evaluation.measure.measurement import MEASURES, PLACES, Measured, measure_features, measure_hu
from stan_ct.evaluation.measure.pairs import Headers, find_pairs, load_slices
from stan_ct.evaluation.measure.swapped import swap_warning
from stan_ct.features.glcm import Discretization
from stan_ct.parallel import Workers
from stan_ct.patches.pairs import PairBy

SIMULATOR = "STAN-CT simulator"
"""Manufacturer (0008,0070) of simulated series."""


@dataclass(frozen=True)
class SeriesSettings:
    """Series to compare, and how.

    Attributes:
        source_dir: DICOM of the source.
        synthesized: Name -> DICOM of a series made of the source.
        target_dir: DICOM of the standard protocol; None to measure source and synthesized series alone.
        patch_size: Side of a patch, px; a smaller slice is one patch of its own size.
        stride: Distance of neighbouring patches, px; the last row and column are moved back to the border.
        min_soft_tissue: Least share of soft tissue among the source pixels of a patch, in [0, 1].
        discretization: Map from HU to gray levels, the same for all images.
        only_instances: SOP Instance UIDs of the source slices to compare; None for all.
        pair_by: `study`, or `position` for series of one scan that were de-identified apart.
    Raises:
        ValueError: If a number is out of its range, or a synthesized series is named "source" or "target".
    """

    source_dir: Path
    synthesized: Mapping[str, Path]
    target_dir: Path | None
    patch_size: int = 256
    stride: int = 128
    min_soft_tissue: float = 0.7
    discretization: Discretization = field(default_factory=Discretization.fixed_number)
    only_instances: frozenset[str] | None = None
    pair_by: PairBy = "study"

    def __post_init__(self) -> None:
        if self.patch_size < 2:
            raise ValueError(f"the patch size must be >= 2 pixels, not {self.patch_size}")
        if not 1 <= self.stride <= self.patch_size:
            raise ValueError(f"the stride must be 1 to {self.patch_size} pixels, the patch size, not {self.stride}")
        if not 0 <= self.min_soft_tissue <= 1:
            raise ValueError(f"the share of soft tissue must be in [0, 1], not {self.min_soft_tissue:g}")
        if {"source", "target"} & set(self.synthesized):
            raise ValueError("source and target are names of other images: give synthesized series another name")

    @property
    def directories(self) -> dict[str, Path]:
        """Name -> directory of every image: `source`, the synthesized ones, and `target` if there is one."""
        return {"source": self.source_dir, **self.synthesized, **({"target": self.target_dir} if self.target_dir else {})}


@dataclass(frozen=True)
class Measurement:
    """Measurements of series.

    Attributes:
        settings: Series that were compared, and how.
        rows: Name -> measurements of the same patches of `source`, of the synthesized images, and of `target` if given.
        patients: Number of the patient of each patch, (N,) int.
        slices: Number of slices compared.
        excluded: Reason -> number of slices, patches, files or listed instances that were excluded for it.
        simulated: Whether all source slices were made by our simulator, according to Manufacturer (0008,0070).
        quality: Name -> image quality of every slice, for the names of `rows`; empty without a target.
        warning: What must be read before the results, such as that source and target look swapped; may be empty.
    """

    settings: SeriesSettings
    rows: dict[str, Measured]
    patients: np.ndarray
    slices: int
    excluded: Counter[str]
    simulated: bool = False
    quality: Mapping[str, tuple[Quality, ...]] = field(default_factory=dict)
    warning: str = ""

    @property
    def num_patches(self) -> int:
        """Number of patches compared, N."""
        return len(self.patients)


def patch_grid(shape: tuple[int, int], settings: SeriesSettings) -> list[tuple[slice, slice]]:
    """Slices (rows, columns) of every patch of a CT slice of this shape, row by row; together they cover it."""
    rows, columns = (_intervals(length, settings) for length in shape)
    return [(row, column) for row in rows for column in columns]


def _intervals(length: int, settings: SeriesSettings) -> list[slice]:
    size = min(settings.patch_size, length)
    starts = sorted({*range(0, length - size, settings.stride), length - size})
    return [slice(start, start + size) for start in starts]


def measure_series(settings: SeriesSettings, headers: Mapping[str, Headers] | None = None, workers: int = 1) -> Measurement:
    """Measures source, synthesized and target slices: the same patches and gray levels for all.

    Args:
        settings: Series to compare, and how.
        headers: Headers of `settings.directories`, if they have been read.
        workers: Number of processes that measure.
    Returns:
        The measurements of at least one patch.
    Raises:
        FileNotFoundError: If a directory does not exist.
        NotComparable: If no slice has its partners, or none has a patch of enough soft tissue.
    """
    images: dict[str, Path | Headers] = {**settings.directories, **(headers or {})}
    names, source = tuple(images), images.pop("source")
    pairing = find_pairs(source, images, settings.only_instances, pair_by=settings.pair_by)
    excluded = pairing.excluded
    tasks = [(together, settings) for together in pairing.together]
    with Workers(workers) as pool:
        slices = pool.map(_measure_slice, tasks, [1] * len(tasks), "measure slices")
    for reason in (found for found in slices if isinstance(found, str)):
        excluded[f"slices with unreadable pixels: {reason}"] += 1
    measured = [found for found in slices if isinstance(found, _Slice)]
    excluded["patches with too little soft tissue"] += sum(found.rejected for found in measured)
    excluded["slices without any patch of enough soft tissue"] += sum(not found.features.shape[1] for found in measured)
    if not any(found.features.shape[1] for found in measured):
        raise NotComparable(
            f"none of {len(tasks)} slices has a patch of which {settings.min_soft_tissue:.0%} is soft tissue: "
            f"choose smaller patches or less soft tissue. Excluded: {dict(+excluded)}"
        )
    features = np.concatenate([found.features for found in measured], axis=1)  # (images, N, features)
    hu = np.stack([found.hu for found in measured], axis=1)  # (images, slices, places, 4)
    _, patient = np.unique([found.patient for found in measured], return_inverse=True)
    patients = np.repeat(patient + 1, [found.features.shape[1] for found in measured])
    rows = {name: Measured(features[i], hu[i]) for i, name in enumerate(names)}
    simulated = all(place["source"].header.get("Manufacturer") == SIMULATOR for place in pairing.together)
    quality = {name: tuple(found.quality[name] for found in measured) for name in names if settings.target_dir}
    warning = swap_warning(rows, pairing.together)
    return Measurement(settings, rows, patients, len(measured), +excluded, simulated, quality, warning)


@dataclass(frozen=True)
class _Slice:
    """Measurements of the images of one slice.

    Attributes:
        features: Features, (images, patches, features) float64.
        hu: Differences from the target in HU, (images, places, 4) float64.
        quality: Name -> image quality; empty without a target.
        rejected: Number of patches with too little soft tissue.
        patient: Patient.
    """

    features: np.ndarray
    hu: np.ndarray
    quality: Mapping[str, Quality]
    rejected: int
    patient: str


def _measure_slice(together: Mapping[str, Instance], settings: SeriesSettings) -> _Slice | str:
    """Measures the slices in one place; the name of the reason if one cannot be read."""
    try:
        series = load_slices(together)
    except Refused as refused:
        return refused.reason
    images, source = {name: loaded.volume[0] for name, loaded in series.items()}, series["source"]
    mask = source.soft_tissue(0)
    grid = patch_grid(mask.shape, settings)
    windows = [window for window in grid if mask[window].mean() >= settings.min_soft_tissue]
    found = [_features([hu[window] for window in windows], settings.discretization) for hu in images.values()]
    hu, quality = np.full((len(images), len(PLACES), 4), np.nan), {}
    if "target" in images:
        padding = source.padding[0] | series["target"].padding[0]  # has no HU to compare with
        hu = np.stack([measure_hu(image, images["target"], mask & ~padding) for image in images.values()])
        quality = measure_quality(images, padding, source.files.pixel_spacing)
    return _Slice(np.stack(found), hu, quality, len(grid) - len(windows), source.files.patient)


def _features(patches: list[np.ndarray], discretization: Discretization) -> np.ndarray:
    """Features of patches, (N, len(MEASURES))."""
    return measure_features(np.stack(patches), discretization) if patches else np.empty((0, len(MEASURES)))
