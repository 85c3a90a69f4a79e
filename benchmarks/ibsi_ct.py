"""Features of a tumour in a real CT against the consensus of the Image Biomarker Standardisation Initiative (IBSI).

python benchmarks/ibsi_ct.py DIR

DIR holds IBSI's lung cancer CT, patient 1: a CT series and an RT Structure Set (doi:10.17195/candat.2016.08.1; CC BY-NC, so it
is no part of this repository). The series and the contour GTV-1 are read, and for IBSI's configurations A - E the co-occurrence
features of `stan_ct.features.glcm_region` and the statistics of `stan_ct.features.first_order` are printed beside the published
values. Resampling, which is no part of the package, is here and as IBSI wants it: both grids have one centre, HU are rounded, a
voxel half of which is in the mask is in it.

A value is within if its first three digits, which IBSI publishes, are. Ends with 1 if any is not.

Reference: Zwanenburg et al., "The Image Biomarker Standardization Initiative", Radiology 295 (2020), and its reference manual,
theibsi.github.io (CC BY 4.0).
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.ndimage import affine_transform

from stan_ct.dicom.find import find_series
from stan_ct.dicom.series import Series, load_series
from stan_ct.evaluation.measure.masks import read_masks
from stan_ct.features.first_order import HISTOGRAM, STATISTICS, histogram_features, statistics
from stan_ct.features.glcm import IBSI
from stan_ct.features.glcm_region import fixed_bin_number, fixed_bin_size, roi_features

ROI = "GTV-1"
PLANAR = ("2D averaged", "2D slice-merged", "2.5D direction-merged", "2.5D merged")
SPATIAL = ("3D averaged", "3D merged")
LINEAR, CUBIC = 1, 3
"""Orders of splines."""


@dataclass(frozen=True)
class Configuration:
    """How IBSI prepares the CT.

    Attributes:
        aggregations: Of co-occurrence matrices.
        to_levels: HU and mask -> gray levels.
        spacing: Of voxels after resampling, (slices, rows, columns) mm; NaN where they stay.
        order: Of the spline that resamples HU.
        hu_range: Other voxels leave the ROI.
        sigmas: So many standard deviations from the mean of those that are left, voxels leave it too.
    """

    aggregations: tuple[str, ...]
    to_levels: Callable[[np.ndarray, np.ndarray], np.ndarray]
    spacing: tuple[float, float, float] = (np.nan, np.nan, np.nan)
    order: int = LINEAR
    hu_range: tuple[float, float] = (-np.inf, np.inf)
    sigmas: float = np.inf


NUMBER = partial(fixed_bin_number, n_levels=32)
CONFIGURATIONS = {
    "A": Configuration(PLANAR, partial(fixed_bin_size, bin_width=25, low=-500), hu_range=(-500, 400)),
    "B": Configuration(PLANAR, NUMBER, (np.nan, 2, 2), hu_range=(-500, 400)),
    "C": Configuration(SPATIAL, partial(fixed_bin_size, bin_width=25, low=-1000), (2, 2, 2), hu_range=(-1000, 400)),
    "D": Configuration(SPATIAL, NUMBER, (2, 2, 2), sigmas=3),
    "E": Configuration(SPATIAL, NUMBER, (2, 2, 2), CUBIC, (-1000, 400), 3),
}

TEXTURE = {
    "A": {
        "contrast": ((7.85, 0.26), (7.82, 0.26), (5.96, 0.27), (5.95, 0.27)),
        "dissimilarity": ((1.58, 0.03), (1.57, 0.03), (1.35, 0.03), (1.35, 0.03)),
        "homogeneity": ((0.544, 0.003), (0.544, 0.003), (0.573, 0.003), (0.573, 0.003)),
        "inverse_difference": ((0.581, 0.003), (0.581, 0.003), (0.605, 0.003), (0.605, 0.003)),
        "asm": ((0.045, 0.0008), (0.0446, 0.0008), (0.0429, 0.0007), (0.0427, 0.0007)),
        "correlation": ((0.778, 0.002), (0.78, 0.002), (0.839, 0.003), (0.84, 0.003)),
        "joint_entropy": ((5.82, 0.04), (5.9, 0.04), (5.78, 0.04), (5.79, 0.04)),
    },
    "B": {
        "contrast": ((11.9, 0.1), (11.8, 0.1), (8.66, 0.09), (8.65, 0.09)),
        "dissimilarity": ((1.81, 0.01), (1.81, 0.01), (1.47, 0.01), (1.47, 0.01)),
        "homogeneity": ((0.557, 0.001), (0.558, 0.001), (0.6, 0.001), (0.6, 0.001)),
        "inverse_difference": ((0.592, 0.001), (0.593, 0.001), (0.628, 0.001), (0.628, 0.001)),
        "asm": ((0.0678, 0.0006), (0.0669, 0.0006), (0.0581, 0.0006), (0.058, 0.0006)),
        "correlation": ((0.577, 0.002), (0.58, 0.002), (0.693, 0.003), (0.695, 0.003)),
        "joint_entropy": ((5.26, 0.02), (5.45, 0.01), (5.45, 0.01), (5.46, 0.01)),
    },
    "C": {
        "contrast": ((19.2, 0.7), (19.1, 0.7)),
        "dissimilarity": ((2.17, 0.05), (2.16, 0.05)),
        "homogeneity": ((0.547, 0.004), (0.548, 0.004)),
        "inverse_difference": ((0.582, 0.004), (0.583, 0.004)),
        "asm": ((0.045, 0.001), (0.0447, 0.001)),
        "correlation": ((0.869, 0.001), (0.871, 0.001)),
        "joint_entropy": ((6.39, 0.06), (6.42, 0.06)),
    },
    "D": {
        "contrast": ((7.07, 0.13), (7.05, 0.13)),
        "dissimilarity": ((1.29, 0.01), (1.29, 0.01)),
        "homogeneity": ((0.656, 0.003), (0.657, 0.003)),
        "inverse_difference": ((0.682, 0.003), (0.682, 0.003)),
        "asm": ((0.11, 0.003), (0.109, 0.003)),
        "correlation": ((0.798, 0.005), (0.8, 0.005)),
        "joint_entropy": ((4.95, 0.03), (4.96, 0.03)),
    },
    "E": {
        "contrast": ((11.1, 0.1), (11.1, 0.1)),
        "dissimilarity": ((1.7, 0.01), (1.7, 0.01)),
        "homogeneity": ((0.576, 0.001), (0.577, 0.001)),
        "inverse_difference": ((0.608, 0.001), (0.608, 0.001)),
        "asm": ((0.0638, 0.0009), (0.0635, 0.0009)),
        "correlation": ((0.771, 0.006), (0.773, 0.006)),
        "joint_entropy": ((5.6, 0.03), (5.61, 0.03)),
    },
}
"""Configuration -> feature -> published value and tolerance for each of its aggregations."""

INTENSITY = {
    "mean": ((13.4, 1.1), (11.5, 1.1), (-49, 2.9), (-23.5, 3.9), (-22.6, 4.1)),
    "variance": ((1.42e4, 400), (1.44e4, 400), (5.06e4, 1400), (3.28e4, 2100), (3.51e4, 2200)),
    "skewness": ((-2.47, 0.05), (-2.49, 0.05), (-2.14, 0.05), (-2.28, 0.06), (-2.3, 0.07)),
    "excess_kurtosis": ((5.96, 0.24), (5.93, 0.24), (3.53, 0.23), (4.35, 0.32), (4.44, 0.33)),
    "median": ((46, 0.3), (45, 0.3), (40, 0.4), (42, 0.4), (43, 0.5)),
    "minimum": ((-500, 0), (-500, 0), (-939, 4), (-724, 12), (-743, 13)),
    "p10": ((-129, 8), (-136, 8), (-424, 14), (-304, 20), (-310, 21)),
    "p90": ((95, 0), (91, 0), (86, 0.1), (86, 0.1), (93, 0.2)),
    "maximum": ((377, 9), (391, 9), (393, 10), (521, 22), (345, 9)),
    "interquartile_range": ((56, 0.5), (52, 0.5), (67, 4.9), (57, 4.1), (62, 3.5)),
    "range": ((877, 9), (891, 9), (1330, 20), (1240, 40), (1090, 30)),
    "mean_absolute_deviation": ((73.6, 1.4), (74.4, 1.4), (158, 4), (123, 6), (125, 6)),
    "robust_mean_absolute_deviation": ((27.7, 0.8), (27.3, 0.8), (66.8, 3.5), (46.8, 3.6), (46.5, 3.7)),
    "median_absolute_deviation": ((64.3, 1), (63.8, 1), (119, 4), (94.7, 3.8), (97.9, 3.9)),
    "coefficient_of_variation": ((8.9, 4.98), (10.4, 5.2), (-4.59, 0.29), (-7.7, 1.01), (-8.28, 0.95)),
    "quartile_coefficient_of_dispersion": ((0.636, 0.008), (0.591, 0.008), (1.03, 0.4), (0.74, 0.011), (0.795, 0.337)),
    "energy": ((1.65e9, 2e7), (3.98e8, 1.1e7), (2.44e9, 1.2e8), (1.48e9, 1.4e8), (1.58e9, 1.4e8)),
    "root_mean_square": ((120, 2), (121, 2), (230, 4), (183, 7), (189, 7)),
    "entropy": ((3.36, 0.03), (3.16, 0.01), (3.73, 0.04), (2.94, 0.01), (3.22, 0.02)),
    "uniformity": ((0.15, 0.002), (0.174, 0.001), (0.14, 0.003), (0.229, 0.003), (0.184, 0.001)),
}
"""Statistic of HU, or of the histogram of gray levels -> published value and tolerance for A - E."""


class Row(NamedTuple):
    """A feature, what it is here, and what it should be."""

    feature: str
    value: float
    published: float
    tolerance: float

    @property
    def distance(self) -> float:
        """From the published value, in the digits that are published."""
        return abs(float(f"{self.value:.3g}") - self.published)

    @property
    def within(self) -> bool:
        """Whether the distance is within the tolerance."""
        return self.distance <= self.tolerance * (1 + 1e-9)


def main() -> int:
    """Prints a table for each configuration; 1 if a value is outside its tolerance."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", type=Path, metavar="DIR", help="DICOM of PAT1")
    series, mask = load(parser.parse_args().dir)
    print(f"{ROI}: {mask.sum()} voxels")
    outside = sum(compare(name, series, mask) for name in CONFIGURATIONS)
    print(f"{outside} values outside their tolerance")
    return int(outside > 0)


