"""Features of regions of interest (ROI) in source, synthesized and target volumes.

rows = measure_rois(
    {"source": source_hu, "stan-ct": synthesized_hu, "target": target_hu},
    read_masks("lesions.dcm", source),
    {"25 HU": partial(fixed_bin_size, bin_width=25, low=-1000)},
    ["2.5D merged"],
)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from stan_ct.dicom.header import Header
from stan_ct.features.first_order import HISTOGRAM, STATISTICS, histogram_features, statistics
from stan_ct.features.glcm import ALL_FEATURES
from stan_ct.features.glcm_region import AGGREGATIONS, roi_features
from stan_ct.features.mirp import FAMILIES, UNDEFINED, load_mirp, mirp_features

NO_STATISTIC = {
    "coefficient_of_variation": "the mean is 0 HU",
    "quartile_coefficient_of_dispersion": "the quartiles add up to 0 HU",
    "robust_mean_absolute_deviation": "no voxel lies between the 10th and the 90th percentile",
}
"""Statistic -> why it is undefined."""

EMPTY = "the mask has no voxel on the slices that are measured"
"""Why a ROI without voxels has no features."""

ToLevels = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Function of HU and mask, (Z, H, W) each, that returns gray levels, integers; a ValueError says why a ROI has none."""


class Measure(NamedTuple):
    """A feature and its settings: "first-order", "first-order, 25 HU", "25 HU, 3D merged", "25 HU, GLRLM, 3D merged"."""

    group: str
    feature: str


Found = dict[Measure, tuple[float, str]]
"""Measure -> value, and a note, which may be empty."""


class Loss(NamedTuple):
    """Voxels of a ROI that no image is measured in, for want of a slice: location along the normal, mm; number; and why."""

    location: float
    voxels: int
    reason: str


class Origin(NamedTuple):
    """Where a ROI comes from: its name, its patient and study, and of each image the header of its first slice."""

    roi: str
    patient: str
    study_uid: str
    headers: Mapping[str, Header]


