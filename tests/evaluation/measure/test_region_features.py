"""Features of ROIs are those of the cut volume, their tables those worked out by hand, and nothing is left out unsaid."""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from stan_ct.evaluation.measure.region_features import Loss, Measure, RoiRows, join, measure_rois
from stan_ct.evaluation.tables.regions import roi_tables, voxel_table
from stan_ct.features.first_order import STATISTICS, histogram_features, statistics
from stan_ct.features.glcm import ALL_FEATURES
from stan_ct.features.glcm_region import AGGREGATIONS, fixed_bin_number, fixed_bin_size, roi_features

BINS = {"25 HU": partial(fixed_bin_size, bin_width=25, low=0)}
TEXTURE, LEVELS = "25 HU, 2.5D merged", "first-order, 25 HU"
CONTRAST, MEAN = Measure(TEXTURE, "contrast"), Measure("first-order", "mean")


def strips(*rois, outside=-3000.0):
    """A volume (R + 1, 3, 6) with a ROI of some HU side by side in each slice but the first, and the masks of these ROIs."""
    volume, masks = np.full((len(rois) + 1, 3, 6), outside), {}
    for z, hu in enumerate(rois, 1):
        mask = np.zeros(volume.shape, bool)
        mask[z, 1, 1 : 1 + len(hu)] = True
        volume[mask], masks[f"roi {z}"] = hu, mask
    return volume, masks


def measured(source, target, **options):
    """Source and target of the same ROIs, in bins of 25 HU from 0 HU on."""
    (before, masks), (after, _) = strips(*source), strips(*target)
    return measure_rois({"source": before, "target": after}, masks, BINS, ["2.5D merged"], **options)


def cells(tables, title):
    """The cells of the one table of this title: row -> column -> cell."""
    (table,) = [t for t in tables if t.title == title]
    return {name: dict(zip(table.columns, row, strict=True)) for name, row in table.rows.items()}


def test_a_roi_worked_out_by_hand():
    """0, 25, 50, 50 HU are levels 1 2 3 3: pairs 1-2, 2-3, 3-3; the target's 0, 50, 50, 50 HU pairs 1-3, 3-3, 3-3."""
    rows = measured([[0, 25, 50, 50]], [[0, 50, 50, 50]])
    source, target = rows.of("roi 1", "source"), rows.of("roi 1", "target")
    assert (source[MEAN], target[MEAN]) == (31.25, 37.5)
    assert (source[CONTRAST], target[CONTRAST]) == pytest.approx((2 / 3, 4 / 3))
    assert source[Measure(LEVELS, "entropy")] == 1.5  # 2 * 0.25 * 2 bits + 0.5 * 1 bit
    assert source[Measure(LEVELS, "uniformity")] == 0.375
    assert (rows.voxels.tolist(), rows.drawn.tolist()) == ([4], [4])
    assert rows.notes == {}
    errors = cells(roi_tables(rows), f"ROIs, errors, {TEXTURE}")
    assert errors["source"]["contrast"].mean == pytest.approx(0.5)  # (4/3 - 2/3) / (4/3)
    assert cells(roi_tables(rows), "ROIs, errors, first-order")["source"]["mean"].mean == pytest.approx(1 / 6)
    values = cells(roi_tables(rows), "ROIs, values, first-order")
    assert [values[f"roi 1, {image}"]["mean"].mean for image in rows.images] == [31.25, 37.5]
    assert values["roi 1, source"]["voxels"].mean == 4


def test_mean_errors_over_rois():
    """Contrasts 2/3 and 4 (levels 1 3 1) against 4/3 and 2 (levels 1 3 3): errors 1/2 and 1, mean 3/4, SD 1/8 ** 1/2."""
    rows = measured([[0, 25, 50, 50], [0, 50, 0]], [[0, 50, 50, 50], [0, 50, 50]])
    assert rows.of("roi 2", "source")[CONTRAST] == 4
    contrast = cells(roi_tables(rows), f"ROIs, errors, {TEXTURE}")["source"]["contrast"]
    assert (contrast.mean, contrast.sd, contrast.n, contrast.undefined) == pytest.approx((0.75, 0.125**0.5, 2, 0))


def test_concordance_over_rois():
    """Means 1, 2, 3 HU against 2, 3, 4 HU: 2 * 2/3 / (2/3 + 2/3 + 1) = 4/7."""
    rows = measured([[1, 1], [2, 2], [3, 3]], [[2, 2], [3, 3], [4, 4]])
    found = cells(roi_tables(rows), "ROIs, concordance, first-order")["source"]
    assert found["mean"].mean == pytest.approx(4 / 7)
    assert found["variance"].reason == "the feature does not vary over the ROIs"
    assert math.isnan(found["variance"].mean)


