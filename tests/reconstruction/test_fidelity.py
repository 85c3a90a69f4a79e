"""Nothing invented: what a change of kernel does is no finding, what it cannot do is one."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from synthetic import write_ct

from stan_ct.ct.filters import RadialFilter
from stan_ct.dicom.find import find_series
from stan_ct.dicom.series import load_series
from stan_ct.reconstruction.fidelity import BODY, STRUCTURE_LIMIT, TISSUE_LIMITS, _body, measure_fidelity, structure_findings

SHARPER = RadialFilter((0.0, 2.0, 4.0, 8.0), (1.0, 1.1, 1.6, 1.8))


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """Four slices: a body with lung, vessels and noise in air."""
    folder, rng = tmp_path_factory.mktemp("ct"), np.random.default_rng(0)
    y, x = np.indices((160, 160)) - 80
    hu = np.full((4, 160, 160), -1000.0)
    hu[:, np.hypot(y / 70, x / 75) < 1] = 40
    hu[:, np.hypot(y / 30, (x + 35) / 25) < 1] = -850
    hu[:, np.hypot(y - 5, x + 30) < 4] = 30  # a vessel in the lung
    hu[:, np.hypot(y - 50, x) < 6] = 700  # bone
    hu = ndimage.gaussian_filter(hu, (0, 1, 1)) + ndimage.gaussian_filter(rng.normal(0, 60, hu.shape), (0, 0.8, 0.8))
    write_ct(folder, np.clip(np.rint(hu).astype(int), -1024, 3000) + 1024)
    return load_series(find_series(folder).series[0])


def sharpened(series) -> np.ndarray:
    """What a model does at its best: a filter and a little fresh texture."""
    rng = np.random.default_rng(1)
    made = np.stack([SHARPER(hu, series.files.pixel_spacing) for hu in series.volume])
    return (made + rng.normal(0, 8, made.shape)).astype(np.float32)


def blob(series, z: int, height: float, row: int = 100, column: int = 100, mm: float = 2.5) -> np.ndarray:
    """(Z, H, W): a nodule of this radius in soft tissue."""
    planted = np.zeros(series.volume.shape, np.float32)
    y, x = np.indices(planted.shape[1:])
    planted[z] = height * (np.hypot(y - row, x - column) * 0.7 < mm)
    return planted


def names(found) -> list[list[str]]:
    return [[f.name for f in slice_] for slice_ in found.slices]


def test_a_change_of_kernel_is_no_finding(series):
    """A filter with fresh texture changes no tissue's mean, and leaves nothing that stands out; nor does the identity."""
    for output in (series.volume.copy(), sharpened(series)):
        found = measure_fidelity(series, output)
        assert names(found) == [[]] * 4
        assert found.findings == ()
        assert found.strongest < STRUCTURE_LIMIT
    assert set(found.tissues) >= {"lung", "soft tissue"}
    assert 0 < found.structure < 5


@pytest.mark.parametrize(("height", "name"), [(120.0, "new_structure"), (-120.0, "lost_structure")])
def test_an_invented_and_a_lost_nodule_are_found(series, height, name):
    """A nodule of 5 mm that is in the output alone, or in the source alone, is a finding, in its slice and in no other."""
    found = measure_fidelity(series, sharpened(series) + blob(series, 2, height))
    assert names(found) == [[], [], [name], []]
    assert found.slices[2][0].value > STRUCTURE_LIMIT


def test_a_nodule_that_stays_is_no_finding(series):
    """A nodule that is in the source and, sharper, in the output is anatomy."""
    planted = blob(series, 1, 120.0)
    series.volume[:] += planted
    try:
        assert names(measure_fidelity(series, sharpened(series))) == [[]] * 4
    finally:
        series.volume[:] -= planted


def test_shifted_tissue_is_found(series):
    """A mean that moves by more than the limit is a finding of the series, of that tissue alone."""
    lung = (ndimage.gaussian_filter(series.volume, (0, 2, 2)) < -500) & (series.volume > -1000)
    found = measure_fidelity(series, sharpened(series) + np.float32(2 * TISSUE_LIMITS["lung"]) * lung)
    assert [f.name for f in found.findings] == ["mean_lung"]
    before = measure_fidelity(series, sharpened(series)).tissues["lung"]
    assert found.tissues["lung"] - before == pytest.approx(2 * TISSUE_LIMITS["lung"], abs=0.5)


