"""Image quality of images whose noise, lung and distance to the target are known."""

import math

import numpy as np
import pytest
from scipy import ndimage

from stan_ct.ct.noise import NoisePower
from stan_ct.evaluation.measure.image_quality import Quality, measure_quality
from stan_ct.evaluation.tables import image_quality as quality_rows
from stan_ct.evaluation.tables.image_quality import COLUMNS, quality_table

RNG = np.random.default_rng
SPACING = (0.8, 0.8)
PSNR, SSIM, LAA, SD, FREQUENCY, NPS = COLUMNS


def noisy(sd, seed, level=50.0, side=96):
    """Uniform tissue with white noise, HU."""
    return level + RNG(seed).normal(0, sd, (side, side))


def measured(slices, spacing=SPACING, padding=None):
    """name -> images of the slices, as {name: [HU, ...]} -> what `quality_table` takes."""
    found = []
    for images in zip(*slices.values(), strict=True):
        where = np.zeros(images[0].shape, bool) if padding is None else padding
        found.append(measure_quality(dict(zip(slices, images, strict=True)), where, spacing))
    return {name: tuple(of[name] for of in found) for name in slices}


def cells(rows):
    """row -> column -> cell."""
    table = quality_table("Q", rows)
    return {name: dict(zip(table.columns, row, strict=True)) for name, row in table.rows.items()}


def test_an_image_that_equals_the_target():
    """SSIM 1, infinite PSNR, no error of the noise's spectrum; the target's own row says the same, and neither a footnote."""
    target = [noisy(10, 1), noisy(10, 2)]
    rows = measured({"source": [noisy(10, 3), noisy(10, 4)], "twin": target, "target": target})
    found = cells(rows)
    for name in ("twin", "target"):
        numbers = [found[name][column].mean for column in (PSNR, SSIM, NPS)]
        assert numbers == [math.inf, pytest.approx(1), 0]
        assert [found[name][column].reason for column in (PSNR, SSIM, SD, FREQUENCY, NPS)] == [""] * 5
    assert found["source"][SSIM].mean < 0.99
    assert found["source"][NPS].mean > 0
    table = quality_table("Q", rows)
    assert table.reference == {"source", "target"}
    assert table.printed(found["twin"][PSNR].mean, PSNR) == "\N{INFINITY}"


def test_psnr_by_hand():
    """19 HU of 1900 are 40 dB, 190 HU 20 dB: mean 30 and standard deviation 200 ** 1/2 over slices."""
    target = [noisy(5, 1), noisy(5, 2)]
    rows = {"source": [target[0] + 19, target[1] - 190], "target": target}
    psnr = cells(measured(rows))["source"][PSNR]
    assert (psnr.mean, psnr.sd, psnr.n) == (pytest.approx(30), pytest.approx(200**0.5), 2)


def test_one_slice_that_equals_the_target_does_not_make_the_mean_infinite():
    """It is counted, with the reason, and the mean is of the others."""
    target = [noisy(5, 1), noisy(5, 2), noisy(5, 3)]
    rows = {"source": [target[0], target[1] + 19, target[2] + 19], "target": target}
    psnr = cells(measured(rows))["source"][PSNR]
    assert (psnr.mean, psnr.n, psnr.undefined, psnr.reason) == (pytest.approx(40), 2, 1, quality_rows.EQUAL)


def test_known_noise_has_its_standard_deviation_and_frequency():
    """White noise of 20 HU; its mean frequency is that of the frequency plane's square, .3826 of 2 Nyquist, up to the trend."""
    target, source = ([noisy(sd, seed) for seed in range(6)] for sd in (20, 5))
    found = cells(measured({"source": source, "target": target}))
    assert found["target"][SD].mean == pytest.approx(20, rel=0.03)
    assert found["source"][SD].mean == pytest.approx(5, rel=0.03)
    assert found["target"][FREQUENCY].mean == pytest.approx(0.3826 * 10 / 0.8, rel=0.03)
    coarse = [50 + 3 * (ndimage.gaussian_filter(image, 1) - 50) for image in target]
    assert cells(measured({"source": coarse, "target": target}))["source"][FREQUENCY].mean < 2.5


@pytest.mark.parametrize(("factor", "error"), [(0.5, 0.75), (1.5, 1.25), (1.0, 0.0)])
def test_error_of_the_noise_s_spectrum_by_hand(factor, error):
    """Noise that is halved has a quarter of the power everywhere: 3/4 of the target's are missing."""
    target = [noisy(20, 1), noisy(20, 2)]
    source = [50 + factor * (image - 50) for image in target]
    assert cells(measured({"source": source, "target": target}))["source"][NPS].mean == pytest.approx(error, abs=1e-12)


