"""Figures of tables: values with their intervals, and agreement; and the style that all figures share.

Colour-blind readers can distinguish the colours (Okabe and Ito); markers and strokes work in black and white. The state of
pyplot is neither used nor changed.
"""

from __future__ import annotations

import math
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis, XAxis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from stan_ct.report.sections import Cell, Table

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*")
STROKES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1)), (0, (8, 2)))
GRAY = "#6b7280"

STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9aa3ad",
    "axes.labelcolor": "#1f2933",
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e6e9ed",
    "grid.linewidth": 0.8,
    "xtick.color": "#3b4651",
    "ytick.color": "#3b4651",
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}
"""Settings of matplotlib, applied only while a figure is made."""


def line_style(number: int) -> dict[str, Any]:
    """Colour, marker and stroke of the line with this number; the first 84 differ in colour or marker."""
    return {
        "color": COLOURS[number % len(COLOURS)],
        "marker": MARKERS[number % len(MARKERS)],
        "linestyle": STROKES[number % len(STROKES)],
    }


def start_at_zero(ax: Axes) -> None:
    """Makes the vertical axis start at 0 and end slightly above the data."""
    ax.set_ylim(0, 1.04 * ax.get_ylim()[1])


def make_logarithmic(axis: Axis) -> None:
    """Makes an axis make_logarithmic, with plain numbers at 1, 2 and 5, at 1 and 3, or at 1 as there is room."""
    (axis.axes.set_xscale if isinstance(axis, XAxis) else axis.axes.set_yscale)("log")
    low, high = sorted(axis.get_view_interval())
    steps = next(steps for decades, steps in ((1.2, (1, 2, 5)), (2.5, (1, 3)), (np.inf, (1,))) if high < low * 10**decades)
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


@matplotlib.rc_context(STYLE)
def forest(table: Table, log: bool = False) -> Figure:
    """Forest plot: one panel per column, the mean of each row with its confidence interval; dashed, the reference rows.

    Args:
        table: Table to draw.
        log: Whether the axes of values are logarithmic.
    """
    columns, rows = table.columns, list(table.rows)
    figure = Figure(figsize=(1.6 + 2.1 * len(columns), 0.9 + 0.32 * len(rows)), layout="constrained")
    axes = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for place, (ax, column) in enumerate(zip(axes, columns, strict=True)):
        for y, row in enumerate(rows):
            _estimate(ax, y, table.rows[row][place], GRAY if row in table.reference else COLOURS[0])
            if row in table.reference:
                ax.axvline(table.rows[row][place].mean, color=GRAY, linestyle="--", linewidth=1)
        ax.set_title(column)
        ax.margins(x=0.12)
        ax.tick_params(axis="y", length=0)
        if log:
            make_logarithmic(ax.xaxis)
    axes[0].set_yticks(range(len(rows)), rows)
    axes[0].set_ylim(len(rows) - 0.5, -0.5)  # first row on top
    return figure


def _estimate(ax: Axes, y: float, cell: Cell, colour: str) -> None:
    """Draws a mean and its interval, or the word "undefined"."""
    if math.isnan(cell.mean):
        ax.text(0.5, y, "undefined", transform=ax.get_yaxis_transform(), ha="center", va="center", color=GRAY, fontsize=8)
        return
    if cell.low is not None and cell.high is not None:
        ax.plot([cell.low, cell.high], [y, y], "|-", color=colour, linewidth=1.4, markersize=7)
    ax.plot([cell.mean], [y], "o", color=colour, markersize=3.6)


@matplotlib.rc_context(STYLE)
def concordance_plot(table: Table, threshold: float) -> Figure:
    """Dot plot of concordance: one line per column (feature), one mark per row, and the threshold of reproducibility.

    Args:
        table: Concordance coefficients; undefined ones are named at the left border.
        threshold: Least concordance of a reproducible feature.
    """
    features, rows = table.columns, list(table.rows)
    figure = Figure(figsize=(10, 1.4 + (0.25 + 0.085 * len(rows)) * len(features)), layout="constrained")
    ax = figure.subplots()
    low = min([0.0, *(cell.mean for cells in table.rows.values() for cell in cells if not math.isnan(cell.mean))])
    for i, row in enumerate(rows):
        shift = 0.75 * ((i + 0.5) / len(rows) - 0.5)  # marks of a feature stand below each other
        for y, cell in enumerate(table.rows[row]):
            if math.isnan(cell.mean):
                ax.text(low, y + shift, f"{row}: undefined", va="center", fontsize=7, color=line_style(i)["color"])
                continue
            if cell.low is not None and cell.high is not None:
                ax.plot([cell.low, cell.high], [y + shift] * 2, color=line_style(i)["color"], linewidth=1.1)
            ax.plot([cell.mean], [y + shift], linestyle="", color=line_style(i)["color"], marker=line_style(i)["marker"])
    ax.axvspan(threshold, 1.0, color="#e3f0e8", linewidth=0, zorder=0)
    ax.axvline(threshold, color="#000000", linestyle="--", linewidth=1)
    ax.set_yticks(range(len(features)), features)
    ax.set_ylim(len(features) - 0.5, -0.5)
    ax.set(xlabel="concordance correlation coefficient (Lin)", xlim=(low - 0.02, 1.01))
    ax.tick_params(axis="y", length=0)
    handles = [Line2D([], [], label=row, **{**line_style(i), "linestyle": ""}) for i, row in enumerate(rows)]
    handles.append(Line2D([], [], color="#000000", linestyle="--", linewidth=1, label=f"reproducible: {threshold:g}"))
    figure.legend(handles=handles, loc="outside lower center", ncols=5)
    return figure