def test_no_concordance_of_two_rois():
    """Two ROIs have no concordance, with the reason; their errors are there."""
    rows = measured([[1, 1], [2, 2]], [[2, 2], [3, 3]])
    found = cells(roi_tables(rows), "ROIs, concordance, first-order")["source"]["mean"]
    assert math.isnan(found.mean)
    assert (found.n, found.reason) == (2, "ROIs that have the feature: 2, 3 needed")
    assert cells(roi_tables(rows), "ROIs, errors, first-order")["source"]["mean"].mean == pytest.approx((1 / 2 + 1 / 3) / 2)


def test_concordance_leaves_out_a_roi_that_has_no_value_and_says_so():
    """Of four ROIs one has no HU in the range: the 4/7 of the other three, one counted as undefined, and why."""
    rows = measured([[1, 1], [2, 2], [9, 9], [3, 3]], [[2, 2], [3, 3], [-9, -9], [4, 4]], hu_range=(0, 100))
    found = cells(roi_tables(rows), "ROIs, concordance, first-order")["source"]["mean"]
    assert (found.mean, found.n, found.undefined) == pytest.approx((4 / 7, 3, 1))
    assert found.reason == "no voxel of the ROI lies in [0, 100] HU in every image"


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_features_are_those_of_the_volume(aggregation):
    """Ragged ROIs that overlap: what `roi_features` and `statistics` find in the whole volume, for two discretizations."""
    rng = np.random.default_rng(5)
    hu, masks = rng.uniform(0, 300, (4, 9, 8)), {"a": np.zeros((4, 9, 8), bool), "b": rng.random((4, 9, 8)) < 0.5}
    masks["a"][1:3, 2:7, 3:8] = rng.random((2, 5, 5)) < 0.8
    bins = {**BINS, "8 levels": partial(fixed_bin_number, n_levels=8)}
    rows = measure_rois({"source": hu}, masks, bins, [aggregation])
    for roi, mask in masks.items():
        expected = {Measure("first-order", f): x[0] for f, x in statistics(hu[mask][None]).items()}
        for name, levels in {"25 HU": fixed_bin_size(hu, mask, 25, 0), "8 levels": fixed_bin_number(hu, mask, 8)}.items():
            histogram = histogram_features(levels[mask][None])
            expected |= {Measure(f"first-order, {name}", f): x[0] for f, x in histogram.items()}
            texture = roi_features(levels, mask, aggregation).values
            expected |= {Measure(f"{name}, {aggregation}", f): texture[f] for f in ALL_FEATURES}
        assert rows.of(roi, "source") == expected
        assert len(expected) == len(STATISTICS) + 2 * (2 + len(ALL_FEATURES))
    assert rows.voxels.tolist() == [masks["a"].sum(), masks["b"].sum()]


def test_the_target_agrees_with_itself():
    """Errors are 0 and concordance is 1, wherever they are defined; the source's are not."""
    rng = np.random.default_rng(6)
    target, masks = rng.uniform(50, 300, (3, 12, 12)), {}
    for n in range(4):
        masks[f"roi {n}"] = np.zeros(target.shape, bool)
        masks[f"roi {n}"][:, 3 * n : 3 * n + 3, n : n + 6] = True
    images = {"source": np.round(target, -2) + 40, "twin": target.copy(), "target": target}
    tables = roi_tables(measure_rois(images, masks, BINS, ["3D merged", "2D averaged"]))
    assert len(tables) == 3 * 4
    for table in tables[:8]:
        expected = 0 if "errors" in table.title else 1
        assert [cell.mean for cell in table.rows["twin"]] == pytest.approx([expected] * len(table.columns), abs=1e-12)
        assert [cell.n for cell in table.rows["twin"]] == [4] * len(table.columns)
        assert any(abs(cell.mean - expected) > 0.05 for cell in table.rows["source"])
        assert list(table.rows) == ["source", "twin"]


def test_resegmentation_keeps_the_same_voxels_in_every_image():
    """In [0, 60] HU, 100 HU of the source, and 61 and -1 HU of the target, take their voxels out of both."""
    rows = measured([[0, 60, 100, 0, 50]], [[-1, 61, 60, 50, 60]], hu_range=(0, 60))
    assert (rows.voxels.tolist(), rows.drawn.tolist()) == ([2], [5])
    assert rows.of("roi 1", "source")[MEAN] == 25  # of 0 and 50
    assert rows.of("roi 1", "target")[MEAN] == 55  # of 50 and 60
    assert rows.of("roi 1", "source")[CONTRAST] == 4  # levels 1 and 3
    assert rows.of("roi 1", "target")[CONTRAST] == 0  # both level 3


def test_a_range_has_its_ends():
    """0 and 60 HU are in [0, 60] HU; what is a hair outside is not."""
    rows = measured([[0, 60, -1e-9, 60 + 1e-9]], [[30, 30, 30, 30]], hu_range=(0, 60))
    assert rows.voxels.tolist() == [2]


