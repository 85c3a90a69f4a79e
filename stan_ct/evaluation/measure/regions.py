"""Features of regions of interest in pairs of series."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from stan_ct.ct.hounsfield import SOFT_TISSUE
from stan_ct.dicom.grouping import comparable_id
from stan_ct.dicom.refusal import Refused
from stan_ct.dicom.series import Instance, SeriesFiles, load_series
from stan_ct.errors import NotComparable
from stan_ct.evaluation.measure.mask_grid import Roi
from stan_ct.evaluation.measure.masks import read_rois
from stan_ct.evaluation.measure.pairs import Headers, find_pairs, read_headers
from stan_ct.evaluation.measure.region_features import Loss, Origin, RoiRows, join, measure_rois
from stan_ct.features.glcm_region import fixed_bin_size
from stan_ct.patches.pairs import PairBy

Place = Mapping[str, Instance]
"""The slice of every image in one place, by the image's name."""


@dataclass(frozen=True)
class RoiSettings:
    """Regions, and how their features are computed.

    Attributes:
        masks: DICOM SEG, RTSTRUCT or NIfTI files, or folders of them; of a folder with a subfolder named by the patient's ID,
            only that subfolder is read.
        bin_width: Width of a gray level, HU, from the lower end of `hu_range` on (IBSI Q3RU).
        hu_range: Range of voxels that count, HU (re-segmentation).
        aggregation: Aggregation of co-occurrence matrices, a key of `AGGREGATIONS`.
        mirp: Whether to measure texture beyond co-occurrence, by MIRP.
    """

    masks: tuple[Path, ...]
    bin_width: float = 25.0
    hu_range: tuple[float, float] = SOFT_TISSUE
    aggregation: str = "2.5D merged"
    mirp: bool = False


def measure_regions(
    directories: Mapping[str, Path | Headers],
    settings: RoiSettings,
    only_instances: Iterable[str] | None = None,
    pair_by: PairBy = "study",
) -> RoiRows:
    """Measures every region in every image of every series, on the slices that all images have.

    Args:
        directories: Name -> directory of series, or its headers if they have been read; `source` is among the names.
        settings: Regions, and how their features are computed.
        only_instances: SOP Instance UIDs of the source slices to compare; None for all.
        pair_by: `study`, or `position` for series of one scan that were de-identified apart.
    Returns:
        The measurements; `lost` has the voxels on other slices, `skipped` the series without masks that fit.
    Raises:
        FileNotFoundError: If a path of a mask does not exist.
        NotComparable: If there are no pairs, the masks fit no series, or MIRP is needed and missing.
    """
    headers = {name: d if isinstance(d, Headers) else read_headers(d, name) for name, d in directories.items()}
    others = {name: read for name, read in headers.items() if name != "source"}
    pairing = find_pairs(headers["source"], others, only_instances, pair_by=pair_by)
    places = {place["source"].uid: place for place in pairing.together}
    compared = [f for f in headers["source"].series if any(instance.uid in places for instance in f.instances)]
    parts: dict[str, RoiRows] = {}
    skipped: dict[str, str] = {}
    for number, files in enumerate(compared, 1):
        try:
            rois = rois_of_series(settings.masks, files)
        except NotComparable as error:
            if len(compared) == 1:
                raise
            skipped[f"series {number}"] = str(error)
        else:
            parts[f"series {number}"] = _measure_series(files, rois, places, pairing.without, settings)
    if not parts:
        raise NotComparable(next(iter(skipped.values())))
    if len(compared) == 1:
        return parts["series 1"]
    return replace(join(parts, {name: part.origins[0].patient for name, part in parts.items()}), skipped=skipped)


