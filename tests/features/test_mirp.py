"""Texture by MIRP has the values published for IBSI's digital phantom, and joins the features of ROIs."""

import csv
import logging
import math
import sys
from functools import partial

import numpy as np
import pytest
from test_glcm_region import PHANTOM, SUFFIXES, as_published

from stan_ct.errors import NotComparable
from stan_ct.evaluation.measure.region_features import Measure, measure_rois
from stan_ct.evaluation.tables.regions import roi_tables
from stan_ct.features.glcm_region import AGGREGATIONS, fixed_bin_size
from stan_ct.features.mirp import FAMILIES, MERGING, UNDEFINED, mirp_features

ROI = PHANTOM > 0
FIRST = ("short_runs_emphasis", "small_zone_emphasis", "small_distance_emphasis", "coarseness", "low_dependence_emphasis")
PUBLISHED = {
    "2D averaged": (0.641, 0.363, 0.946, 0.121, 0.158),
    "2D slice-merged": (0.661, 0.363, 0.946, 0.121, 0.158),
    "2.5D direction-merged": (0.665, 0.368, 0.917, 0.0285, 0.159),
    "2.5D merged": (0.68, 0.368, 0.917, 0.0285, 0.159),
    "3D averaged": (0.705, 0.255, 1.0, 0.0296, 0.045),
    "3D merged": (0.729, 0.255, 1.0, 0.0296, 0.045),
}
BINS = {"25 HU": partial(fixed_bin_size, bin_width=25, low=0)}


@pytest.fixture
def mirp():
    """MIRP, or a skip."""
    return pytest.importorskip("mirp", reason="MIRP is not installed: pip install 'stan-ct[mirp]'")


def test_there_is_a_way_for_every_aggregation():
    """All six of IBSI's; 16 features of a family, 5 of differences."""
    assert list(MERGING) == list(AGGREGATIONS)
    assert [len(set(names.values())) for names in FAMILIES.values()] == [16, 16, 16, 5, 16]


@pytest.mark.parametrize("aggregation", PUBLISHED)
def test_digital_phantom_has_the_published_values(aggregation, mirp):
    """The first feature of each family, for each of IBSI's six ways of aggregating."""
    found = mirp_features(PHANTOM, ROI, ROI, aggregation)
    firsts = [as_published(found[family][name]) for family, name in zip(FAMILIES, FIRST, strict=True)]
    assert tuple(firsts) == PUBLISHED[aggregation]


def test_all_features_have_the_published_values(real_ct, mirp):
    """All 69, each under its own name, for each way of aggregating."""
    with (real_ct / "ibsi" / "ibsi_1_dig_phantom.csv").open() as file:
        published = {row["tag"]: row["reference value"] for row in csv.DictReader(file, delimiter=";")}
    for aggregation, suffix in SUFFIXES.items():
        found = mirp_features(PHANTOM, ROI, ROI, aggregation)
        for family, names in FAMILIES.items():
            way = suffix if family == "GLRLM" else suffix.rpartition("_")[0]
            for tag, name in names.items():
                assert as_published(found[family][name]) == float(published[f"{tag}_{way}"]), (aggregation, tag)


def test_distances_start_at_the_border_before_resegmentation(mirp):
    """A voxel in the middle of 5 x 5: 3 from the border, 2 if a column were not the ROI's; the rest is 1 from it."""
    levels, outline = np.ones((1, 5, 5), int), np.ones((1, 5, 5), bool)
    levels[0, 2, 2], mask = 2, outline.copy()
    mask[0, :, 0] = False
    assert mirp_features(levels, mask, outline, "2.5D merged")["GLDZM"]["large_distance_emphasis"] == (3**2 + 1) / 2
    assert mirp_features(levels, mask, mask, "2.5D merged")["GLDZM"]["large_distance_emphasis"] == (2**2 + 1) / 2


def test_only_the_roi_counts(mirp):
    """Levels outside the mask change nothing."""
    assert mirp_features(np.where(ROI, PHANTOM, 9), ROI, ROI) == mirp_features(PHANTOM, ROI, ROI)


def test_levels_start_at_1(mirp):
    """Emphases weigh levels by their number, so 0 is refused."""
    with pytest.raises(ValueError, match="gray levels >= 1, got 0"):
        mirp_features(PHANTOM - 1, ROI, ROI)


def test_it_keeps_quiet(capfd, mirp):
    """What MIRP tells of its steps is not printed, and logging is as it was."""
    root = logging.getLogger()
    before = (list(root.handlers), root.level, logging.root.manager.disable)
    mirp_features(PHANTOM, ROI, ROI)
    assert capfd.readouterr() == ("", "")
    assert (list(root.handlers), root.level, logging.root.manager.disable) == before


def test_rois_have_them_in_their_tables(mirp):
    """Three ROIs: values are those of the gray levels, each family has its tables, the target agrees with itself."""
    target, masks = np.random.default_rng(3).uniform(0, 300, (3, 9, 12)), {}
    for n in range(3):
        masks[f"roi {n}"] = np.zeros(target.shape, bool)
        masks[f"roi {n}"][:, 3 * n : 3 * n + 3, n : n + 8] = True
    images = {"source": target / 2, "twin": target, "target": target}
    rows = measure_rois(images, masks, BINS, ["2.5D merged"], (0, 200), mirp=True)
    mask = masks["roi 1"] & (target <= 200)
    expected = mirp_features(fixed_bin_size(np.where(mask, target, 0), mask, 25, 0), mask, masks["roi 1"], "2.5D merged")
    for family, features in expected.items():
        group = f"25 HU, {family}, 2.5D merged"
        assert {m.feature: x for m, x in rows.of("roi 1", "target").items() if m.group == group} == pytest.approx(features)
        (table,) = [t for t in roi_tables(rows) if t.title == f"ROIs, concordance, {group}"]
        assert table.columns == tuple(FAMILIES[family].values())
        assert [cell.mean for cell in table.rows["twin"]] == pytest.approx([1] * len(features))
        assert min(cell.mean for cell in table.rows["source"]) < 0.9


def test_what_is_undefined_says_why(mirp):
    """A voxel has no neighbourhood; an empty ROI has nothing. All else of a voxel is defined: one run, of length 1."""
    masks = {"voxel": np.zeros((2, 3, 4), bool), "empty": np.zeros((2, 3, 4), bool)}
    masks["voxel"][1, 1, 1] = True
    rows = measure_rois({"source": np.full((2, 3, 4), 30.0)}, masks, BINS, ["3D merged"], mirp=True)
    voxel, coarseness = rows.of("voxel", "source"), Measure("25 HU, NGTDM, 3D merged", "coarseness")
    assert voxel[Measure("25 HU, GLRLM, 3D merged", "short_runs_emphasis")] == 1
    assert (math.isnan(voxel[coarseness]), rows.notes["voxel", "source", coarseness]) == (True, UNDEFINED)
    assert rows.notes["empty", "source", coarseness] == "the mask has no voxel on the slices that are measured"
    assert all(map(math.isnan, rows.of("empty", "source").values()))


def test_without_the_package_it_says_how_to_install_it(monkeypatch):
    """The extra by its name, and ROIs are refused before any is measured."""
    monkeypatch.setitem(sys.modules, "mirp", None)
    with pytest.raises(NotComparable, match=r"need MIRP: pip install 'stan-ct\[mirp\]'"):
        mirp_features(PHANTOM, ROI, ROI)
    with pytest.raises(NotComparable, match=r"pip install 'stan-ct\[mirp\]'"):
        measure_rois({"source": PHANTOM}, {"a": ROI}, BINS, ["3D merged"], mirp=True)