def test_a_roi_outside_the_range():
    """A ROI that re-segmentation empties has no measure, says so, and is counted in every table."""
    rows = measured([[10, 20], [30, 60]], [[-50, -60], [30, 60]], hu_range=(0, 300))
    assert rows.voxels.tolist() == [0, 2]
    for name in ("source", "target"):
        notes = {note for (roi, image, _), note in rows.notes.items() if (roi, image) == ("roi 1", name)}
        assert notes == {"no voxel of the ROI lies in [0, 300] HU in every image"}
        assert all(map(math.isnan, rows.of("roi 1", name).values()))
    mean = cells(roi_tables(rows), "ROIs, errors, first-order")["source"]["mean"]
    assert (mean.mean, mean.n, mean.undefined) == (0, 1, 1)
    assert mean.reason == "no voxel of the ROI lies in [0, 300] HU in every image"


def test_where_voxels_went():
    """Of 9 voxels 4 were on missing slices, 2 outside the range; 3 are measured; the note says why and where."""
    rows = measured([[0, 25, 50, 100, -5], [1, 2]], [[0, 25, 50, 60, 50], [1, 2]], hu_range=(0, 60))
    lost = {"roi 1": (Loss(-4.0, 1, "source has no slice"), Loss(6.5, 2, "b has no slice"), Loss(8, 1, "b has no slice"))}
    table = voxel_table(replace(rows, drawn=np.add(rows.drawn, [4, 0]), lost=lost))
    assert table.columns == ("drawn", "on missing slices", "outside the HU range", "measured")
    assert {roi: [cell.mean for cell in row] for roi, row in table.rows.items()} == {
        "roi 1": [9, 4, 2, 3],
        "roi 2": [2, 0, 0, 2],
    }
    why = "source has no slice at -4 mm (1 voxel); b has no slice at 6.5, 8 mm (3 voxels)"
    assert table.notes == (f"roi 1: 4 of 9 voxels are measured in no image: {why}",)


def test_hu_below_the_levels():
    """HU that a discretization does not take leave the texture undefined, with its words, and the statistics as they are."""
    rows = measured([[-10, 20], [30, 60]], [[10, 20], [30, 60]])
    source = rows.of("roi 1", "source")
    assert (source[MEAN], math.isnan(source[CONTRAST]), math.isnan(source[Measure(LEVELS, "entropy")])) == (5, True, True)
    said = rows.notes["roi 1", "source", CONTRAST]
    assert said == "1 voxels of the ROI are below 0 HU: exclude them from the mask, or lower `low`"
    contrast = cells(roi_tables(rows), f"ROIs, errors, {TEXTURE}")["source"]["contrast"]
    assert (contrast.n, contrast.undefined, contrast.reason) == (1, 1, said)


def test_an_empty_roi_is_reported():
    """A segment without pixels has its line in the values, and its reason."""
    volume, masks = strips([10, 20], [30, 60])
    masks["roi 2"][:] = False
    rows = measure_rois({"source": volume}, masks, BINS, ["3D merged"])
    tables = roi_tables(rows)
    assert [t.title for t in tables] == [f"ROIs, values, {g}" for g in ("first-order", LEVELS, "25 HU, 3D merged")]
    mean = cells(tables, "ROIs, values, first-order")["roi 2, source"]["mean"]
    assert (math.isnan(mean.mean), mean.reason) == (True, "the mask has no voxel on the slices that are measured")
    assert rows.of("roi 1", "source")[MEAN] == 15


def test_a_feature_of_the_target_that_is_zero():
    """Eq. 8 divides by the target's feature: a flat target has none, and says so; nor has its correlation a value."""
    rows = measured([[0, 50], [0, 50]], [[30, 30], [0, 25]])
    texture = cells(roi_tables(rows), f"ROIs, errors, {TEXTURE}")["source"]
    assert (texture["contrast"].mean, texture["contrast"].undefined) == (3, 1)  # (4 - 1) / 1
    assert texture["contrast"].reason == "the target's feature is 0"
    assert texture["correlation"].reason == "all neighbours in the ROI have one gray level, so their standard deviation is 0"


def test_statistics_without_a_value():
    """A mean of 0 HU has no coefficient of variation; two voxels have no robust deviation. Both say why."""
    rows = measured([[-10, 10]], [[10, 20]])
    notes = {m.feature: note for (_, image, m), note in rows.notes.items() if (image, m.group) == ("source", "first-order")}
    assert notes == {
        "coefficient_of_variation": "the mean is 0 HU",
        "quartile_coefficient_of_dispersion": "the quartiles add up to 0 HU",
        "robust_mean_absolute_deviation": "no voxel lies between the 10th and the 90th percentile",
    }