@dataclass(frozen=True)
class RoiRows:
    """Measurements of R ROIs in I images, M measures each.

    Attributes:
        rois: Names of the ROIs.
        images: Names of the images.
        measures: Measures.
        values: Values of the measures, (R, I, M) float64, NaN if undefined.
        voxels: Number of voxels measured, after re-segmentation, the same in every image, (R,) int.
        drawn: Number of voxels of each mask, (R,) int.
        notes: (ROI, image, measure) -> why it is undefined, or what is excluded from its mean.
        lost: ROI -> its voxels on slices that not all images have; without ROIs that lost none.
        patients: Patient of each ROI, (R,); empty if all are of one patient.
        origins: Origin of each ROI, (R,); empty if it is not known.
        skipped: Series -> why no ROI of it is measured.
    Raises:
        ValueError: If two ROIs have the same name, a value is undefined without a note, or the number of patients differs.
    """

    rois: tuple[str, ...]
    images: tuple[str, ...]
    measures: tuple[Measure, ...]
    values: np.ndarray
    voxels: np.ndarray
    drawn: np.ndarray
    notes: Mapping[tuple[str, str, Measure], str]
    lost: Mapping[str, tuple[Loss, ...]] = field(default_factory=dict)
    patients: tuple[str, ...] = ()
    origins: tuple[Origin, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.patients and len(self.patients) != len(self.rois):
            raise ValueError(f"expected a patient for each of {len(self.rois)} ROIs, got {len(self.patients)}")
        if len(set(self.rois)) < len(self.rois):
            raise ValueError(f"expected ROIs of different names, got {', '.join(self.rois)}")
        for r, i, m in np.argwhere(np.isnan(self.values)):
            if (key := (self.rois[r], self.images[i], self.measures[m])) not in self.notes:
                raise ValueError(f"say why, {key}: it is undefined and no reason is given")

    def of(self, roi: str, image: str) -> dict[Measure, float]:
        """Measures of a ROI in an image."""
        values = self.values[self.rois.index(roi), self.images.index(image)]
        return dict(zip(self.measures, values.tolist(), strict=True))

    def column(self, image: str, measure: Measure) -> np.ndarray:
        """Measure of all ROIs in an image, (R,)."""
        return self.values[:, self.images.index(image), self.measures.index(measure)]


def measure_rois(
    images: Mapping[str, np.ndarray],
    masks: Mapping[str, np.ndarray],
    discretizations: Mapping[str, ToLevels],
    aggregations: Sequence[str],
    hu_range: tuple[float, float] | None = None,
    mirp: bool = False,
) -> RoiRows:
    """Measures every ROI in every image: first-order statistics, and texture for each discretization and aggregation.

    Args:
        images: Name -> volume, (Z, H, W) HU, all on one grid: "source", "target" and synthesized images.
        masks: ROI -> mask, (Z, H, W) bool; from :func:`~stan_ct.evaluation.measure.masks.read_masks`.
        discretizations: Name -> map from HU and mask to gray levels, such as
            `partial(fixed_bin_size, bin_width=25, low=-1000)`.
        aggregations: Keys of :data:`~stan_ct.features.glcm_region.AGGREGATIONS`.
        hu_range: Re-segmentation, HU: voxels outside [low, high] in any image leave the ROI in all of them; None for none.
        mirp: Whether to measure the texture families of :mod:`~stan_ct.features.mirp` too.
    Returns:
        All measures; NaN and a note for a ROI that is empty, or has HU that a discretization does not accept.
    Raises:
        ValueError: If images and masks are not of one shape, an aggregation is unknown, or a voxel in a ROI is NaN.
        NotComparable: If `mirp` is set and MIRP is not installed.
    Note:
        IBSI re-segments an image by its own HU. Here all images are: features of other voxels could not be compared.
    """
    shapes = {name: np.shape(array) for name, array in (*images.items(), *masks.items())}
    if len(set(shapes.values())) != 1 or not (images and masks) or any(mask.dtype != bool for mask in masks.values()):
        raise ValueError(f"expected images and masks (bool) of one shape (Z, H, W), got {shapes}")
    if unknown := set(aggregations) - set(AGGREGATIONS):
        raise ValueError(f"expected aggregations of {', '.join(AGGREGATIONS)}, got {sorted(unknown)}")
    if mirp:
        load_mirp()
    low, high = hu_range or (-np.inf, np.inf)
    outside = f"no voxel of the ROI lies in [{low:g}, {high:g}] HU in every image"
    found, voxels = {}, []
    for roi, mask in masks.items():
        box = _box(mask)
        kept = mask[box].copy()
        for hu in images.values():
            kept &= ~((hu[box] < low) | (hu[box] > high))  # so a NaN is kept, and refused
        empty, outline = outside if mask.any() else EMPTY, mask[box] if mirp else None
        for image, hu in images.items():
            found[roi, image] = _measure(hu[box], kept, outline, discretizations, aggregations, empty)
        voxels.append(int(kept.sum()))
    measures = tuple(next(iter(found.values())))
    values = np.array([[[found[roi, image][m][0] for m in measures] for image in images] for roi in masks])
    notes = {(*key, measure): note for key, of in found.items() for measure, (_, note) in of.items() if note}
    drawn = np.array([int(mask.sum()) for mask in masks.values()])
    return RoiRows(tuple(masks), tuple(images), measures, values, np.array(voxels), drawn, notes)


def _box(mask: np.ndarray) -> tuple[slice, ...]:
    """Bounding box of a ROI; one voxel if it is empty."""
    marked = [np.flatnonzero(mask.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    return tuple(slice(index[0], index[-1] + 1) if len(index) else slice(0, 1) for index in marked)


def _measure(
    hu: np.ndarray,
    mask: np.ndarray,
    outline: np.ndarray | None,
    discretizations: Mapping[str, ToLevels],
    aggregations: Sequence[str],
    empty: str,
) -> Found:
    """All measures of a ROI in an image.

    Args:
        hu: Volume around the ROI, (Z, H, W) HU.
        mask: ROI after re-segmentation, (Z, H, W) bool.
        outline: ROI before re-segmentation, for the texture families of MIRP; None not to measure them.
        discretizations: Name -> map from HU and mask to gray levels.
        aggregations: Keys of `AGGREGATIONS`.
        empty: Why the ROI has no voxel, for the notes of an empty one.
    """
    values = (
        {f: value[0] for f, value in statistics(hu[mask][None]).items()} if mask.any() else dict.fromkeys(STATISTICS, np.nan)
    )
    reasons = NO_STATISTIC if mask.any() else dict.fromkeys(STATISTICS, empty)
    found = {Measure("first-order", f): (float(x), reasons[f] if np.isnan(x) else "") for f, x in values.items()}
    for name, to_levels in discretizations.items():
        try:
            if not mask.any():
                raise ValueError(empty)
            found |= _of_levels(name, to_levels(hu, mask), mask, outline, aggregations)
        except ValueError as error:
            groups: dict[str, Iterable[str]] = {f"first-order, {name}": HISTOGRAM} | {
                f"{name}, {a}": ALL_FEATURES for a in aggregations
            }
            families = {} if outline is None else FAMILIES
            groups |= {
                f"{name}, {family}, {a}": tuple(names.values()) for a in aggregations for family, names in families.items()
            }
            found |= {Measure(group, f): (np.nan, str(error)) for group, features in groups.items() for f in features}
    return found


def _of_levels(
    name: str, levels: np.ndarray, mask: np.ndarray, outline: np.ndarray | None, aggregations: Sequence[str]
) -> Found:
    """Histogram and texture in the gray levels of one discretization."""
    histogram = histogram_features(levels[mask][None])
    found = {Measure(f"first-order, {name}", f): (float(value[0]), "") for f, value in histogram.items()}
    for aggregation in aggregations:
        texture = roi_features(levels, mask, aggregation)
        found |= {Measure(f"{name}, {aggregation}", f): (texture.values[f], texture.notes.get(f, "")) for f in ALL_FEATURES}
        for family, values in (mirp_features(levels, mask, outline, aggregation) if outline is not None else {}).items():
            group = f"{name}, {family}, {aggregation}"
            found |= {Measure(group, f): (x, UNDEFINED if np.isnan(x) else "") for f, x in values.items()}
    return found


def join(parts: Mapping[str, RoiRows], patients: Mapping[str, str]) -> RoiRows:
    """Joins the ROIs of several series, named "series, ROI".

    Args:
        parts: Series -> its measurements.
        patients: Series -> patient.
    Raises:
        ValueError: If the series were not measured in the same way.
    """
    first, *others = parts.values()
    if any((part.images, part.measures) != (first.images, first.measures) for part in others):
        raise ValueError("expected the same images, discretizations and aggregations for all series")
    return RoiRows(
        tuple(f"{series}, {roi}" for series, part in parts.items() for roi in part.rois),
        first.images,
        first.measures,
        np.concatenate([part.values for part in parts.values()]),
        np.concatenate([part.voxels for part in parts.values()]),
        np.concatenate([part.drawn for part in parts.values()]),
        {(f"{s}, {roi}", image, m): note for s, part in parts.items() for (roi, image, m), note in part.notes.items()},
        {f"{series}, {roi}": losses for series, part in parts.items() for roi, losses in part.lost.items()},
        tuple(patients[series] for series, part in parts.items() for _ in part.rois),
        tuple(origin for part in parts.values() for origin in part.origins),
    )