def test_power_at_other_frequencies_is_an_error_though_the_variance_is_right():
    """Coarse noise of the target's standard deviation is not the target's noise."""
    target = [noisy(20, 1), noisy(20, 2)]
    source = [ndimage.gaussian_filter(noisy(20, seed, 0.0), 0.8) for seed in (3, 4)]
    source = [50 + image * 20 / image.std() for image in source]
    found = cells(measured({"source": source, "target": target}))["source"]
    assert found[SD].mean == pytest.approx(20, rel=0.15)
    assert found[NPS].mean > 1


def test_spectra_are_pooled_by_their_pixel_spacing():
    """Slices of 0.8 and 1.6 mm: the variances' mean, frequencies of their own, and errors that do not cancel each other."""
    fine, coarse = {"source": [noisy(30, 1)], "target": [noisy(10, 1)]}, {"source": [noisy(10, 2)], "target": [noisy(30, 2)]}
    parts = measured(fine), measured(coarse, (1.6, 1.6))
    one, other = (cells(part) for part in parts)
    both = cells({name: parts[0][name] + parts[1][name] for name in fine})
    sds = np.array([part["source"][SD].mean for part in (one, other)])
    assert both["source"][SD].mean == pytest.approx(np.sqrt(np.mean(sds**2)))  # 4 regions in each
    assert one["source"][FREQUENCY].mean == pytest.approx(5, abs=0.5)
    weights = sds**2 / np.sum(sds**2)
    frequencies = [part["source"][FREQUENCY].mean for part in (one, other)]
    assert both["source"][FREQUENCY].mean == pytest.approx(weights @ frequencies)
    assert both["source"][NPS].mean == pytest.approx((8 * 100 + 8 / 9 * 900) / 1000, rel=0.05)  # not |8 - 8| = 0


def chest(lung):
    """Tissue in air with a lung of 40 x 40 px, HU: 12.96 cm^2 at 0.9 mm."""
    hu = np.full((96, 96), -1000.0)
    hu[6:90, 6:90] = 50
    hu[20:60, 20:60] = lung
    return hu


def test_laa_950_by_hand():
    """The target's lung of 1600 px: 400 below -950 HU in the source, 160 in the target; neither -950 HU nor air around."""
    source, target = chest(-850.0), chest(-850.0)
    source[20:30, 20:60] = -951
    source[30:40, 20:60] = -950
    source[50:60, 20:60] = 40  # lung of the target; and the reverse:
    source[65:85, 40:85] = -990
    target[20:24, 20:60] = -980
    found = cells(measured({"source": [source], "target": [target]}, (0.9, 0.9)))
    assert (found["source"][LAA].mean, found["target"][LAA].mean) == (pytest.approx(25), pytest.approx(10))
    assert found["source"][LAA].n == 1


def test_laa_950_is_pooled_and_slices_without_lung_are_counted():
    """1600 px of which all, 2 x 1600 px of which none, and a slice of the abdomen: a third, one slice left out."""
    target = [chest(-850), chest(-850), chest(-850), noisy(5, 1)]
    source = [chest(-960), chest(-850), chest(-900), noisy(5, 2)]
    laa = cells(measured({"source": source, "target": target}, (0.9, 0.9)))["source"][LAA]
    assert (laa.mean, laa.n, laa.undefined, laa.reason) == (pytest.approx(100 / 3), 3, 1, quality_rows.NO_LUNG)
    none = cells(measured({"source": source[3:], "target": target[3:]}))["source"][LAA]
    assert (math.isnan(none.mean), none.n, none.undefined) == (True, 0, 1)


def test_laa_950_counts_pixels_not_slices():
    """100 px of lung all below, 300 px none: a quarter."""
    rows = [Quality(40.0, 1.0, lung, laa, 0, None) for lung, laa in ((100, 1.0), (300, 0.0))]
    assert cells({"source": rows, "target": rows})["source"][LAA].mean == 25


