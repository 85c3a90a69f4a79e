"""Figures of a training: errors by version of G (the paper's Fig. 3) and latent loss by batch (Fig. 5)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from stan_ct.evaluation.measure.training_logs import History, VersionErrors
from stan_ct.report.plots import COLOURS, GRAY, STYLE, line_style, make_logarithmic, start_at_zero

ROLLED_BACK: dict[str, Any] = {"color": COLOURS[3], "marker": "x", "markersize": 5, "linestyle": ""}

DRAWN_AS_LINES = 4000
"""Largest number of points that an SVG holds as lines; more become pixels."""


@matplotlib.rc_context(STYLE)
def errors_by_version(curves: Mapping[str, VersionErrors], log: bool = False) -> Figure:
    """Fig. 3: error of each feature, and their mean, by version of G; a dashed line is the error of the source.

    Args:
        curves: Method -> errors of its versions.
        log: Whether the axis of errors is logarithmic.
    Raises:
        ValueError: If there is no curve, or the curves have different features.
    """
    features = [list(curve.errors) for curve in curves.values()]
    if not features or any(names != features[0] for names in features):
        raise ValueError(f"expected curves of the same features, got {dict(zip(curves, features, strict=True))}")
    panels = [*features[0], "mean"]
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(3.3 * columns, 2.5 * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, name in zip(axes, panels, strict=False):
        _error_panel(ax, name, curves, log)
    for ax in axes[: len(panels)][-columns:]:
        ax.set_xlabel("version of G")
    for ax in axes[::columns]:
        ax.set_ylabel("error (Eq. 8)")
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    handles = [Line2D([], [], label=name, **line_style(i)) for i, name in enumerate(curves)]
    if any(curve.source for curve in curves.values()):
        handles.append(Line2D([], [], label="source", color=GRAY, linestyle="--"))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(5, len(handles)))
    return figure


def _error_panel(ax: Axes, name: str, curves: Mapping[str, VersionErrors], log: bool) -> None:
    levels = {method: float(_mean_or(name, curve.source)) for method, curve in curves.items() if curve.source}
    for i, (method, curve) in enumerate(curves.items()):
        ax.plot(curve.versions, _mean_or(name, curve.errors), **line_style(i), label=method)
        if method in levels and len(set(levels.values())) > 1:  # such as with and without a filter in front
            ax.axhline(levels[method], color=line_style(i)["color"], linestyle="--", linewidth=1.1, label="source")
    if len(set(levels.values())) == 1:
        ax.axhline(next(iter(levels.values())), color=GRAY, linestyle="--", linewidth=1.3, label="source")
    ax.set_title(name)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    if log:
        make_logarithmic(ax.yaxis)
    else:
        start_at_zero(ax)


def _mean_or(name: str, errors: Mapping[str, Any]) -> Any:
    """Error or errors of a feature, or their mean over the features, NaN if one of them is NaN."""
    return errors[name] if name in errors else np.mean(list(errors.values()), axis=0)


@matplotlib.rc_context(STYLE)
def latent_loss(history: History, window: int = 25, log: bool = False) -> Figure:
    """Fig. 5: latent loss by batch, D- and G-phases shaded, their starts marked, with a moving mean.

    The loss of a training batch is computed in G-phases only; that of a fixed validation batch in both.

    Args:
        history: Log of the training, from :func:`~stan_ct.evaluation.measure.training_logs.read_history`.
        window: Number of batches in the moving mean, which does not cross the border of a phase.
        log: Whether the axis of the loss is logarithmic.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    ax = figure.subplots()
    batch = np.arange(len(history.phase))
    starts = phase_starts(history)
    _phases(ax, history, starts)
    rolled_back = _rollbacks(ax, history)
    many = len(batch) > DRAWN_AS_LINES
    ax.plot(batch, history.latent, ".", color=COLOURS[6], markersize=2.5, alpha=0.6, rasterized=many)
    ax.plot(batch, moving_mean(history.latent, starts, window), color=COLOURS[0], rasterized=many)
    measured = np.flatnonzero(~np.isnan(history.latent_validation))
    ax.plot(measured, history.latent_validation[measured], color=COLOURS[1], marker="s", markersize=3, linewidth=0.9)
    if log:
        make_logarithmic(ax.yaxis)
    elif np.isfinite([*history.latent, *history.latent_validation]).any():
        start_at_zero(ax)
    ax.set(xlabel="batch", ylabel="latent loss (Eq. 5)", xlim=(-0.5, len(batch) - 0.5))
    ax.grid(axis="x", visible=False)
    _versions(ax, history)
    figure.legend(handles=_latent_legend(window, rolled_back), loc="outside lower center", ncols=3)
    return figure