def test_bone_and_air_are_not_judged(series):
    """What is above the soft-tissue range keeps the source's values, and air is cut off: neither is a structure."""
    output = sharpened(series)
    output[:, 125:135, 75:85] = series.volume[:, 125:135, 75:85]
    output[:, :8] += 300
    assert names(measure_fidelity(series, output)) == [[]] * 4


def test_blurred_anatomy_is_found(series):
    """Waves of 40 HU and 12 mm all over the body, which no filter makes, are a finding of the series."""
    y, x = np.indices(series.volume.shape[1:]) * 0.7
    waves = 40 * np.sin(2 * np.pi * x / 12) * np.sin(2 * np.pi * y / 12)
    found = measure_fidelity(series, sharpened(series) + waves.astype(np.float32))
    assert "low_pass_difference" in [f.name for f in found.findings]


@pytest.mark.parametrize(
    ("sigmas", "height", "name"),
    [
        (8.08, 20.0, ["new_structure"]),
        (7.92, 20.0, []),
        (20.0, 15.15, ["new_structure"]),
        (20.0, 14.85, []),
        (-8.08, -20.0, ["lost_structure"]),
        (-7.92, -20.0, []),
    ],
)
def test_limits_of_a_structure(sigmas, height, name):
    """8 standard deviations and 15 HU: one percent above both is a finding, one percent below either is none."""
    assert [f.name for f in structure_findings(sigmas, height)] == name


@pytest.mark.parametrize("sign", [1, -1])
def test_limits_of_the_mean_of_a_tissue(series, sign):
    """README promises 5 HU for lung, fat and soft tissue: 1 % above is a finding of each tissue, 1 % below of none."""
    for shift, expected in ((4.95, []), (5.05, ["mean_lung", "mean_soft_tissue"])):
        found = measure_fidelity(series, series.volume + np.float32(sign * shift))
        assert [f.name for f in found.findings] == expected
        assert all(f.limit == 5 for f in found.findings)
    assert TISSUE_LIMITS == {"lung": 5.0, "fat": 5.0, "soft tissue": 5.0, "bone": 40.0}


def test_limit_of_the_low_pass_difference(series):
    """10 HU root mean square: a residual of 1 % more is a finding of the series, one of 1 % less is none."""
    unit = measure_fidelity(series, series.volume + np.float32(40)).structure / 40
    for rms, expected in ((9.9, False), (10.1, True)):
        found = measure_fidelity(series, series.volume + np.float32(rms / unit))
        assert found.structure == pytest.approx(rms, abs=0.05)
        assert ("low_pass_difference" in [f.name for f in found.findings]) == expected


@pytest.mark.parametrize(("pixels", "judged"), [(990, False), (1010, True)])
def test_a_tissue_of_few_pixels_is_not_judged(series, pixels, judged):
    """Fewer than 1,000 pixels of a tissue say nothing about its mean."""
    padding = np.ones_like(series.padding)
    inside = np.argwhere(ndimage.minimum_filter(np.abs(series.volume - 40) < 400, (1, 25, 25)))[:pixels]
    padding[tuple(inside.T)] = False
    few = replace(series, padding=padding)
    assert ("soft tissue" in measure_fidelity(few, few.volume).tissues) == judged


@pytest.mark.parametrize("seed", range(8))
def test_the_body_is_the_largest_part_with_its_holes_filled(seed):
    """As scipy.ndimage finds it in blobs of noise; nothing in air."""
    smooth = BODY + ndimage.gaussian_filter(np.random.default_rng(seed).normal(0, 300, (90, 120)), 4)
    parts, number = ndimage.label(smooth > BODY)
    largest = 1 + np.argmax(ndimage.sum_labels(np.ones(parts.shape), parts, range(1, number + 1)))
    filled = ndimage.binary_fill_holes(parts == largest)
    assert filled.sum() > (parts == largest).sum() > 0
    np.testing.assert_array_equal(_body(smooth.astype(np.float32)), filled)
    assert not _body(np.full((9, 9), -1000, np.float32)).any()
