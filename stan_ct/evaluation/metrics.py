"""The errors of source and synthesized slices against the target (Eq. 8), patch by patch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from stan_ct.ct.refusal import Refused
from stan_ct.evaluation.glcm import FEATURES, Discretization, features
from stan_ct.evaluation.pairs import NotComparable, Triple, find_pairs

IMAGES = ("source", "synthesized")
"""What is measured against the target."""


@dataclass(frozen=True)
class Settings:
    """What to compare, and how.

    Attributes:
        source_dir: DICOM of the source; `synthesized_dir` and `target_dir` alike.
        patch_size: Side of a patch, px; a smaller slice is one patch of its own size.
        stride: Distance of neighbouring patches, px; the last row and column are moved back to the border.
        min_soft_tissue: Part of a patch's source pixels that must be soft tissue, in [0, 1].
        discretization: HU -> gray levels, the same for all images.
        only_instances: SOP Instance UIDs of the source slices to compare; None for all.
    Raises:
        ValueError: If a number is out of its range.
    """

    source_dir: Path
    synthesized_dir: Path
    target_dir: Path
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


@dataclass(frozen=True)
class Summary:
    """Mean and standard deviation (of a sample: n - 1) of the n defined errors; NaN for want of values."""

    mean: float
    sd: float
    n: int
    undefined: int


@dataclass(frozen=True)
class Measurement:
    """The errors against the target.

    Attributes:
        settings: What was compared, and how.
        errors: Image of `IMAGES` -> relative errors, (N, 5) float64, NaN where undefined; columns as `FEATURES`.
        rmse: Image -> root mean squared difference to the target over the soft tissue of all slices, HU.
        slices: Number of slices compared.
        left_out: Reason -> how many slices, patches, files or listed instances were left out for it.
    """

    settings: Settings
    errors: dict[str, np.ndarray]
    rmse: dict[str, float]
    slices: int
    left_out: Counter

    @property
    def patches(self) -> int:
        """Number of patches compared, N."""
        return len(self.errors["source"])


def relative_error(synthesized: np.ndarray, target: np.ndarray) -> np.ndarray:
    r"""Error of a feature relative to the target's, :math:`|\phi(I_{syn}) - \phi(I_{target})| / |\phi(I_{target})|`.

    Args:
        synthesized: Features of the image to judge, any shape.
        target: Features of the target, same shape.
    Returns:
        float64 >= 0, same shape; NaN (undefined) where the target's feature is 0.
    Note:
        The paper divides by the feature itself; the magnitude keeps the error of a negative correlation positive.
    Reference: Eq. 8.
    Example:
        >>> relative_error(np.array([3.0, 1.0, -1.0]), np.array([2.0, 0.0, -2.0])).tolist()
        [0.5, nan, 0.5]
    """
    synthesized, target = np.asarray(synthesized, np.float64), np.asarray(target, np.float64)
    return np.abs(synthesized - target) / np.where(target == 0, np.nan, np.abs(target))


def texture_errors(target: np.ndarray) -> Callable[[np.ndarray], dict[str, float]]:
    """The mean errors (Eq. 8) of the five features against target patches: what training compares versions by.

    Args:
        target: (N, H, W) HU.
    Returns:
        A function of output patches, (N, H, W) HU, that gives feature -> mean error.
    """
    discretization = Discretization.fixed_number(256)
    wanted = np.stack([features(patch, discretization) for patch in target])

    def errors(output: np.ndarray) -> dict[str, float]:
        found = np.stack([features(patch, discretization) for patch in output])
        return dict(zip(FEATURES, map(float, np.nanmean(relative_error(found, wanted), axis=0)), strict=True))

    return errors


def summarize(errors: np.ndarray) -> Summary:
    """Summary of (N,) errors; the undefined ones (NaN) are counted apart."""
    defined = errors[~np.isnan(errors)]
    n = len(defined)
    mean = float(defined.mean()) if n else float("nan")
    return Summary(mean, float(defined.std(ddof=1)) if n > 1 else float("nan"), n, len(errors) - n)


def patch_grid(shape: tuple[int, int], settings: Settings) -> list[tuple[slice, slice]]:
    """(rows, columns) of every patch of a slice of this shape, row by row; together they cover the slice."""
    rows, columns = (_windows(length, settings) for length in shape)
    return [(row, column) for row in rows for column in columns]


def _windows(length: int, settings: Settings) -> list[slice]:
    size = min(settings.patch_size, length)
    starts = sorted({*range(0, length - size, settings.stride), length - size})
    return [slice(start, start + size) for start in starts]


def measure(settings: Settings, progress: Callable = lambda items: items) -> Measurement:
    """Compares source and synthesized slices with the target: the same patches and gray levels for all three.

    Args:
        settings: What to compare, and how.
        progress: Wraps the iterations over files and slices, such as `tqdm`.
    Returns:
        The errors of at least one patch.
    Raises:
        FileNotFoundError: If a directory does not exist.
        NotComparable: If no slice has its partners, or none has a patch of enough soft tissue.
    """
    directories = settings.source_dir, settings.synthesized_dir, settings.target_dir
    pairing = find_pairs(*directories, settings.only_instances, progress)
    left_out, measured = pairing.left_out, []
    for triple in progress(pairing.triples):
        try:
            measured.append(_measure_slice(triple, settings))
        except Refused as refused:
            left_out[f"slices with unreadable pixels: {refused.reason}"] += 1
    left_out["patches with too little soft tissue"] += sum(slice_.rejected for slice_ in measured)
    left_out["slices without any patch of enough soft tissue"] += sum(not len(slice_.features) for slice_ in measured)
    if not any(len(slice_.features) for slice_ in measured):
        raise NotComparable(
            f"none of {len(pairing.triples)} slices has a patch of which {settings.min_soft_tissue:.0%} is soft tissue: "
            f"choose smaller patches or less soft tissue. Left out: {dict(+left_out)}"
        )
    of_images = np.concatenate([slice_.features for slice_ in measured])  # (N, 3, 5)
    squares, pixels = sum(slice_.squares for slice_ in measured), sum(slice_.pixels for slice_ in measured)
    return Measurement(
        settings=settings,
        errors={image: relative_error(of_images[:, i], of_images[:, 2]) for i, image in enumerate(IMAGES)},
        rmse={image: float(np.sqrt(squares[i] / pixels)) for i, image in enumerate(IMAGES)},
        slices=len(measured),
        left_out=+left_out,
    )


@dataclass(frozen=True)
class _Slice:
    features: np.ndarray  # (N, 3, 5): patches; source, synthesized, target; features
    rejected: int  # patches with too little soft tissue
    squares: np.ndarray  # (2,): summed squared differences to the target, HU^2
    pixels: int


def _measure_slice(triple: Triple, settings: Settings) -> _Slice:
    series = triple.load()
    source, synthesized, target = (loaded.volume[0] for loaded in series)
    mask = series[0].soft_tissue(0)
    grid = patch_grid(mask.shape, settings)
    windows = [window for window in grid if mask[window].mean() >= settings.min_soft_tissue]
    found = [[features(hu[w], settings.discretization) for hu in (source, synthesized, target)] for w in windows]
    known = mask & ~series[2].padding[0]  # the target's padding has no HU to compare with
    squares = [np.square(hu[known] - target[known], dtype=np.float64).sum() for hu in (source, synthesized)]
    features_ = np.reshape(found, (len(windows), 3, len(FEATURES)))
    return _Slice(features_, len(grid) - len(windows), np.array(squares), int(known.sum()))
