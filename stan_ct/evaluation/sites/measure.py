"""Measurements of one scan, before and after standardization, in the same voxels: features, noise and HU of tissues."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial

import numpy as np
from scipy import ndimage

from stan_ct.ct.hounsfield import AIR, soft_tissue_mask
from stan_ct.ct.noise import SMOOTHING, noise_power, uniform_regions
from stan_ct.ct.tissues import TISSUES
from stan_ct.dicom.refusal import Refused
from stan_ct.dicom.series import Instance, Series, load_series
from stan_ct.errors import NotComparable
from stan_ct.evaluation.measure.mask_grid import Roi
from stan_ct.evaluation.measure.masks import read_rois
from stan_ct.evaluation.measure.region_features import Measure, measure_rois
from stan_ct.evaluation.measure.regions import rois_of_series
from stan_ct.evaluation.sites.features import AFTER, BEFORE
from stan_ct.evaluation.sites.scans import Scan
from stan_ct.evaluation.sites.settings import SiteSettings
from stan_ct.evaluation.statistics.image_quality import lung_mask
from stan_ct.features.glcm_region import fixed_bin_size

FREQUENCIES = np.arange(0.5, 10.01, 0.25)
"""Frequencies at which noise spectra are compared, lp/cm."""

MIN_VOXELS = 500
"""Least number of voxels of a tissue or a region without masks."""

INSIDE = 2
"""Pixels by which tissues are eroded, so that their borders do not count."""


@dataclass(frozen=True)
class Measured:
    """Measurements of one scan.

    Attributes:
        scan: The scan.
        regions: Name of each region -> feature -> state -> value; of those of the masks, or of lung and soft tissue.
        volumes: Region -> its volume, ml; of the slices that were measured where there are no masks.
        tissues: State -> mean HU of `TISSUES`, (4,); NaN where there is too little of one.
        noise: State -> noise power at `FREQUENCIES`, HU^2 mm^2; NaN beyond Nyquist, and without uniform regions.
        noise_sd: State -> standard deviation of the noise, HU; NaN without uniform regions.
        notes: What is missing, in sentences.
    """

    scan: Scan
    regions: Mapping[str, Mapping[str, Mapping[str, float]]]
    volumes: Mapping[str, float]
    tissues: Mapping[str, np.ndarray]
    noise: Mapping[str, np.ndarray]
    noise_sd: Mapping[str, float]
    notes: tuple[str, ...] = ()


def measure_scan(scan: Scan, settings: SiteSettings) -> Measured | str:
    """Measures a scan.

    Args:
        scan: The scan.
        settings: Masks and how to measure.
    Returns:
        The measurements; or why there are none, in words.
    """
    files, drawn = scan.files, {}
    if settings.masks or settings.masks_beside:
        try:
            rois = _rois(scan, settings)
        except NotComparable as error:
            return str(error)
        drawn = {n: roi.mask for n, roi in rois.items() if fnmatchcase(n, settings.region or "*") and roi.mask.any()}
        if not drawn:
            return f"no region {settings.region or '*'} is drawn on its slices; there are {', '.join(rois)}"
    there = np.array([scan.standardized is None or i.uid in scan.standardized for i in files.instances])
    wanted = _spread(np.flatnonzero(there), settings.slices)
    for mask in drawn.values():
        wanted = np.union1d(wanted, np.flatnonzero(mask.any(axis=(1, 2)) & there))
    try:
        images, padding, read = _load(scan, [files.instances[z] for z in wanted])
    except Refused as refused:
        return f"its slices cannot be read ({refused.reason}: {refused.found})"
    kept = wanted[read]
    if drawn:
        masks = {name: mask[kept] & ~padding for name, mask in drawn.items()}
        masks = {name: mask for name, mask in masks.items() if mask.any()}
    else:
        masks = _tissue_regions(images[BEFORE], padding, files.pixel_spacing)
        masks = {name: mask for name, mask in masks.items() if mask.sum() >= MIN_VOXELS}
    lost = {name: int(mask.sum() - mask[kept].sum()) for name, mask in drawn.items()}
    return Measured(
        scan,
        _features(images, masks, settings),
        {name: float(mask.sum()) * _voxel(scan) / 1000 for name, mask in masks.items()},
        _tissues(images, padding, files.pixel_spacing),
        *_noise(images, padding, files.pixel_spacing),
        tuple(f"{voxels} voxels of {name} lie on slices that are not compared" for name, voxels in lost.items() if voxels),
    )


def _rois(scan: Scan, settings: SiteSettings) -> Mapping[str, Roi]:
    """Regions of a scan: of the masks given, or of the nearest folder around the series that holds any.

    Raises:
        NotComparable: If there are none that fit.
    """
    if settings.masks:
        return rois_of_series(settings.masks, scan.files)
    root, folder = settings.sites[scan.site], scan.files.instances[0].path.parent
    while True:
        try:
            return read_rois(folder, scan.files)
        except NotComparable:
            if folder in (root, folder.parent) or not folder.is_relative_to(root):
                raise
        folder = folder.parent


def _spread(numbers: np.ndarray, most: int) -> np.ndarray:
    """At most so many of some slices, evenly spaced, the first and last among them."""
    return numbers[np.unique(np.linspace(0, len(numbers) - 1, min(most, len(numbers))).round().astype(int))]


def _load(scan: Scan, instances: list[Instance]) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """State -> HU of some slices, (n, H, W) float32; padding, (n, H, W) bool; and which of them all states have, bool.

    Raises:
        Refused: If none can be read in every state.
    """
    found = {BEFORE: _by_uid(load_series(replace(scan.files, instances=tuple(instances))))}
    if scan.standardized is not None:
        of = {scan.standardized[i.uid].uid: i.uid for i in instances}
        made = load_series(replace(scan.files, instances=tuple(scan.standardized[i.uid] for i in instances)))
        found[AFTER] = {of[uid]: slices for uid, slices in _by_uid(made).items()}
    read = np.array([all(i.uid in slices for slices in found.values()) for i in instances])
    uids = [i.uid for i, is_read in zip(instances, read, strict=True) if is_read]
    if not uids:
        raise Refused("unreadable", "no slice can be read before and after standardization")
    padding = np.stack([found[BEFORE][uid][1] for uid in uids])
    images = {state: np.where(padding, AIR, np.stack([slices[uid][0] for uid in uids])) for state, slices in found.items()}
    return {BEFORE: images[BEFORE], AFTER: images.get(AFTER, images[BEFORE])}, padding, read


def _by_uid(series: Series) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {i.uid: (series.volume[z], series.padding[z]) for z, i in enumerate(series.instances)}


def _voxel(scan: Scan) -> float:
    """Volume of a voxel, mm^3: pixels times the distance of slices, or the thickness of a single one."""
    locations = np.array([i.location for i in scan.files.instances])
    step = float(np.median(np.diff(locations))) if len(locations) > 1 else scan.files.slice_thickness
    return step * scan.files.pixel_spacing[0] * scan.files.pixel_spacing[1]


def _smooth(volume: np.ndarray) -> np.ndarray:
    """Slices smoothed within their plane, so that noise does not select voxels."""
    return ndimage.gaussian_filter(volume.astype(np.float32), (0, SMOOTHING, SMOOTHING))


def _tissue_regions(volume: np.ndarray, padding: np.ndarray, spacing: tuple[float, float]) -> dict[str, np.ndarray]:
    """Lung and soft tissue, found in the smoothed slices."""
    smooth = _smooth(volume)
    low, high = TISSUES["soft tissue"]
    soft = (smooth >= low) & (smooth <= high) & ~padding
    return {"lung": lung_mask(smooth, spacing) & ~padding, "soft tissue": _inside(soft)}


def _inside(mask: np.ndarray) -> np.ndarray:
    """A mask without its border in the plane, where smoothing mixes tissues."""
    return ndimage.binary_erosion(mask, np.ones((1, 3, 3), bool), INSIDE)


def _features(
    images: Mapping[str, np.ndarray], masks: Mapping[str, np.ndarray], settings: SiteSettings
) -> dict[str, dict[str, dict[str, float]]]:
    if not masks:
        return {}
    bins = {f"{settings.bin_width:g} HU": partial(fixed_bin_size, bin_width=settings.bin_width, low=settings.hu_range[0])}
    rows = measure_rois(images, masks, bins, [settings.aggregation], settings.hu_range)
    return {
        roi: {
            short_name(measure): {state: float(rows.values[r, i, m]) for i, state in enumerate(rows.images)}
            for m, measure in enumerate(rows.measures)
        }
        for r, roi in enumerate(rows.rois)
    }


def short_name(measure: Measure) -> str:
    """Name of a feature where all have the same gray levels and aggregation.

    Example:
        >>> short_name(Measure("25 HU, 2.5D merged", "contrast")), short_name(Measure("first-order", "root_mean_square"))
        ('GLCM contrast', 'first-order root mean square')
    """
    first, *rest = measure.group.split(", ")
    family = "GLCM" if first != "first-order" else "histogram" if rest else first
    return f"{family} {measure.feature.replace('_', ' ')}"


def _tissues(images: Mapping[str, np.ndarray], padding: np.ndarray, spacing: tuple[float, float]) -> dict[str, np.ndarray]:
    """State -> mean HU of each tissue, in the voxels that the smoothed slices before standardization determine."""
    smooth = _smooth(images[BEFORE])
    found = {name: (smooth >= low) & (smooth <= high) & ~padding for name, (low, high) in TISSUES.items()}
    found["lung"] &= lung_mask(smooth, spacing)  # a mattress is no lung
    masks = [_inside(mask) for mask in found.values()]
    return {
        state: np.array([volume[m].mean(dtype=np.float64) if m.sum() >= MIN_VOXELS else np.nan for m in masks])
        for state, volume in images.items()
    }


def _noise(
    images: Mapping[str, np.ndarray], padding: np.ndarray, spacing: tuple[float, float]
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """State -> noise power at `FREQUENCIES`, and its standard deviation, in the same uniform regions in every state."""
    before = images[BEFORE]
    windows = [
        (z, *window)
        for z in range(len(before))
        for window in uniform_regions(np.where(soft_tissue_mask(before[z], padding[z]), before[z], AIR))
    ]
    if not windows:
        nothing = np.full(len(FREQUENCIES), np.nan)
        return dict.fromkeys(images, nothing), dict.fromkeys(images, np.nan)
    found = {state: noise_power(np.stack([volume[w] for w in windows]), spacing) for state, volume in images.items()}
    beyond = np.where(5 / max(spacing) < FREQUENCIES, np.nan, 0.0)
    power = {state: np.interp(FREQUENCIES, noise.frequency, noise.power) + beyond for state, noise in found.items()}
    return power, {state: float(np.sqrt(noise.variance)) for state, noise in found.items()}