def load(folder: Path) -> tuple[Series, np.ndarray]:
    """The series of a folder and the mask of its tumour, (Z, H, W)."""
    (files,) = find_series(folder).series
    series = load_series(files)
    return series, read_masks(folder, series)[ROI]


def compare(name: str, series: Series, mask: np.ndarray) -> int:
    """Prints a configuration's table; how many of its values are outside."""
    hu, mask = prepare(CONFIGURATIONS[name], series, mask)
    rows = [Row(*row) for row in (*intensity(name, hu, mask), *texture(name, hu, mask))]
    outside, equal = sum(not row.within for row in rows), sum(row.distance == 0 for row in rows)
    print(f"\nConfiguration {name}, {mask.sum()} voxels: {len(rows) - outside} of {len(rows)} values within, {equal} equal")
    print("| feature | here | published | tolerance | |\n|---|---|---|---|---|")
    for row in rows:
        print("| {} | {:.5g} | {:.4g} | {:g} |".format(*row), "within |" if row.within else "**outside** |")
    return outside


def prepare(configuration: Configuration, series: Series, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """HU and mask after resampling and re-segmentation."""
    hu = series.volume.astype(np.float64)
    before = np.array([np.median(np.diff([i.location for i in series.instances])), *series.files.pixel_spacing])  # mm
    after = np.where(np.isnan(configuration.spacing), before, configuration.spacing)
    if (after != before).any():
        hu = np.round(resample(hu, before, after, configuration.order))
        mask = np.round(resample(mask.astype(np.float64), before, after, LINEAR), 6) >= 0.5  # rounding: 0.4999... is 0.5
    low, high = configuration.hu_range
    mask = mask & (hu >= low) & (hu <= high)
    return hu, mask & (np.abs(hu - hu[mask].mean()) <= configuration.sigmas * hu[mask].std())


def resample(volume: np.ndarray, before: np.ndarray, after: np.ndarray, order: int) -> np.ndarray:
    """A volume on voxels of another spacing, (3,) mm, by splines; both grids have one centre, borders go on as they are."""
    scale, shape = after / before, np.ceil(np.round(volume.shape * before / after, 6)).astype(int)
    first = (np.array(volume.shape) - 1 - scale * (shape - 1)) / 2  # where voxel 0 lies, in voxels of before
    return affine_transform(volume, scale, first, tuple(shape), order=order, mode="nearest")


def intensity(name: str, hu: np.ndarray, mask: np.ndarray) -> Iterator[tuple]:
    """Rows of the statistics of HU and of the histogram of gray levels."""
    levels, which = CONFIGURATIONS[name].to_levels(hu, mask)[mask], list(CONFIGURATIONS).index(name)
    found, codes = statistics(hu[mask][None]) | histogram_features(levels[None]), STATISTICS | HISTOGRAM
    for feature, published in INTENSITY.items():
        yield f"{feature} ({codes[feature]})", float(found[feature][0]), *published[which]


def texture(name: str, hu: np.ndarray, mask: np.ndarray) -> Iterator[tuple]:
    """Rows of the co-occurrence features, for each aggregation."""
    levels = CONFIGURATIONS[name].to_levels(hu, mask)
    for which, aggregation in enumerate(CONFIGURATIONS[name].aggregations):
        found = roi_features(levels, mask, aggregation).values
        for feature, published in TEXTURE[name].items():
            yield "{} ({}), {}".format(*IBSI[feature], aggregation), found[feature], *published[which]


if __name__ == "__main__":
    sys.exit(main())
