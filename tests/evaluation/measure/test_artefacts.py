"""Fig. 4 shows the slice with the most findings, and draws them where they are."""

from types import SimpleNamespace

import numpy as np
from matplotlib.patches import Rectangle

from stan_ct.evaluation.measure.artefacts import figure_4
from stan_ct.reconstruction.layout import patch_layout
from stan_ct.reconstruction.settings import DEFAULT, STRAIGHTFORWARD, TABLE_2, method_settings

SHAPE = (512, 512)


def judge(fused, source, soft_tissue, patches):
    """A border shows where the change steps by more than 10 HU across it, on its whole length."""
    change, found = fused - source, []
    for number, p in enumerate(patches):
        if p.row and (np.abs(change[p.row, p.window[1]] - change[p.row - 1, p.window[1]]) > 10).all():
            found.append(SimpleNamespace(patch=number, side="top", strength=20.0))
            found += [
                SimpleNamespace(patch=n, side="bottom", strength=20.0)
                for n, q in enumerate(patches)
                if q.row + q.height == p.row and q.column == p.column
            ]
    return found


def write(tmp_path, write_series):
    """Three slices: the straightforward method leaves no border, one of two tiles' width, one of a tile's width."""
    source = np.random.default_rng(0).integers(-50, 50, (3, *SHAPE))
    straightforward = source.copy()
    straightforward[1, 256:] += 40
    straightforward[2, 256:, :256] += 90
    write_series(tmp_path / "source", source, series=1)
    write_series(tmp_path / "straightforward", straightforward, series=2)
    write_series(tmp_path / "stan_ct", source, series=3)
    return tmp_path / "source", {name: tmp_path / name for name in ("straightforward", "stan_ct")}


def boxes(axes, style):
    return [
        (r.get_y() + 0.5, r.get_x() + 0.5, r.get_height(), r.get_width())
        for r in axes.patches
        if isinstance(r, Rectangle) and r.get_linestyle() == style
    ]


def test_the_slice_with_the_most_findings_is_shown(tmp_path, write_series):
    """The second slice, where two borders show: a box of 12 px around each, once, though two tiles meet there."""
    figure = figure_4(*write(tmp_path, write_series), judge=judge)
    assert figure.name == "Fig. 4, artefacts"
    assert "Of 3 slices" in figure.caption
    assert "patches show: 2 (the strongest stands out 20 times above chance). Of STAN-CT's patches 0 show." in figure.caption
    source, straightforward, stan_ct = figure.image.axes[:3]
    assert [axes.get_title() for axes in (source, straightforward, stan_ct)] == ["source", "straightforward", "STAN-CT"]
    assert sorted(boxes(straightforward, "solid")) == [(250, 0, 12, 256), (250, 256, 12, 256)]
    assert boxes(stan_ct, "solid") == []
    change = straightforward.images[0].get_array() - source.images[0].get_array()
    assert (change[:256] == 0).all()
    assert (change[256:] == 40).all()


def test_without_findings_the_methods_are_shown_where_they_differ_most(tmp_path, write_series):
    """The slice in which they are farthest apart, here the third (90 / 4 over 40 / 2 HU); no finding is claimed."""
    figure = figure_4(*write(tmp_path, write_series), judge=lambda *_: [])
    straightforward, stan_ct = figure.image.axes[1:3]
    assert (straightforward.images[0].get_array() - stan_ct.images[0].get_array()).max() == 90
    assert "patches show: 0. Of STAN-CT's patches 0 show." in figure.caption


def test_only_the_slices_that_are_compared(tmp_path, write_series):
    """Held-back slices alone: of the first one there is nothing to draw but the slice."""
    source, made = write(tmp_path, write_series)
    figure = figure_4(source, made, ["1.2.826.0.1.3680043.8.498.1.1.1"], judge)
    assert "Of 1 slices" in figure.caption
    assert boxes(figure.image.axes[1], "solid") == []


def test_the_patches_are_those_of_the_pipeline(tmp_path, write_series):
    """The check sees the layouts that the pipeline uses for these rows of Table 2, with soft tissue in every patch."""
    seen = []
    source, made = write(tmp_path, write_series)
    figure_4(source, made, ["1.2.826.0.1.3680043.8.498.1.1.1"], lambda fused, source, mask, patches: seen.append(patches) or [])
    everywhere, rng = np.ones(SHAPE, bool), np.random.default_rng(0)
    rows = [patch_layout(everywhere, method_settings(**TABLE_2[row]), rng) for row in (STRAIGHTFORWARD, DEFAULT)]
    assert seen == rows
    assert [len(patches) for patches in seen] == [4, 9]
