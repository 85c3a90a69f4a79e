"""The field of view and its continuation: no step, no streak, nothing spoiled beside padding."""

import doctest

import numpy as np
import pytest
from scipy import ndimage

from stan_ct.ct import field_of_view
from stan_ct.ct.field_of_view import NO_CT_NUMBER, RISE, continue_smoothly, outside_field_of_view

SHAPE = (128, 128)
Y, X = np.indices(SHAPE) - 63.5
CIRCLE = np.hypot(Y, X) > 55
"""Outside of a round field of view."""


def tissue(seed=0):
    """Soft tissue everywhere, with the noise of a soft kernel."""
    noise = np.random.default_rng(seed).normal(0, 60, SHAPE)
    return (40 + ndimage.gaussian_filter(noise, 1.5)).astype(np.float32)


def test_docstring():
    """The example holds."""
    assert doctest.testmod(field_of_view, extraglobs={"np": np}).failed == 0


@pytest.mark.parametrize("value", [-2000.0, -3024.0])
@pytest.mark.parametrize("declared", [True, False])
def test_padding_is_outside_whether_it_is_declared_or_not(value, declared):
    """Padding by the header, and values that are no CT numbers."""
    hu = np.where(CIRCLE, np.float32(value), tissue())
    outside = outside_field_of_view(hu, CIRCLE if declared else np.zeros(SHAPE, bool))
    np.testing.assert_array_equal(outside, CIRCLE)


@pytest.mark.parametrize(("value", "found"), [(NO_CT_NUMBER - 1, True), (NO_CT_NUMBER + 1, False)])
def test_limit_of_ct_numbers(value, found):
    """A single pixel just below the lowest CT number lies outside, one just above it does not."""
    hu = tissue()
    hu[60, 60] = value
    assert outside_field_of_view(hu, np.zeros(SHAPE, bool))[60, 60] == found


def test_a_border_of_the_lowest_value_is_outside_and_noise_in_air_is_not():
    """Around a round field of view, -1024 HU alone; inside it, air of which half is cut off at -1024 stays inside."""
    rng = np.random.default_rng(1)
    air = np.maximum(rng.normal(-1024, 30, SHAPE), -1024).astype(np.float32)
    nothing = np.zeros(SHAPE, bool)
    assert not outside_field_of_view(air, nothing).any()
    hu = np.where(CIRCLE, np.float32(-1024), air)
    outside = outside_field_of_view(hu, nothing)
    assert (outside & CIRCLE).sum() > 0.98 * CIRCLE.sum()
    assert not (outside & (np.hypot(Y, X) < 48)).any(), "but for pixels at its very border"
    hu = np.where(CIRCLE, np.float32(-100), tissue())
    assert not outside_field_of_view(hu, nothing).any(), "the lowest value of a crop of fat is no outside"


@pytest.mark.parametrize(("part", "found"), [(0.0016, False), (0.0024, True)])
def test_a_small_part_is_no_border(part, found):
    """Less than two thousandths of a slice, such as a bubble at its border, is not taken for the outside."""
    hu = np.full((500, 500), -990.0, np.float32) + np.random.default_rng(0).normal(0, 5, (500, 500)).astype(np.float32)
    hu[:20, : int(part * 250_000 / 20)] = -1024
    assert outside_field_of_view(hu, np.zeros(hu.shape, bool)).any() == found


def test_continuation_leaves_what_is_inside():
    """Pixels inside keep their bits, whatever the shape; everything outside takes values from inside."""
    hu = np.where(CIRCLE, np.float32(-2000), tissue())
    continued = continue_smoothly(hu, CIRCLE)
    np.testing.assert_array_equal(continued[~CIRCLE], hu[~CIRCLE])
    assert continued.min() >= hu[~CIRCLE].min()
    both = continue_smoothly(np.stack([hu, hu + 7]), CIRCLE)
    np.testing.assert_array_equal(both[0], continued)
    np.testing.assert_array_equal(both[1], continued + 7)


