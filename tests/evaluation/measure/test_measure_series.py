"""Directories of DICOM -> the same patches of every image, measured."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stan_ct.errors import NotComparable
from stan_ct.evaluation.measure.measurement import MEASURES, PLACES
from stan_ct.evaluation.measure.series import SeriesSettings, measure_series, patch_grid
from stan_ct.evaluation.statistics.agreement import concordance
from stan_ct.features.errors import relative_error

NOWHERE = Path("nowhere")
CONTRAST = MEASURES.index("contrast")


def settings(**changes):
    return SeriesSettings(NOWHERE, {"made": NOWHERE}, NOWHERE, **changes)


def corners(shape, **changes):
    return [(rows.start, columns.start) for rows, columns in patch_grid(shape, settings(**changes))]


def texture(seed, amplitude=100, slices=3, shape=(32, 40)):
    return np.random.default_rng(seed).normal(0, amplitude, (slices, *shape)).round().clip(-900, 800)


SOURCE, TARGET, OTHER = texture(1, 30), texture(2, 100), texture(3, 60)


@pytest.fixture
def series(tmp_path, write_series):
    """Source, two synthesized series, of which the second is equal to the target, and the target."""
    for number, (name, hu) in enumerate({"source": SOURCE, "other": OTHER, "equal": TARGET, "target": TARGET}.items(), 1):
        marked = {"DerivationDescription": "STAN-CT 1.0"} if name in ("other", "equal") else {}
        write_series(tmp_path / name, hu, series=number, **marked)
    made = {name: tmp_path / name for name in ("other", "equal")}
    return SeriesSettings(tmp_path / "source", made, tmp_path / "target", patch_size=16, stride=8)


def test_paper_size_gives_nine_patches():
    """512 x 512 pixels hold 3 x 3 patches of 256 pixels at half a side's distance."""
    assert corners((512, 512)) == [(r, c) for r in (0, 128, 256) for c in (0, 128, 256)]


def test_last_patches_are_moved_back_to_the_border():
    """No pixel is left out where the stride does not divide the slice."""
    assert corners((10, 8), patch_size=4, stride=4) == [(r, c) for r in (0, 4, 6) for c in (0, 4)]


@pytest.mark.parametrize("shape", [(20, 30), (256, 256), (20, 256)])
def test_small_slice_is_one_patch(shape):
    """A slice not larger than a patch is one patch of its own size."""
    ((rows, columns),) = patch_grid(shape, settings())
    assert (rows, columns) == (slice(0, shape[0]), slice(0, shape[1]))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("patch_size", 1, "patch size must be >= 2 pixels, not 1"),
        ("stride", 0, "stride must be 1 to 256 pixels, the patch size, not 0"),
        ("stride", 257, "stride must be 1 to 256 pixels, the patch size, not 257"),
        ("min_soft_tissue", 1.1, "soft tissue must be in .*, not 1.1"),
        ("min_soft_tissue", float("nan"), "soft tissue must be in .*, not nan"),
        ("synthesized", {"target": NOWHERE}, "source and target are names of other images"),
    ],
)
def test_senseless_settings_are_refused(name, value, message):
    """A setting out of its range is refused with what was expected and what came."""
    with pytest.raises(ValueError, match=message):
        replace(settings(), **{name: value})


def test_every_image_is_measured_in_the_same_patches(series):
    """Rows come in the order source, synthesized, target; what equals the target measures the same, bit for bit."""
    measured = measure_series(series)
    assert list(measured.rows) == ["source", "other", "equal", "target"]
    assert (measured.num_patches, measured.slices, measured.excluded) == (3 * 3 * 4, 3, {})
    assert all(row.features.shape == (36, len(MEASURES)) for row in measured.rows.values())
    np.testing.assert_array_equal(measured.rows["equal"].features, measured.rows["target"].features)
    mean, first = MEASURES.index("first-order mean"), 4 * 1 + 2  # window of slice 0 at row 8, column 16
    assert measured.rows["other"].features[first, mean] == pytest.approx(OTHER[0, 8:24, 16:32].mean(), rel=1e-12)