def test_rois_of_two_patients():
    """Joined, ROIs have their patient's name; numbers and notes stay with them. Means: 1, 0, 3 against 2, 3, 4 HU."""
    first, second = measured([[1, 1, 1]], [[2, 2, 2]]), measured([[-2, 2], [3, 3]], [[3, 3], [4, 4]])
    both = join({"P1": first, "P2": second}, {"P1": "a", "P2": "b"})
    assert both.patients == ("a", "b", "b")
    assert both.rois == ("P1, roi 1", "P2, roi 1", "P2, roi 2")
    assert both.column("source", MEAN).tolist() == [1, 0, 3]
    assert (both.voxels.tolist(), both.drawn.tolist()) == ([3, 2, 2], [3, 2, 2])
    assert both.notes["P2, roi 1", "source", Measure("first-order", "coefficient_of_variation")] == "the mean is 0 HU"
    found = cells(roi_tables(both), "ROIs, concordance, first-order")["source"]["mean"]
    assert found.mean == pytest.approx(4 / 15)  # 2 * 2/3 / (14/9 + 2/3 + (4/3 - 3)**2)
    with pytest.raises(ValueError, match="expected the same images"):
        join({"P1": first, "P2": measure_rois({"source": np.ones((1, 2, 2))}, {"a": np.ones((1, 2, 2), bool)}, {}, [])}, {})


def test_intervals_go_by_patients():
    """Errors of the mean: 1/2 of the one patient, 0 and 1/4 of the other; two draws of one patient give 1/2 and 1/8."""
    first, second = measured([[1, 1]], [[2, 2]]), measured([[3, 3], [5, 5]], [[3, 3], [4, 4]])
    both = join({"s1": first, "s2": second}, {"s1": "a", "s2": "b"})
    (table, *_) = roi_tables(both, resamples=2000)
    mean = table.rows["source"][table.columns.index("mean")]
    assert (mean.mean, mean.low, mean.high) == pytest.approx((0.25, 0.125, 0.5))
    assert "95 % confidence interval of the mean over 2 patients" in table.caption
    assert table.notes == ()
    other = table.rows["source"][table.columns.index("variance")]  # of flat ROIs
    assert (math.isnan(other.low), other.reason) == (
        True,
        "the target's feature is 0; patients with a defined value: 0, 2 needed",
    )


def test_one_patient_has_no_intervals_of_rois():
    """Two series of a patient are one patient's: the mean stands alone, and a note says why."""
    first, second = measured([[1, 1]], [[2, 2]]), measured([[3, 3], [5, 5]], [[3, 3], [4, 4]])
    for rows in (second, join({"s1": first, "s2": second}, {"s1": "a", "s2": "a"})):
        (table, *_) = roi_tables(rows)
        assert table.rows["source"][table.columns.index("mean")].low is None
        assert table.notes == ("All ROIs are of one patient, so there are no confidence intervals.",)
        assert "interval" not in table.caption
    with pytest.raises(ValueError, match="expected a patient for each of 2 ROIs, got 1"):
        replace(second, patients=("a",))


HU, MASK = np.ones((2, 3, 4)), np.ones((2, 3, 4), bool)


@pytest.mark.parametrize(
    ("images", "masks", "aggregations", "message"),
    [
        (
            {"source": HU},
            {"a": MASK[1:]},
            ["3D merged"],
            r"one shape \(Z, H, W\), got {'source': \(2, 3, 4\), 'a': \(1, 3, 4\)}",
        ),
        ({"source": HU}, {"a": MASK.astype(int)}, ["3D merged"], r"masks \(bool\)"),
        ({"source": HU}, {}, ["3D merged"], "expected images and masks"),
        ({"source": HU}, {"a": MASK}, ["3D"], r"expected aggregations of 2D averaged, .* got \['3D'\]"),
        ({"source": HU * np.nan}, {"a": MASK}, ["3D merged"], "24 values are not finite"),
    ],
)
def test_what_cannot_be_measured_is_refused(images, masks, aggregations, message):
    """The message has what was expected and what came."""
    with pytest.raises(ValueError, match=message):
        measure_rois(images, masks, BINS, aggregations, hu_range=(-100, 100))


def test_nothing_is_undefined_without_a_reason():
    """Rows with a NaN and no note, or two ROIs of one name, cannot be made."""
    one = (MEAN,)
    with pytest.raises(ValueError, match="say why"):
        RoiRows(("a",), ("source",), one, np.full((1, 1, 1), np.nan), np.ones(1), np.ones(1), {})
    with pytest.raises(ValueError, match="different names, got a, a"):
        RoiRows(("a", "a"), ("source",), one, np.ones((2, 1, 1)), np.ones(2), np.ones(2), {})