def test_continuation_has_no_step_and_the_texture_of_the_border():
    """Across the border pixels differ as they do inside, and beyond it the texture goes on."""
    hu = continue_smoothly(np.where(CIRCLE, np.float32(-2000), tissue()), CIRCLE)
    step = np.abs(np.diff(hu, axis=1))
    across = CIRCLE[:, 1:] != CIRCLE[:, :-1]
    inside = ~CIRCLE[:, 1:] & ~CIRCLE[:, :-1]
    assert step[across].mean() < 1.5 * step[inside].mean()
    ring = (np.hypot(Y, X) > 56) & (np.hypot(Y, X) < 62)
    assert hu[ring].std() == pytest.approx(hu[~CIRCLE].std(), rel=0.2)


def test_a_padding_value_inside_the_body_takes_a_neighbours_value():
    """Single pixels and thin lines outside are filled from beside; nothing and everything outside change nothing."""
    hu, outside = tissue(), np.zeros(SHAPE, bool)
    outside[50, 50] = outside[70, 20:90] = True
    continued = continue_smoothly(np.where(outside, np.float32(-2000), hu), outside)
    assert np.abs(continued - hu).max() < 120
    assert continue_smoothly(hu, np.zeros(SHAPE, bool)) is hu
    assert continue_smoothly(hu, np.ones(SHAPE, bool)) is hu


@pytest.mark.parametrize("soften", [0.0, 1.5])
def test_air_without_noise_around_a_body_is_no_border(soften):
    """A body in air of one value keeps its skin, whether its edge is sharp or blurred."""
    body = ndimage.gaussian_filter(np.where(np.hypot(Y, 1.5 * X) < 45, 40.0, -1024.0), soften)
    assert not outside_field_of_view(np.rint(body).astype(np.float32), np.zeros(SHAPE, bool)).any()


def test_a_blurred_edge_in_the_corners_is_skin():
    """A body that nearly fills the slice, in corners of air of one value: its edge fades, a field of view ends at once."""
    for soften, found in ((2.0, False), (0.0, True)):
        hu = np.where(CIRCLE, -1024.0, tissue())
        hu = np.rint(ndimage.gaussian_filter(hu, soften) if soften else hu).astype(np.float32)
        assert outside_field_of_view(hu, np.zeros(SHAPE, bool)).any() == found


@pytest.mark.parametrize(("fraction", "found"), [(0.78, False), (0.83, True)])
def test_limit_of_the_core(fraction, found):
    """A round field of view of 83 % of the slice's side is one; a circle of 78 % could be a body."""
    hu = np.where(np.hypot(Y, X) > fraction * 63.5, np.float32(-1024), tissue())
    assert outside_field_of_view(hu, np.zeros(SHAPE, bool)).any() == found


@pytest.mark.parametrize(("rise", "found"), [(RISE - 10, True), (RISE + 10, False)])
@pytest.mark.parametrize("sign", [1, -1])
def test_limit_of_the_rise(rise, found, sign):
    """HU that change by 90 over four pixels beside the border region are tissue; by 110, they are an edge."""
    depth = np.clip(55 - np.hypot(Y, X), 0, 8)
    hu = np.where(CIRCLE, -1024.0, sign * (depth - 1) * rise / 4).astype(np.float32)
    assert outside_field_of_view(hu, np.zeros(SHAPE, bool)).any() == found


def test_blended_pixels_beside_tissue_are_outside_and_air_keeps_its_rim():
    """Where a table meets the border its outermost pixels are blended with the border's value, and left out; air's are not."""
    rng = np.random.default_rng(3)
    hu = np.maximum(rng.normal(-1000, 12, SHAPE), -1023).astype(np.float32)
    hu[60:68, :] = -300 + rng.normal(0, 10, (8, 128))
    hu[CIRCLE] = -1024
    border = CIRCLE & ~ndimage.binary_erosion(CIRCLE, np.ones((3, 3)), border_value=1)
    ring = ndimage.binary_dilation(CIRCLE, np.ones((3, 3))) & ~CIRCLE
    outside = outside_field_of_view(hu, np.zeros(SHAPE, bool))
    assert outside[border].mean() > 0.9
    table = np.zeros(SHAPE, bool)
    table[58:70] = True
    assert outside[ring & table].mean() > 0.9
    assert outside[ring & ~ndimage.binary_dilation(table, np.ones((7, 7)))].mean() < 0.1
