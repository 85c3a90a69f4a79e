"""Regular patterns in a change: found at their period, and nowhere else."""

from __future__ import annotations

import doctest
import math

import numpy as np
import pytest
from synthesizers import Scripted, scripted_model

from stan_ct.dicom.find import find_series
from stan_ct.dicom.series import load_series
from stan_ct.reconstruction import lattice
from stan_ct.reconstruction.lattice import (
    ALIKE,
    FAINTEST,
    MEAN_LIMIT,
    MIN_PIXELS,
    POWER_LIMIT,
    SIGMAS,
    Lattice,
    lattice_findings,
    measure_lattice,
    no_lattice,
)

EVERYWHERE = np.ones((256, 256), bool)
ROWS, COLUMNS = np.mgrid[:64, :64]
BOARD = (-1.0) ** (ROWS + COLUMNS)
"""A checkerboard of 1 HU, 64 x 64 pixels."""


def wave(period: int, amplitude: float, shape: tuple[int, int] = (256, 256)) -> np.ndarray:
    """A wave along rows of this period, (H, W) HU."""
    return np.broadcast_to(amplitude * np.cos(2 * np.pi * np.arange(shape[1]) / period), shape)


def measured(change: np.ndarray, mask: np.ndarray | None = None) -> Lattice:
    """The sum over the slices of a change, (H, W) or (Z, H, W) HU."""
    slices = np.reshape(change, (-1, *change.shape[-2:]))
    masks = np.broadcast_to(np.ones(slices.shape[1:], bool) if mask is None else mask, slices.shape)
    return sum(map(measure_lattice, slices, masks), no_lattice())


def test_the_examples_are_true():
    """Doctest of the module."""
    assert doctest.testmod(lattice).failed == 0


@pytest.mark.parametrize("period", [2, 4, 8])
def test_a_lattice_is_found_at_its_period_and_only_there(period):
    """A wave of 2 HU in a change of 10 HU of noise: its period stands out ten times and more, the others do not."""
    found = measured(np.random.default_rng(4).normal(0, 10, (4, 256, 256)) + wave(period, 2.0))
    ratios = dict(found.ratios)
    assert ratios.pop(period) > 10
    assert max(ratios.values()) < 2
    (finding,) = lattice_findings(found)
    assert (finding.name, finding.detail) == ("lattice", f"period {period} px")
    assert finding.value == round(found.ratios[period], 2)
    assert finding.limit == round(found.ratio_limits[period], 2)


def test_noise_and_anatomy_are_no_lattice():
    """White noise, edges along the axes and other periods give no finding, in one slice or in many."""
    noise = np.random.default_rng(5).normal(0, 30, (6, 256, 256))
    edges = np.zeros((256, 256))
    edges[100:180, 60:130] = 200
    other = wave(6, 20.0)
    for change in (noise, *noise, noise[0] + edges, noise[1] + other, noise[:3] + edges + other):
        assert lattice_findings(measured(change)) == []


def test_power_at_a_lattice_by_hand():
    """A checkerboard of a HU in noise of 5 HU, 4096 pixels, adds 4096 (a / 5)^2 to one of three ratios, less a tenth."""
    change = np.random.default_rng(6).normal(0, 5, (64, 64, 64))
    assert measured(change + 0.5 * BOARD).ratios[2] == pytest.approx(
        1 + (0.5 * 4096) ** 2 / (4096 * 5**2 + (FAINTEST * 4096) ** 2) / 3, rel=0.1
    )


def test_limit_of_the_power():
    """A ratio of 2 beside 4 standard deviations of chance: just above the limit is a finding, just below is none."""
    assert (POWER_LIMIT, SIGMAS) == (2.0, 4.0)
    change = np.random.default_rng(7).normal(0, 1, (18, 64, 64))
    found = {a: measured(change + a * BOARD) for a in np.linspace(0, 0.2, 41)}
    limit = 2 + 4 * math.sqrt(2 / (3 * 18))  # 2.77
    below = max(a for a, one in found.items() if one.ratios[2] <= limit)
    above = min(a for a, one in found.items() if one.ratios[2] > limit)
    assert lattice_findings(found[below]) == []
    assert [(f.name, f.limit) for f in lattice_findings(found[above])] == [("lattice", 2.77)]


def test_what_is_too_faint_to_matter_is_no_lattice():
    """Where nothing else changes, a checkerboard of .025 HU has twice the power of nothing, one of .25 HU 101 times."""
    assert FAINTEST == 0.025
    for amplitude, ratio in ((0.025, 2), (0.25, 101)):
        assert measured(amplitude * BOARD).ratios[2] == pytest.approx((1 + 1 + ratio) / 3, rel=0.01)


