"""Series and masks -> features of regions of interest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stan_ct.ct.hounsfield import SOFT_TISSUE
from stan_ct.dicom.series import Series, SeriesFiles, load_series
from stan_ct.errors import NotComparable
from stan_ct.evaluation.measure.masks import read_masks
from stan_ct.evaluation.measure.pairs import find_pairs
from stan_ct.evaluation.measure.region_features import RoiRows, join, measure_rois
from stan_ct.evaluation.measure.series import Settings
from stan_ct.features.glcm_region import fixed_bin_size


@dataclass(frozen=True)
class RoiSettings:
    """Which regions, and how features are computed.

    Attributes:
        masks: DICOM SEG or NIfTI files, or folders of them; where such a folder has a subfolder of the patient's ID, that.
        bin_width: HU per gray level, from the lower end of `hu_range` on (IBSI Q3RU).
        hu_range: Pixels of other HU do not count (re-segmentation).
        aggregation: Of co-occurrence matrices, a key of `roi.AGGREGATIONS`.
        wider: Whether texture beyond co-occurrence is measured, by MIRP.
    """

    masks: tuple[Path, ...]
    bin_width: float = 25.0
    hu_range: tuple[float, float] = SOFT_TISSUE
    aggregation: str = "2.5D merged"
    wider: bool = False


def measure_regions(compared: Settings, settings: RoiSettings) -> RoiRows:
    """Features of every region, in every image of every series.

    Raises:
        NotComparable: If there are no pairs, a slice cannot be read, a mask lies on no series, or MIRP is wanted and missing.
    """
    bins = {f"{settings.bin_width:g} HU": partial(fixed_bin_size, bin_width=settings.bin_width, low=settings.hu_range[0])}
    series: dict[str, list] = {}
    for place in find_pairs(compared.source_dir, compared.others).together:
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
        parts[f"series {number}"] = measure_rois(volumes, found, bins, ways, settings.hu_range, settings.wider)
    return join(parts, patients) if len(parts) > 1 else next(iter(parts.values()))


def _masks(paths: Sequence[Path], source: Series) -> dict:
    """The regions of one series, by name.

    Raises:
        NotComparable: If two have one name.
    """
    own = [path / source.files.patient for path in paths if (path / source.files.patient).is_dir()]
    found: dict = {}
    for path in own or paths:
        regions = read_masks(path, source)
        if twice := sorted(found.keys() & regions.keys()):
            raise NotComparable(f"two regions are called {twice[0]!r}: give them different names")
        found |= regions
    return found
