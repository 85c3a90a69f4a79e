"""Figures show the numbers they are given, at the places where they belong."""

from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex

import stan_ct.report
from stan_ct.report.plots import COLOURS, GRAY, concordance_plot, forest, line_style
from stan_ct.report.sections import Cell, Table

PACKAGE = Path(stan_ct.report.__file__).parent
NAN = float("nan")


def lines(ax):
    """What is drawn by `plot`: x and y of each line."""
    return [(line.get_xdata(), line.get_ydata()) for line in ax.get_lines()]


# Tables and curves


def numbers(**options):
    """Two columns, a reference row, an undefined cell."""
    rows = {
        "source": (Cell(0.8, low=0.7, high=0.9), Cell(0.5)),
        "a": (Cell(0.2, low=0.1, high=0.4), Cell(NAN, reason="flat")),
        "b": (Cell(0.9), Cell(0.3)),
    }
    return Table("t", "", ("contrast", "energy"), rows, reference=frozenset({"source"}), **options)


def test_forest_draws_means_and_intervals():
    """Row by row from the top: interval, mean; the reference as a dashed line; the word where there is no number."""
    contrast, energy = forest(numbers()).axes
    drawn = [(list(x), list(y)) for x, y in lines(contrast)]
    assert drawn == [
        ([0.7, 0.9], [0, 0]), ([0.8], [0]), ([0.8, 0.8], [0, 1]),  # the last from bottom to top
        ([0.1, 0.4], [1, 1]), ([0.2], [1]), ([0.9], [2]),
    ]  # fmt: skip
    assert to_hex(contrast.get_lines()[1].get_color()) == GRAY
    assert [label.get_text() for label in contrast.get_yticklabels()] == ["source", "a", "b"]
    assert contrast.get_ylim() == (2.5, -0.5)
    assert [(text.get_text(), text.get_position()[1]) for text in energy.texts] == [("undefined", 1)]
    assert [ax.get_title() for ax in (contrast, energy)] == ["contrast", "energy"]


def test_a_logarithmic_axis_has_plain_numbers():
    """Few enough to be read."""
    figure = forest(numbers(), log=True)
    figure.draw_without_rendering()
    ax = figure.axes[0]
    shown = [t for t in ax.get_xticks() if ax.get_xlim()[0] <= t <= ax.get_xlim()[1]]
    assert shown == pytest.approx([0.1, 0.2, 0.5, 1.0])
    assert [ax.xaxis.get_major_formatter()(t, 0) for t in shown] == ["0.1", "0.2", "0.5", "1"]


def test_concordance_is_drawn_with_its_threshold():
    """A mark per row at its coefficient and within its feature's line; the line of .85 and what counts above it."""
    figure = concordance_plot(numbers(better="higher"), 0.85)
    ax = figure.axes[0]
    marks = [
        (line.get_marker(), line.get_xdata()[0], line.get_ydata()[0]) for line in ax.get_lines() if len(line.get_xdata()) == 1
    ]
    assert [(m, x, round(y)) for m, x, y in marks] == [
        ("o", 0.8, 0),
        ("o", 0.5, 1),
        ("s", 0.2, 0),
        ("^", 0.9, 0),
        ("^", 0.3, 1),
    ]
    assert [y for m, _, y in marks if m == "s"] == [0]  # the middle of three rows
    assert [text.get_text() for text in ax.texts] == ["a: undefined"]
    limit = next(line for line in ax.get_lines() if line.get_linestyle() == "--")
    assert limit.get_xdata() == [0.85, 0.85]
    assert (ax.patches[0].get_x(), ax.patches[0].get_width()) == (0.85, pytest.approx(0.15))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["source", "a", "b", "reproducible: 0.85"]


# All


def test_methods_look_different():
    """Without colour the first twelve differ by marker; with it, 84."""
    assert len({line_style(i)["marker"] for i in range(12)}) == 12
    assert len({(line_style(i)["color"], line_style(i)["marker"]) for i in range(84)}) == 84


def luminance(colour):
    """Relative luminance (WCAG) of a colour, 0 black to 1 white."""
    channels = np.array(matplotlib.colors.to_rgb(colour))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def test_colours_are_dark_enough_on_white():
    """At least 2 : 1, all different; lines also have markers and strokes."""
    assert len(set(COLOURS)) == len(COLOURS)
    assert min(1.05 / (luminance(colour) + 0.05) for colour in (*COLOURS, GRAY)) > 2


def test_no_figure_leaves_a_trace():
    """Neither pyplot nor the settings of matplotlib are touched."""
    texts = {path.name: path.read_text() for path in PACKAGE.parent.rglob("*.py")}
    assert [name for name, text in texts.items() if "import matplotlib.pyplot" in text or "import pyplot" in text] == []
    before = dict(matplotlib.rcParams)
    forest(numbers())
    assert dict(matplotlib.rcParams) == before