def _measure_series(
    files: SeriesFiles,
    rois: Mapping[str, Roi],
    places: Mapping[str, Place],
    without: Mapping[str, tuple[str, ...]],
    settings: RoiSettings,
) -> RoiRows:
    """Measures the regions of one source series; `places` and `without` by the SOP Instance UID of its slices."""
    drawn = np.any([roi.mask.any(axis=(1, 2)) for roi in rois.values()], axis=0)  # (Z,)
    reasons = {z: _why_missing(files.instances[z].uid, places, without) for z in np.flatnonzero(drawn).tolist()}
    needed = {z: places[files.instances[z].uid] for z, reason in reasons.items() if not reason}
    own = next(places[instance.uid] for instance in files.instances if instance.uid in places)
    volumes, unreadable = _load(files, needed, tuple(own))
    missing = {z: reason for z, reason in reasons.items() if reason} | unreadable
    masks = {name: roi.mask & ~np.isin(np.arange(len(drawn)), list(missing))[:, None, None] for name, roi in rois.items()}
    bins = {f"{settings.bin_width:g} HU": partial(fixed_bin_size, bin_width=settings.bin_width, low=settings.hu_range[0])}
    rows = measure_rois(volumes, masks, bins, [settings.aggregation], settings.hu_range, settings.mirp)
    headers = {image: instance.header for image, instance in own.items()}
    return replace(
        rows,
        drawn=np.array([roi.drawn for roi in rois.values()]),
        lost={name: losses for name, roi in rois.items() if (losses := _losses(roi, missing, files))},
        origins=tuple(Origin(name, files.patient, files.study_uid, headers) for name in rois),
    )


def _why_missing(uid: str, places: Mapping[str, Place], without: Mapping[str, tuple[str, ...]]) -> str:
    """Why a source slice is not measured; empty if it is."""
    if uid in places:
        return ""
    names = without.get(uid, ())
    return f"{' and '.join(names)} {'has' if len(names) == 1 else 'have'} no slice" if names else "the slice is not to compare"


def _load(
    files: SeriesFiles, places: Mapping[int, Place], names: Sequence[str]
) -> tuple[dict[str, np.ndarray], dict[int, str]]:
    """Volume of every image, (Z, H, W) HU, 0 where it is not needed; and slice -> why it cannot be read."""
    volumes = {name: np.zeros(files.shape, np.float32) for name in names}
    unreadable: dict[int, str] = {}
    for name, volume in volumes.items():
        slices = {place[name].path: z for z, place in places.items()}
        try:
            series = load_series(SeriesFiles(tuple(place[name] for place in places.values()))) if places else None
        except Refused as refused:  # none of them
            unreadable |= dict.fromkeys(places, f"{name} is unreadable ({refused.reason})")
            continue
        if series is None:
            continue
        volume[[slices[instance.path] for instance in series.instances]] = series.volume
        unreadable |= {slices[r.paths[0]]: f"{name} is unreadable ({r.reason})" for r in series.refusals}
    return volumes, unreadable


def _losses(roi: Roi, missing: Mapping[int, str], files: SeriesFiles) -> tuple[Loss, ...]:
    """Voxels of a ROI on slices that are not measured, in the order of their location."""
    counts = {z: int(roi.mask[z].sum()) for z in missing}
    found = [Loss(round(files.instances[z].location, 3), counts[z], reason) for z, reason in missing.items() if counts[z]]
    found += [Loss(location, voxels, "source has no slice") for location, voxels in roi.elsewhere.items()]
    return tuple(sorted(found))


def rois_of_series(paths: Sequence[Path], files: SeriesFiles) -> dict[str, Roi]:
    """Regions of one series by name.

    Raises:
        NotComparable: If two have the same name.
    """
    own = [folder for path in paths for folder in _folders_of(files, path)]
    found: dict[str, Roi] = {}
    for path in own or paths:
        rois = read_rois(path, files)
        if twice := sorted(found.keys() & rois.keys()):
            raise NotComparable(f"two regions are called {twice[0]!r}: give them different names")
        found |= rois
    return found


def _folders_of(files: SeriesFiles, path: Path) -> list[Path]:
    """Subfolders of a folder of masks that are named by the patient of a series."""
    patient = comparable_id(files.patient)
    return [f for f in sorted(path.iterdir()) if f.is_dir() and comparable_id(f.name) == patient] if path.is_dir() else []