def phase_starts(history: History) -> np.ndarray:
    """Indices of the first batch of each phase, ascending int."""
    return np.flatnonzero(np.r_[True, np.diff(history.phases) != 0])


def moving_mean(values: np.ndarray, starts: np.ndarray, window: int) -> np.ndarray:
    """Mean of the last `window` defined values of the phase, (N,); NaN for undefined values.

    Example:
        >>> moving_mean(np.array([1.0, 3.0, 8.0, 5.0]), starts=np.array([0, 2]), window=2).tolist()
        [1.0, 2.0, 8.0, 6.5]
    """
    result = np.full(len(values), np.nan)
    for first, end in pairwise([*starts, len(values)]):
        at = first + np.flatnonzero(~np.isnan(values[first:end]))
        sums = np.r_[0.0, np.cumsum(values[at])]
        last = np.arange(1, len(at) + 1)
        begin = np.maximum(last - window, 0)
        result[at] = (sums[last] - sums[begin]) / (last - begin)
    return result


def _phases(ax: Axes, history: History, starts: np.ndarray) -> None:
    ends = np.r_[starts[1:], len(history.phase)]
    lined = len(starts) <= 60  # more lines than that would hide the curve
    for start, end in zip(starts, ends, strict=True):
        d = history.phase[start] == "d"
        ax.axvspan(start - 0.5, end - 0.5, color="#eceff3" if d else "#ffffff", linewidth=0, zorder=0)
        if lined:
            ax.axvline(start - 0.5, color="#000000" if d else COLOURS[2], linestyle="--" if d else "-", linewidth=0.9)


def _rollbacks(ax: Axes, history: History) -> bool:
    """Marks where a phase was rolled back to its start; returns whether there was any rollback."""
    back = np.flatnonzero((np.diff(history.attempt) > 0) & (np.diff(history.phases) == 0)) + 1
    if len(back):
        ax.plot(back - 0.5, np.full(len(back), 0.97), transform=ax.get_xaxis_transform(), **ROLLED_BACK)
    return len(back) > 0


def _versions(ax: Axes, history: History) -> None:
    """Draws an axis on top that marks where versions of G are complete, at most a dozen."""
    complete = np.flatnonzero(np.diff(history.version) > 0) + 1
    shown = complete[:: max(1, -(-len(complete) // 12))]
    top = ax.secondary_xaxis("top")
    top.set_xticks(shown - 0.5, [f"v{history.version[i]}" for i in shown], fontsize=8)


def _latent_legend(window: int, rolled_back: bool) -> list[Line2D]:
    handles = [
        Line2D([], [], color=COLOURS[6], marker=".", linestyle="", label="training batch"),
        Line2D([], [], color=COLOURS[0], label=f"moving mean of {window}"),
        Line2D([], [], color=COLOURS[1], marker="s", markersize=3, linewidth=0.9, label="fixed validation batch"),
        Line2D([], [], color="#000000", linestyle="--", linewidth=0.9, label="start of a D-phase (shaded)"),
        Line2D([], [], color=COLOURS[2], linewidth=0.9, label="start of a G-phase"),
    ]
    return handles + ([Line2D([], [], **ROLLED_BACK, label="rolled back")] if rolled_back else [])