def test_everything_is_measured_where_the_target_says():
    """Uniform in the target alone: the source's structure there counts as its noise; uniform in the source alone is nothing."""
    flat, steps = noisy(5, 1, side=48), noisy(5, 1, side=48) + 120.0 * (np.indices((48, 48)).sum(axis=0) % 8 < 4)
    there = cells(measured({"source": [steps], "target": [flat]}))
    assert there["source"][SD].mean > 40 > there["target"][SD].mean
    outside = cells(measured({"source": [flat], "target": [flat + 400]}))["source"]
    for column in (SD, FREQUENCY, NPS):
        assert math.isnan(outside[column].mean)
        assert (outside[column].undefined, outside[column].reason) == (1, quality_rows.NOT_UNIFORM)


def test_slices_without_uniform_regions_are_counted():
    """The noise is that of the other slice."""
    rows = measured({"source": [noisy(5, 1), noisy(50, 2, 400)], "target": [noisy(10, 1), noisy(50, 2, 400)]})
    found = cells(rows)["source"]
    assert found[SD].mean == pytest.approx(5, rel=0.1)
    assert found[NPS].mean == pytest.approx(0.75)
    assert [(found[column].n, found[column].undefined) for column in (SD, FREQUENCY, NPS)] == [(1, 1)] * 3


def test_no_noise():
    """A flat image has a standard deviation of 0 and no frequency; against a flat target there is no error."""
    flat, noise = np.full((48, 48), 50.0), noisy(5, 1, side=48)
    found = cells(measured({"source": [flat], "target": [noise]}))["source"]
    assert found[SD].mean == pytest.approx(0, abs=1e-9)
    assert (math.isnan(found[FREQUENCY].mean), found[FREQUENCY].reason) == (True, quality_rows.NO_NOISE)
    assert found[NPS].mean == pytest.approx(1)
    found = cells(measured({"source": [noise], "target": [flat]}))["source"]
    assert (math.isnan(found[NPS].mean), found[NPS].reason) == (True, quality_rows.NO_TARGET_NOISE)


@pytest.mark.parametrize(("sd", "noise"), [(1.01e-6, True), (0.99e-6, False)])
def test_less_than_a_millionth_of_a_hu_is_rounding(sd, noise):
    """A standard deviation above 1e-6 HU has a frequency and, in the target, an error; below, neither."""
    power = NoisePower(np.array([1.0, 2.0]), np.array([sd**2 / 2, sd**2 / 2]), np.array([1.0, 1.0]))
    rows = [Quality(40.0, 1.0, 0, math.nan, 1, power)]
    found = cells({"source": rows, "target": rows})["source"]
    assert found[SD].mean == pytest.approx(sd)
    assert [math.isnan(found[column].mean) for column in (FREQUENCY, NPS)] == [not noise] * 2


@pytest.mark.parametrize(("shape", "regions"), [((24, 24), 1), ((24, 23), 0), ((240, 240), 4)])
def test_regions_are_24_pixels_wide_and_four_at_most(shape, regions):
    """In a slice of that size, uniform throughout."""
    image = 50 + RNG(0).normal(0, 0.01, shape)
    (quality,) = measured({"source": [image], "target": [image]})["source"]
    assert quality.regions == regions


def test_only_the_source_s_soft_tissue_counts():
    """Bone of the source and padding are not compared; without soft tissue there is nothing, and the reason is given."""
    target = noisy(5, 1, side=48)
    source = target + 19
    source[:, :10] = 1500  # bone
    source[:, 40:] = 800
    padding = np.zeros(target.shape, bool)
    padding[:, 40:] = True
    (quality,) = measured({"source": [source], "target": [target]}, padding=padding)["source"]
    assert quality.psnr == pytest.approx(40)
    assert quality.regions == 2  # of 24 x 24 px, in columns 10 to 39
    assert quality.noise.variance < 30  # and no bone in it
    bone = cells(measured({"source": [np.full((48, 48), 1500.0)], "target": [target]}))["source"]
    assert [bone[column].reason for column in (PSNR, SSIM)] == [quality_rows.NO_TISSUE, quality_rows.NO_WINDOW]
    assert all(math.isnan(bone[column].mean) and bone[column].undefined == 1 for column in (PSNR, SSIM))


def test_the_caption_says_what_is_not_measured():
    """The MTF is not there, the range of HU and the error's formula are."""
    rows = measured({"source": [noisy(5, 1)], "target": [noisy(5, 2)]})
    table = quality_table("Q", rows)
    for words in ("MTF is measured on phantoms, not in patients", "[-1000, 900]", "Σ |P - P_target| A / Σ P_target A"):
        assert words in table.caption
    assert [table.direction(column) for column in COLUMNS] == ["higher", "higher", *["neither"] * 3, "lower"]