def test_the_target_against_itself(series):
    """Errors (Eq. 8) 0, concordance 1 and no difference in HU: of the target as its own output, in exact numbers."""
    rows = measure_series(replace(series, synthesized={"itself": series.target_dir})).rows
    assert (relative_error(rows["itself"].features[:, :5], rows["target"].features[:, :5]) == 0).all()
    np.testing.assert_array_equal(rows["itself"].features, rows["target"].features)
    assert (concordance(rows["itself"].features[:, :8], rows["target"].features[:, :8]) == 1).all()
    assert (rows["itself"].hu[..., 1:] == 0).all()
    assert (rows["itself"].hu[:, 0, 0] == 32 * 40).all()


def test_source_and_target_change_places(series):
    """Swapped, each has the features of the other, and every difference in HU of the source changes its sign."""
    there = measure_series(replace(series, synthesized={}))
    back = measure_series(replace(series, source_dir=series.target_dir, target_dir=series.source_dir, synthesized={}))
    np.testing.assert_array_equal(there.rows["source"].features, back.rows["target"].features)
    np.testing.assert_array_equal(there.rows["target"].features, back.rows["source"].features)
    everywhere = PLACES.index("soft-tissue range")
    np.testing.assert_allclose(there.rows["source"].hu[:, everywhere], back.rows["source"].hu[:, everywhere] * [1, -1, 1, 1])
    assert there.rows["source"].hu[0, everywhere, 1] == pytest.approx((SOURCE[0] - TARGET[0]).sum(), rel=1e-9)


def test_without_a_target(series):
    """Source and synthesized are measured as with one, and nothing is known of differences to it."""
    alone = measure_series(replace(series, target_dir=None))
    assert list(alone.rows) == ["source", "other", "equal"]
    np.testing.assert_array_equal(alone.rows["other"].features, measure_series(series).rows["other"].features)
    assert np.isnan(alone.rows["other"].hu).all()
    assert alone.quality == {}


def test_quality_is_measured_in_every_slice(series):
    """Of each image and slice; what equals the target has its SSIM of 1 and its noise, and an infinite PSNR."""
    quality = measure_series(series).quality
    assert {name: len(slices) for name, slices in quality.items()} == dict.fromkeys(("source", "other", "equal", "target"), 3)
    for z, (other, equal, target) in enumerate(zip(*(quality[name] for name in ("other", "equal", "target")), strict=True)):
        assert other.psnr == pytest.approx(20 * np.log10(1900 / np.sqrt(np.square(OTHER[z] - TARGET[z]).mean())))
        assert (equal.psnr, equal.ssim, equal.regions) == (np.inf, pytest.approx(1), 1)
        assert equal.noise.variance == target.noise.variance > 1.5 * other.noise.variance


def test_padding_has_no_quality(tmp_path, write_series):
    """What is padding in the source or in the target is not compared, and is no lung."""
    rng = np.random.default_rng(0)
    source, target = (rng.normal(0, 20, (1, 40, 48)).round() for _ in range(2))
    source[0, 2:38, 2:12] = -1024  # padding; so here
    target[0, 2:38, 24:34] = -1024
    made = np.where((source == -1024) | (target == -1024), 500, target)
    for number, (name, hu) in enumerate({"s": source, "m": made, "t": target}.items(), 1):
        write_series(tmp_path / name, hu, series=number, PixelPaddingValue=0, PixelSpacing=[2.0, 2.0])
    measured = measure_series(SeriesSettings(tmp_path / "s", {"m": tmp_path / "m"}, tmp_path / "t", min_soft_tissue=0.5))
    (quality,) = measured.quality["m"]
    assert (quality.psnr, quality.lung, quality.regions) == (np.inf, 0, 0)


def test_two_processes_find_what_one_finds(series):
    """The numbers do not depend on how many processes measure."""
    one, two = measure_series(series), measure_series(series, workers=2)
    for name, row in one.rows.items():
        np.testing.assert_array_equal(row.features, two.rows[name].features)
        np.testing.assert_array_equal(row.hu, two.rows[name].hu)
    np.testing.assert_array_equal(one.patients, two.patients)


