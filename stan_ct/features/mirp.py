"""Texture of a region of interest (ROI) beyond co-occurrence, by MIRP; needs the extra `stan-ct[mirp]`.

Runs, zones and neighbourhoods of gray levels, with the names and definitions of the Image Biomarker Standardisation Initiative
(IBSI). MIRP is under the EUPL-1.2, a copyleft licence, so nothing else brings it along.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from stan_ct.errors import NotComparable

FAMILIES = {
    "GLRLM": {
        "rlm_sre": "short_runs_emphasis",
        "rlm_lre": "long_runs_emphasis",
        "rlm_lgre": "low_grey_level_run_emphasis",
        "rlm_hgre": "high_grey_level_run_emphasis",
        "rlm_srlge": "short_run_low_grey_level_emphasis",
        "rlm_srhge": "short_run_high_grey_level_emphasis",
        "rlm_lrlge": "long_run_low_grey_level_emphasis",
        "rlm_lrhge": "long_run_high_grey_level_emphasis",
        "rlm_glnu": "grey_level_non_uniformity",
        "rlm_glnu_norm": "normalised_grey_level_non_uniformity",
        "rlm_rlnu": "run_length_non_uniformity",
        "rlm_rlnu_norm": "normalised_run_length_non_uniformity",
        "rlm_r_perc": "run_percentage",
        "rlm_gl_var": "grey_level_variance",
        "rlm_rl_var": "run_length_variance",
        "rlm_rl_entr": "run_entropy",
    },
    "GLSZM": {
        "szm_sze": "small_zone_emphasis",
        "szm_lze": "large_zone_emphasis",
        "szm_lgze": "low_grey_level_zone_emphasis",
        "szm_hgze": "high_grey_level_zone_emphasis",
        "szm_szlge": "small_zone_low_grey_level_emphasis",
        "szm_szhge": "small_zone_high_grey_level_emphasis",
        "szm_lzlge": "large_zone_low_grey_level_emphasis",
        "szm_lzhge": "large_zone_high_grey_level_emphasis",
        "szm_glnu": "grey_level_non_uniformity",
        "szm_glnu_norm": "normalised_grey_level_non_uniformity",
        "szm_zsnu": "zone_size_non_uniformity",
        "szm_zsnu_norm": "normalised_zone_size_non_uniformity",
        "szm_z_perc": "zone_percentage",
        "szm_gl_var": "grey_level_variance",
        "szm_zs_var": "zone_size_variance",
        "szm_zs_entr": "zone_size_entropy",
    },
    "GLDZM": {
        "dzm_sde": "small_distance_emphasis",
        "dzm_lde": "large_distance_emphasis",
        "dzm_lgze": "low_grey_level_zone_emphasis",
        "dzm_hgze": "high_grey_level_zone_emphasis",
        "dzm_sdlge": "small_distance_low_grey_level_emphasis",
        "dzm_sdhge": "small_distance_high_grey_level_emphasis",
        "dzm_ldlge": "large_distance_low_grey_level_emphasis",
        "dzm_ldhge": "large_distance_high_grey_level_emphasis",
        "dzm_glnu": "grey_level_non_uniformity",
        "dzm_glnu_norm": "normalised_grey_level_non_uniformity",
        "dzm_zdnu": "zone_distance_non_uniformity",
        "dzm_zdnu_norm": "normalised_zone_distance_non_uniformity",
        "dzm_z_perc": "zone_percentage",
        "dzm_gl_var": "grey_level_variance",
        "dzm_zd_var": "zone_distance_variance",
        "dzm_zd_entr": "zone_distance_entropy",
    },
    "NGTDM": {
        "ngt_coarseness": "coarseness",
        "ngt_contrast": "contrast",
        "ngt_busyness": "busyness",
        "ngt_complexity": "complexity",
        "ngt_strength": "strength",
    },
    "NGLDM": {
        "ngl_lde": "low_dependence_emphasis",
        "ngl_hde": "high_dependence_emphasis",
        "ngl_lgce": "low_grey_level_count_emphasis",
        "ngl_hgce": "high_grey_level_count_emphasis",
        "ngl_ldlge": "low_dependence_low_grey_level_emphasis",
        "ngl_ldhge": "low_dependence_high_grey_level_emphasis",
        "ngl_hdlge": "high_dependence_low_grey_level_emphasis",
        "ngl_hdhge": "high_dependence_high_grey_level_emphasis",
        "ngl_glnu": "grey_level_non_uniformity",
        "ngl_glnu_norm": "normalised_grey_level_non_uniformity",
        "ngl_dcnu": "dependence_count_non_uniformity",
        "ngl_dcnu_norm": "normalised_dependence_count_non_uniformity",
        "ngl_gl_var": "grey_level_variance",
        "ngl_dc_var": "dependence_count_variance",
        "ngl_dc_entr": "dependence_count_entropy",
        "ngl_dc_energy": "dependence_count_energy",
    },
}
"""Family -> MIRP's tag -> IBSI's name.

