"""Figures of slices show the right pixels in the right window."""

import matplotlib
import numpy as np
import pytest
from matplotlib.patches import Rectangle

from stan_ct.ct.display_windows import SOFT_TISSUE_WINDOW, DisplayWindow
from stan_ct.evaluation.measure.slice_images import CROP, artefacts, image_panel


def slices(shape=(200, 160)):
    """Three different slices, HU."""
    rng = np.random.default_rng(0)
    return [rng.uniform(-1000, 400, shape) for _ in range(3)]


def test_panel_shows_slices_in_windows_and_the_difference():
    """Rows are windows, columns source, output, target, output - target."""
    source, output, target = slices()
    figure = image_panel(source, output, target, {"soft tissue": SOFT_TISSUE_WINDOW, "narrow": DisplayWindow(0.0, 100.0)})
    axes = [ax for ax in figure.axes if ax.images]
    expected = [source, output, target, output - target] * 2
    assert [np.array_equal(ax.images[0].get_array(), image) for ax, image in zip(axes, expected, strict=True)] == [True] * 8
    limits = [ax.images[0].get_clim() for ax in axes]
    assert limits == [(-160, 240)] * 3 + [(-80, 80)] + [(-50, 50)] * 3 + [(-20, 20)]
    assert [ax.get_title() for ax in axes] == ["source", "output", "target", "output - target", "", "", "", ""]
    assert [axes[i].get_ylabel() for i in (0, 4)] == ["soft tissue\nL 40 W 400", "narrow\nL 0 W 100"]


def test_without_a_target_the_difference_is_to_the_source():
    """As in reconstruction."""
    source, output, _ = slices()
    axes = [ax for ax in image_panel(source, output, None).axes if ax.images]
    assert [ax.get_title() for ax in axes[:3]] == ["source", "output", "output - source"]
    np.testing.assert_array_equal(axes[2].images[0].get_array(), output - source)
    assert axes[0].images[0].get_clim() == (-1350, 150)


def boxes(ax):
    """The rectangles of a slice: (row, column, height, width), their pixels wholly inside."""
    shown = [p for p in ax.patches if isinstance(p, Rectangle)]
    return [(p.get_y() + 0.5, p.get_x() + 0.5, p.get_height(), p.get_width()) for p in shown]


def test_artefacts_are_boxed_and_magnified():
    """Findings on their own slice, borders on the straightforward one; below, the part around the first finding."""
    straightforward, stan_ct, source = slices()
    found, border = (90, 60, 20, 40), (0, 0, 100, 160)
    figure = artefacts(straightforward, stan_ct, source, {"straightforward": [found], "stan_ct": [(1, 2, 3, 4)]}, [border])
    grid = np.array(figure.axes[:9]).reshape(3, 3)
    crop = (36, 16, CROP, CROP)
    assert [boxes(ax) for ax in grid[0]] == [[crop], [border, found, crop], [(1, 2, 3, 4), crop]]
    part = np.s_[36 : 36 + CROP, 16 : 16 + CROP]
    for column, image in enumerate((source, straightforward, stan_ct)):
        np.testing.assert_array_equal(grid[0, column].images[0].get_array(), image)
        np.testing.assert_array_equal(grid[1, column].images[0].get_array(), image[part])
        if column:
            np.testing.assert_array_equal(grid[2, column].images[0].get_array(), (image - source)[part])
    assert not grid[2, 0].images
    assert [ax.get_title() for ax in grid[0]] == ["source", "straightforward", "STAN-CT"]


@pytest.mark.parametrize(
    ("peak", "crop"), [((100, 80), (36, 16, 128, 128)), ((0, 0), (0, 0, 128, 128)), ((199, 159), (72, 32, 128, 128))]
)
def test_without_findings_the_largest_difference_is_magnified(peak, crop):
    """Moved back into the slice at its borders."""
    source = np.zeros((200, 160))
    straightforward = source.copy()
    straightforward[peak] = -50
    assert boxes(artefacts(straightforward, source, source).axes[0]) == [crop]


def test_a_small_slice_is_magnified_as_it_is():
    """No part beyond its borders."""
    assert boxes(artefacts(*slices((64, 32))).axes[0]) == [(0, 0, 64, 32)]


def test_slices_of_different_shapes_and_unknown_methods_are_refused():
    """With what came."""
    source, output, target = slices()
    with pytest.raises(ValueError, match="one shape"):
        image_panel(source, output[:-1], target)
    with pytest.raises(ValueError, match="one shape"):
        artefacts(source, output, target[:, 1:])
    with pytest.raises(ValueError, match="GANai"):
        artefacts(source, output, target, {"GANai": []})


def test_no_figure_leaves_a_trace():
    """The settings of matplotlib are what they were."""
    before = dict(matplotlib.rcParams)
    image_panel(*slices())
    artefacts(*slices())
    assert dict(matplotlib.rcParams) == before