def test_patches_belong_to_their_patients(tmp_path, write_series):
    """Two patients, named by their Patient ID in whatever study, are 1 and 2; theirs are the patches of their slices."""
    for folder, hu in (("a", SOURCE), ("b", TARGET)):
        write_series(tmp_path / folder / "x", hu[:2], series=1, PatientID="Zoe")
        write_series(tmp_path / folder / "y", hu[2:], series=1, study="1.2.826.0.1.3680043.8.498.2", PatientID="Ann")
    measured = measure_series(SeriesSettings(tmp_path / "a", {}, tmp_path / "b"))
    assert measured.patients.tolist() == [2, 2, 1]


def test_missing_partners_are_counted(series):
    """Slices without a partner, and files that cannot be read, are left out and counted by what is missing."""
    (series.synthesized["other"] / "2-0.dcm").unlink()
    path = series.target_dir / "4-1.dcm"
    path.write_bytes(path.read_bytes()[:-100])
    measured = measure_series(replace(series, patch_size=256, stride=128))
    assert measured.slices == 1
    assert measured.excluded == {
        "target files refused: truncated": 1,
        "source slices without other in their place": 1,
        "source slices without target in their place": 1,
    }


def test_patches_need_soft_tissue_of_the_source(tmp_path, write_series):
    """A patch counts when 70 % of its source pixels are soft tissue, whatever the others hold there."""
    air = SOURCE.copy()
    air[:, :10], air[0, 9, :16] = -1010, 0  # rows 0..9 of 32 are air: 68.75 % soft tissue, in slice 0 above 70 %
    write_series(tmp_path / "a", air)
    write_series(tmp_path / "b", np.full_like(air, -1020) + 10 * (SOURCE > 0), series=2)
    given = SeriesSettings(tmp_path / "a", {"b": tmp_path / "b"}, tmp_path / "b")
    measured = measure_series(given)
    assert measured.num_patches == 1
    assert measured.excluded == {
        "patches with too little soft tissue": 2,
        "slices without any patch of enough soft tissue": 2,
    }
    with pytest.raises(NotComparable, match="none of 3 slices has a patch of which 90% is soft tissue"):
        measure_series(replace(given, min_soft_tissue=0.9))


def test_differences_are_those_of_the_sources_soft_tissue(tmp_path, write_series):
    """Bone and air of the source do not count, and neither does the target's padding."""
    source, target = np.zeros((1, 10, 10)), np.full((1, 10, 10), 3.0)
    source[0, 0], target[0, 0] = 1500, 0  # bone
    target[0, 1, :5] = 7.0
    target[0, 2] = -1024  # padding
    write_series(tmp_path / "a", source)
    write_series(tmp_path / "b", target, series=2, PixelPaddingValue=0)
    rows = measure_series(SeriesSettings(tmp_path / "a", {"b": tmp_path / "b"}, tmp_path / "b")).rows
    pixels, difference, magnitude, square = rows["source"].hu[0, PLACES.index("soft-tissue range")]
    assert (pixels, difference, magnitude) == (80, pytest.approx(-(75 * 3 + 5 * 7)), pytest.approx(75 * 3 + 5 * 7))
    assert square == pytest.approx(75 * 9 + 5 * 49, rel=1e-12)
    assert rows["b"].hu[0, 0].tolist() == [80, 0, 0, 0]


@pytest.mark.parametrize(("maker", "simulated"), [("STAN-CT simulator", True), ("Philips", False)])
def test_simulated_series_say_so(tmp_path, write_series, maker, simulated):
    """Series that our simulator made are known by their Manufacturer, whatever the user says of them."""
    hu = np.random.default_rng(0).normal(0, 50, (2, 20, 20)).round()
    for number, name in enumerate(("a", "b", "c"), 1):
        write_series(tmp_path / name, hu, series=number, Manufacturer=maker)
    assert measure_series(SeriesSettings(tmp_path / "a", {"b": tmp_path / "b"}, tmp_path / "c")).simulated is simulated
