"""Directories of DICOM -> measurements of source, synthesized and target slices, patch by patch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from stan_ct.dicom.refusal import Refused
from stan_ct.dicom.series import Instance
from stan_ct.errors import NotComparable
from stan_ct.evaluation.measure.image_quality import Quality, measure_quality
from stan_ct.evaluation.measure.measurement import MEASURES, PLACES, Measured, measure_features, measure_hu
from stan_ct.evaluation.measure.pairs import find_pairs, load_slices
from stan_ct.features.glcm import Discretization
from stan_ct.parallel import Workers

SIMULATOR = "STAN-CT simulator"
"""Manufacturer (0008,0070) of simulated series."""


@dataclass(frozen=True)
class Settings:
    """What to compare, and how.

    Attributes:
        source_dir: DICOM of the source.
        synthesized: Name -> DICOM of what was made of it.
        target_dir: DICOM of the standard protocol; None where there is none: source and synthesized are then measured alone.
        patch_size: Side of a patch, px; a smaller slice is one patch of its own size.
        stride: Distance of neighbouring patches, px; the last row and column are moved back to the border.
        min_soft_tissue: Part of a patch's source pixels that must be soft tissue, in [0, 1].
        discretization: HU -> gray levels, the same for all images.
        only_instances: SOP Instance UIDs of the source slices to compare; None for all.
    Raises:
        ValueError: If a number is out of its range, or a name is taken.
    """

    source_dir: Path
    synthesized: Mapping[str, Path]
    target_dir: Path | None
    patch_size: int = 256
    stride: int = 128
    min_soft_tissue: float = 0.7
    discretization: Discretization = field(default_factory=Discretization.fixed_number)
    only_instances: frozenset[str] | None = None

    def __post_init__(self) -> None:
        if self.patch_size < 2:
            raise ValueError(f"the patch size must be >= 2 pixels, not {self.patch_size}")
        if not 1 <= self.stride <= self.patch_size:
            raise ValueError(f"the stride must be 1 to {self.patch_size} pixels, the patch size, not {self.stride}")
        if not 0 <= self.min_soft_tissue <= 1:
            raise ValueError(f"the part of soft tissue must be in [0, 1], not {self.min_soft_tissue:g}")
        if {"source", "target"} & set(self.synthesized):
            raise ValueError("source and target are names of other images: give synthesized series another name")

    @property
    def others(self) -> dict[str, Path]:
        """Every image but the source, by name."""
        return {**self.synthesized, **({"target": self.target_dir} if self.target_dir else {})}


@dataclass(frozen=True)
class Measurement:
    """What was measured.

    Attributes:
        settings: What was compared, and how.
        rows: `source`, the synthesized images by name, and `target` where there is one; all of the same patches.
        patients: (N,) the patient of each patch, as a number.
        slices: Number of slices compared.
        left_out: Reason -> how many slices, patches, files or listed instances were left out for it.
        simulated: Whether all source slices say that our simulator made them, in Manufacturer (0008,0070).
        quality: Name -> the image's quality slice by slice, of the names of `rows`; empty without a target.
    """

    settings: Settings
    rows: dict[str, Measured]
    patients: np.ndarray
    slices: int
    left_out: Counter
    simulated: bool = False
    quality: Mapping[str, tuple[Quality, ...]] = field(default_factory=dict)

    @property
    def patches(self) -> int:
        """Number of patches compared, N."""
        return len(self.patients)


def patch_grid(shape: tuple[int, int], settings: Settings) -> list[tuple[slice, slice]]:
    """(rows, columns) of every patch of a slice of this shape, row by row; together they cover the slice."""
    rows, columns = (_windows(length, settings) for length in shape)
    return [(row, column) for row in rows for column in columns]


def _windows(length: int, settings: Settings) -> list[slice]:
    size = min(settings.patch_size, length)
    starts = sorted({*range(0, length - size, settings.stride), length - size})
    return [slice(start, start + size) for start in starts]


def measure(settings: Settings, progress: Callable = lambda items: items, workers: int = 1) -> Measurement:
    """Measures source, synthesized and target slices: the same patches and gray levels for all.

    Args:
        settings: What to compare, and how.
        progress: Wraps the iteration over files, such as `tqdm`.
        workers: Processes that measure.
    Returns:
        The measurements of at least one patch.
    Raises:
        FileNotFoundError: If a directory does not exist.
        NotComparable: If no slice has its partners, or none has a patch of enough soft tissue.
    """
    pairing = find_pairs(settings.source_dir, settings.others, settings.only_instances, progress)
    left_out, names = pairing.excluded, ("source", *settings.others)
    tasks = [(together, settings) for together in pairing.together]
    with Workers(workers) as pool:
        slices = pool.map(_measure_slice, tasks, [1] * len(tasks), "measure slices")
    for reason in (found for found in slices if isinstance(found, str)):
        left_out[f"slices with unreadable pixels: {reason}"] += 1
    measured = [found for found in slices if isinstance(found, _Slice)]
    left_out["patches with too little soft tissue"] += sum(found.rejected for found in measured)
    left_out["slices without any patch of enough soft tissue"] += sum(not found.features.shape[1] for found in measured)
    if not any(found.features.shape[1] for found in measured):
        raise NotComparable(
            f"none of {len(tasks)} slices has a patch of which {settings.min_soft_tissue:.0%} is soft tissue: "
            f"choose smaller patches or less soft tissue. Left out: {dict(+left_out)}"
        )
    features = np.concatenate([found.features for found in measured], axis=1)  # (images, N, features)
    hu = np.stack([found.hu for found in measured], axis=1)  # (images, slices, places, 4)
    _, patient = np.unique([found.patient for found in measured], return_inverse=True)
    patients = np.repeat(patient + 1, [found.features.shape[1] for found in measured])
    rows = {name: Measured(features[i], hu[i]) for i, name in enumerate(names)}
    simulated = all(place["source"].header.get("Manufacturer") == SIMULATOR for place in pairing.together)
    quality = {name: tuple(found.quality[name] for found in measured) for name in names if settings.target_dir}
    return Measurement(settings, rows, patients, len(measured), +left_out, simulated, quality)


@dataclass(frozen=True)
class _Slice:
    """One place.

    Features (images, patches, features), differences in HU (images, places, 4), image quality by name (empty without a
    target), patches with too little soft tissue, and who it is.
    """

    features: np.ndarray
    hu: np.ndarray
    quality: Mapping[str, Quality]
    rejected: int
    patient: str


def _measure_slice(together: Mapping[str, Instance], settings: Settings) -> _Slice | str:
    """Measures the slices of one place; the reason, in a word, where they cannot be read."""
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
    """(N, features) of patches."""
    return measure_features(np.stack(patches), discretization) if patches else np.empty((0, len(MEASURES)))
