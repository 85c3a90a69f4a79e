"""Nothing beside padding, bone or metal beyond what its surroundings explain."""

import numpy as np
import pytest
from scipy import ndimage
from synthesizers import Scripted

from stan_ct.ct.filters import FrontEnd
from stan_ct.ct.source_slice import SourceSlice
from stan_ct.models.folder import find_model, read_config
from stan_ct.reconstruction.bounds import DETAIL, DETAIL_GAIN, EDGE_GAIN, MOST, NOISE_ROOM, TOLERATED, bound, plausible_range
from stan_ct.reconstruction.pipeline import standardize_slice
from stan_ct.reconstruction.settings import method_settings

SPACING = (0.7, 0.7)
Y, X = np.indices((256, 256)) - 127.5
OUTSIDE = np.hypot(Y, X) > 110
FILTERS = [("default", "BR40"), ("default", "BL57"), ("philips_b_l", "B")]


class Filtering(Scripted):
    """The radial filter of a model that ships, and the identity in place of its network."""

    def __init__(self, model: str) -> None:
        super().__init__()
        front_end = read_config(find_model(model)).front_end
        assert isinstance(front_end, FrontEnd)
        self.front_end = front_end

    def prepare(self, hu, pixel_spacing, kernel=""):
        return self.front_end(hu, pixel_spacing, kernel)


def body() -> np.ndarray:
    """Soft tissue that reaches beyond the field of view, with a spine and the noise of a soft kernel."""
    rng = np.random.default_rng(0)
    hu = 40 + ndimage.gaussian_filter(rng.normal(0, 60, Y.shape), 1.5)
    spine = ndimage.gaussian_filter((np.hypot(Y - 50, X) < 15).astype(float), 1.5)
    return (hu + 900 * spine).astype(np.float32)


def standardized(hu, padding, model, kernel):
    return standardize_slice(
        SourceSlice(hu, padding, SPACING), Filtering(model), method_settings("stan_ct"), np.random.default_rng(0), kernel
    )


@pytest.mark.parametrize("value", [-2000.0, -1024.0])
@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize(("model", "kernel"), FILTERS)
def test_padding_does_not_ring(model, kernel, declared, value):
    """Body up to the border of the field of view: beside the padding it is what it is without any padding there."""
    hu = np.where(OUTSIDE, np.float32(value), body())
    padding = OUTSIDE if declared else np.zeros(OUTSIDE.shape, bool)
    result = standardized(hu, padding, model, kernel)
    whole = standardized(body(), np.zeros(OUTSIDE.shape, bool), model, kernel)
    np.testing.assert_array_equal(result.hu[OUTSIDE], hu[OUTSIDE])
    ring = ~OUTSIDE & ndimage.binary_dilation(OUTSIDE, iterations=6)
    inner = ~OUTSIDE & ~ndimage.binary_dilation(OUTSIDE, iterations=20) & (np.hypot(Y - 50, X) > 30)
    assert np.abs(result.hu[ring] - 40).max() < 1.6 * np.abs(whole.hu[inner] - 40).max()
    assert "implausible_hu" not in [f.name for f in result.findings]


@pytest.mark.parametrize(("model", "kernel"), FILTERS)
def test_a_padding_value_inside_the_body_spoils_nothing(model, kernel):
    """Pixels of the padding value within tissue come back as they were; their neighbours are as without them."""
    hu, padding = body(), np.zeros(OUTSIDE.shape, bool)
    padding[100, 100] = padding[140, 90:96] = True
    result = standardized(np.where(padding, np.float32(-2000), hu), padding, model, kernel)
    clean = standardized(hu, np.zeros_like(padding), model, kernel)
    near = ndimage.binary_dilation(padding, iterations=5) & ~padding
    assert np.abs(result.hu - clean.hu)[near].max() < 6 * clean.hu[80:120, 80:120].std()
    assert (result.hu[padding] == -2000).all()


@pytest.mark.parametrize("metal", [3000.0, 20_000.0])
@pytest.mark.parametrize(("model", "kernel"), FILTERS)
def test_metal_is_bounded(model, kernel, metal):
    """Around a pin of metal with an edge as no soft kernel has, HU stay within the bounds and hardly leave the source's."""
    hu = body()
    hu[120:130, 120:130] = metal
    result = standardized(hu, np.zeros(hu.shape, bool), model, kernel)
    low, high = plausible_range(hu, SPACING)
    assert (result.hu <= high + 0.01).all()
    assert (np.maximum(result.hu, -1024) >= low - 0.01).all()
    assert result.hu.max() <= metal + 50
    assert result.hu.min() >= -500
    assert "implausible_hu" not in [f.name for f in result.findings]
    far = np.hypot(Y, X) > 40
    clean = standardized(body(), np.zeros(hu.shape, bool), model, kernel)
    assert np.abs(result.hu - clean.hu)[far & (np.hypot(Y - 50, X) > 30)].max() < 400


def test_the_source_and_a_shift_lie_within_the_bounds():
    """The identity is never bounded; a flat region leaves `NOISE_ROOM`."""
    hu = body()
    low, high = plausible_range(hu, SPACING)
    assert (low <= hu).all()
    assert (high >= hu).all()
    flat_low, flat_high = plausible_range(np.full((64, 64), 40.0, np.float32), SPACING)
    np.testing.assert_allclose([flat_low[30, 30], flat_high[30, 30]], [40 - NOISE_ROOM, 40 + NOISE_ROOM])


@pytest.mark.parametrize(
    ("extent", "room"),
    [
        (100.0, NOISE_ROOM + DETAIL_GAIN * 100),
        (DETAIL + 200, NOISE_ROOM + DETAIL_GAIN * DETAIL + EDGE_GAIN * 200),
        (5000.0, MOST),
    ],
)
def test_room_by_range(extent, room):
    """Overshoot that is allowed beside an edge, worked out by hand."""
    hu = np.zeros((64, 64), np.float32)
    hu[:, 32:] = extent
    low, high = plausible_range(hu, SPACING)
    assert high[32, 32] == pytest.approx(extent + room)
    assert low[32, 31] == pytest.approx(-room)


@pytest.mark.parametrize(("excess", "finding"), [(TOLERATED - 1, False), (TOLERATED + 1, True)])
@pytest.mark.parametrize("sign", [1, -1])
def test_limit_of_the_finding(excess, finding, sign):
    """Just within the tolerance a pixel is cut off in silence, just beyond it is a finding with the excess."""
    source, outside = np.full((64, 64), 40.0, np.float32), np.zeros((64, 64), bool)
    hu = source.copy()
    hu[20, 20] += sign * (NOISE_ROOM + excess)
    bounded, found = bound(hu, source, outside, SPACING)
    assert bounded[20, 20] == pytest.approx(40 + sign * NOISE_ROOM)
    assert (found is not None) == finding
    if found:
        assert (found.name, found.value, found.limit) == ("implausible_hu", excess, TOLERATED)
    outside[20, 20] = True
    untouched, none = bound(hu, source, outside, SPACING)
    assert none is None
    assert untouched is hu


def test_values_below_air_are_no_finding():
    """Undershoot below -1024 HU is cut off when it is written."""
    source = np.full((64, 64), -1000.0, np.float32)
    hu = source.copy()
    hu[10, 10] = -2500
    bounded, found = bound(hu, source, np.zeros((64, 64), bool), SPACING)
    assert found is None
    assert bounded[10, 10] == -2500
