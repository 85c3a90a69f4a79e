"""Features of regions of interest in pairs of series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from stan_ct.ct.hounsfield import SOFT_TISSUE
from stan_ct.dicom.series import Instance, Series, SeriesFiles, load_series
from stan_ct.errors import NotComparable
from stan_ct.evaluation.measure.masks import read_masks
from stan_ct.evaluation.measure.pairs import Headers, find_pairs
from stan_ct.evaluation.measure.region_features import RoiRows, join, measure_rois
from stan_ct.features.glcm_region import fixed_bin_size


@dataclass(frozen=True)
class RoiSettings:
    """Regions, and how their features are computed.

    Attributes:
        masks: DICOM SEG or NIfTI files, or folders of them; of a folder with a subfolder named by the patient's ID, only that
            subfolder is read.
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


def measure_regions(directories: Mapping[str, Path | Headers], settings: RoiSettings) -> RoiRows:
    """Measures every region in every image of every series.

    Args:
        directories: Name -> directory of series, or its headers if they have been read; `source` is among the names.
        settings: Regions, and how their features are computed.
    Raises:
        NotComparable: If there are no pairs, a slice cannot be read, a mask fits no series, or MIRP is needed and missing.
    """
    bins = {f"{settings.bin_width:g} HU": partial(fixed_bin_size, bin_width=settings.bin_width, low=settings.hu_range[0])}
    series: dict[str, list[Mapping[str, Instance]]] = {}
    others = {name: directory for name, directory in directories.items() if name != "source"}
    for place in find_pairs(directories["source"], others).together:
        series.setdefault(str(place["source"].header.SeriesInstanceUID), []).append(place)
    parts, patients = {}, {}
    for number, places in enumerate(series.values(), 1):
        images = {name: load_series(SeriesFiles(tuple(place[name] for place in places))) for name in places[0]}
        unreadable = [refusal for image in images.values() for refusal in image.refusals]
        if unreadable:
            raise NotComparable(f"{unreadable[0].paths[0]}: {unreadable[0].reason}. Regions need every slice: export it again")
        volumes = {name: image.volume for name, image in images.items()}
        found = _masks(settings.masks, images["source"])
        patients[f"series {number}"] = images["source"].files.patient
        ways = [settings.aggregation]
        parts[f"series {number}"] = measure_rois(volumes, found, bins, ways, settings.hu_range, settings.mirp)
    return join(parts, patients) if len(parts) > 1 else next(iter(parts.values()))


def _masks(paths: Sequence[Path], source: Series) -> dict[str, np.ndarray]:
    """Masks of one series: name -> (Z, H, W) bool.

    Raises:
        NotComparable: If two have the same name.
    """
    own = [path / source.files.patient for path in paths if (path / source.files.patient).is_dir()]
    found: dict[str, np.ndarray] = {}
    for path in own or paths:
        regions = read_masks(path, source)
        if twice := sorted(found.keys() & regions.keys()):
            raise NotComparable(f"two regions are called {twice[0]!r}: give them different names")
        found |= regions
    return found