The families count runs by length, zones by size, zones by distance from the border of the ROI, differences from the
neighbourhood, and neighbours of equal level (without their percentage, which is always 1)."""

MERGING = {
    "2D averaged": ("2d_average", "2d"),
    "2D slice-merged": ("2d_slice_merge", "2d"),
    "2.5D direction-merged": ("2.5d_direction_merge", "2.5d"),
    "2.5D merged": ("2.5d_volume_merge", "2.5d"),
    "3D averaged": ("3d_average", "3d"),
    "3D merged": ("3d_volume_merge", "3d"),
}
"""Key of :data:`~stan_ct.features.glcm_region.AGGREGATIONS` -> MIRP's aggregation of runs, which have directions, and of the
other families."""

UNDEFINED = "no voxel of the ROI has a neighbour in it"
"""Why neighbourhood differences are undefined."""


def mirp_features(
    levels: np.ndarray, mask: np.ndarray, outline: np.ndarray, aggregation: str = "3D merged"
) -> dict[str, dict[str, float]]:
    """Texture of a ROI beyond co-occurrence: all of `FAMILIES`.

    Args:
        levels: Gray levels, (Z, H, W) integer, >= 1 in the ROI, from :func:`~stan_ct.features.glcm_region.fixed_bin_size` or
            :func:`~stan_ct.features.glcm_region.fixed_bin_number`.
        mask: Voxels that count, (Z, H, W) bool, at least one.
        outline: ROI before re-segmentation, (Z, H, W) bool: distances are measured from its border.
        aggregation: Key of `MERGING`.
    Returns:
        Family -> feature -> value; neighbourhood differences of a ROI without neighbours are NaN.
    Raises:
        NotComparable: If MIRP is not installed.
        ValueError: If a level is below 1.
    """
    extract, (runs, zones) = load_mirp(), MERGING[aggregation]
    if levels[mask].min() < 1:
        raise ValueError(f"expected gray levels >= 1, got {levels[mask].min()}")
    with _quiet():
        (found,) = extract(
            image=np.where(mask, levels, 0).astype(np.float64),
            mask=outline.astype(np.uint8),
            resegmentation_intensity_range=[1.0, np.inf],  # leaves `mask`
            by_slice=zones != "3d",
            base_feature_families=[family.lower() for family in FAMILIES],
            base_discretisation_method="none",
            glrlm_spatial_method=runs,
            **{f"{family}_spatial_method": zones for family in ("glszm", "gldzm", "ngtdm", "ngldm")},
        )
    values = {re.sub(r"(_d1_a0\.0)?_[23](\.5)?d.*", "", column): found[column].item() for column in found.columns}
    return {family: {name: float(values[tag]) for tag, name in names.items()} for family, names in FAMILIES.items()}


def load_mirp() -> Callable:
    """Imports MIRP's `extract_features`.

    Raises:
        NotComparable: If MIRP is not installed.
    """
    try:
        from mirp import extract_features
    except ImportError as error:
        raise NotComparable("features beyond co-occurrence need MIRP: pip install 'stan-ct[mirp]'") from error
    return extract_features


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences MIRP, which logs its steps through a handler that it would leave on the root logger."""
    root, silent, level = logging.getLogger(), logging.NullHandler(), logging.root.manager.disable
    root.addHandler(silent)
    logging.disable(logging.INFO)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(level)
        root.removeHandler(silent)