def test_limit_of_the_means(monkeypatch):
    """Every 16th pixel, at one place of 4 x 4, is brighter by just less and just more than .15 HU beside chance."""
    assert (MEAN_LIMIT, ALIKE) == (0.15, 2.0)
    monkeypatch.setattr(lattice, "POWER_LIMIT", math.inf)
    noise = np.random.default_rng(8).normal(0, 12, (8, 256, 256))
    none = measured(noise)
    scatter = 12 / math.sqrt(8 * 256**2) * math.sqrt(15)
    assert none.mean_limit == pytest.approx(0.15 + 4 * 2 * scatter, rel=0.1)
    assert none.largest_mean < 4 * scatter
    places = none.means
    found = {}
    for height in (none.mean_limit - 0.01, none.mean_limit + 0.01):
        means = np.zeros((4, 4))
        means[1, 3] = height * 16 / 15  # 15 / 16 of it above the mean of all
        found[height] = lattice_findings(measured(noise + np.tile(means - places, (64, 64))))
    (below, above) = found.values()
    assert below == []
    assert [(f.name, f.detail) for f in above] == [("lattice_mean", "row mod 4 = 1, column mod 4 = 3")]
    assert (above[0].value, above[0].limit) == pytest.approx((none.mean_limit + 0.01, none.mean_limit), abs=0.005)


def test_only_judged_pixels_make_a_lattice():
    """A pattern outside the mask does not count, and a slice with too few pixels is not judged."""
    change = np.random.default_rng(8).normal(0, 10, (128, 128))
    change[:, 64:] += wave(2, 50.0, (128, 64))
    mask = np.zeros((128, 128), bool)
    mask[:, :56] = True
    assert lattice_findings(measured(change, mask)) == []
    mask = np.zeros((128, 128), bool)
    mask[:64, :64] = True
    assert mask.sum() == MIN_PIXELS
    change = np.random.default_rng(8).normal(0, 1, (128, 128)) + wave(2, 50.0, (128, 128))
    assert lattice_findings(measured(change, mask))
    mask[0, 0] = False
    nothing = measured(change, mask)
    assert nothing.num_slices == 0
    assert nothing.ratios == {2: 1.0, 4: 1.0, 8: 1.0}
    assert nothing.largest_mean == 0
    assert lattice_findings(nothing) == []


def test_means_by_place_in_a_lattice():
    """Every fourth row 3 HU higher: its places lie 2.25 above the mean, the others .75 below; unjudged pixels do not count."""
    change = np.zeros((2, 72, 64))
    change[:, 2::4] = 3
    mask = np.ones(change.shape, bool)
    change[0, 0, 0], mask[0, 0, 0] = 1e6, False
    expected = np.full((4, 4), -0.75)
    expected[2] = 2.25
    np.testing.assert_allclose(measured(change, mask).means, expected, atol=0.02)


def with_lattice(amplitude: float, period: int):
    """A synthesizer that adds a wave along rows and columns to noise of 3 HU."""

    def change(patches: np.ndarray) -> np.ndarray:
        noise = np.random.default_rng(9).normal(0, 3, patches.shape)
        whole = np.tile(wave(period, amplitude) + wave(period, amplitude).T, [n // 256 for n in patches.shape[1:]])
        return noise + whole

    return Scripted(change)


@pytest.mark.parametrize(
    ("synthesizer", "expected"), [(Scripted(), []), (with_lattice(0.0, 2), []), (with_lattice(1.0, 4), ["lattice"])]
)
def test_a_series_has_the_finding_where_the_network_wrote_a_lattice(real_ct, synthesizer, expected):
    """On a real series: none when nothing changes, none for noise, one when a wave of 4 px and 1 HU is added."""
    series = load_series(find_series(real_ct / "phantom_philips").series[0])
    result = scripted_model(synthesizer).standardize(series)
    assert [f.name for f in result.findings if f.name.startswith("lattice")] == expected
    assert (result.lattice.ratios[4] > result.lattice.ratio_limits[4]) == bool(expected)


def test_no_change_of_kernel_makes_a_lattice(real_ct):
    """Every real series against its pair in another kernel, and against a filter of itself."""
    from scipy import ndimage

    names = ("pair_philips_5mm", "pair_toshiba_phantom", "chest_siemens_b31f_2mm", "tilt_philips")
    loaded = {name: [load_series(s) for s in find_series(real_ct / name).series] for name in names}
    assert len(loaded["pair_philips_5mm"]) == 2
    for of_name in loaded.values():
        for series in of_name:
            masks = np.stack([series.soft_tissue(z) for z in range(0, len(series.volume), 4)])
            volume = series.volume[::4]
            sharper = 2 * (volume - ndimage.gaussian_filter(volume, (0, 1, 1)))
            pairs = [o.volume[::4] - volume for o in of_name if o is not series and o.volume.shape == series.volume.shape]
            for change in (sharper, ndimage.gaussian_filter(volume, (0, 1, 1)) - volume, *pairs):
                assert lattice_findings(measured(change, masks)) == [], series.files.name
