"""Figures of slices: source, output and target side by side, and artefacts of reconstruction (the paper's Fig. 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from stan_ct.ct.display_windows import LUNG_WINDOW, SOFT_TISSUE_WINDOW, DisplayWindow
from stan_ct.report.plots import COLOURS, STYLE

WINDOWS = {"lung": LUNG_WINDOW, "soft tissue": SOFT_TISSUE_WINDOW}
"""Rows of an image panel: name -> display window."""
DIFFERENCE = 0.2
"""Differences are shown from minus to plus this fraction of the window's width."""
CROP = 128
"""Side of the magnified part of a slice, px."""

Box = tuple[int, int, int, int]
"""Part of a slice: first row, first column, height, width, px."""

Style = dict[str, Any]
"""Keyword arguments of matplotlib's lines."""

LEGEND_BACKGROUND = "#6b747e"
"""Gray on which lines that are drawn on slices show."""
FOUND: Style = {"color": COLOURS[1], "linewidth": 1.8}
BORDER: Style = {"color": COLOURS[5], "linewidth": 1.2, "linestyle": (0, (1, 1.5))}
MAGNIFIED: Style = {"color": "#ffffff", "linewidth": 1.3, "linestyle": (0, (4, 2))}


@matplotlib.rc_context(STYLE)
def image_panel(
    source: np.ndarray,
    output: np.ndarray,
    target: np.ndarray | None,
    windows: Mapping[str, DisplayWindow] = WINDOWS,
) -> Figure:
    """Source | output | target | output - target, a row per window; without a target, output - source.

    Args:
        source: Source slice, (H, W) HU.
        output: Standardized slice, (H, W) HU.
        target: Slice of the standard protocol, (H, W) HU, or None.
        windows: Name -> display window.
    Raises:
        ValueError: If the slices differ in shape.
    """
    images = {"source": source, "output": output} | ({} if target is None else {"target": target})
    against = "source" if target is None else "target"
    _require_equal_shapes(images)
    columns, height = len(images) + 1, source.shape[0] / source.shape[1]
    figure = Figure(figsize=(3.5 * columns + 0.9, (3.5 * height + 0.1) * len(windows) + 0.25), layout="compressed")
    axes = figure.subplots(len(windows), columns, squeeze=False)
    for row, (name, window) in zip(axes, windows.items(), strict=True):
        for ax, image in zip(row, images.values(), strict=False):
            _show(ax, image, window)
        _label(row[0], name, window)
        shown = _difference(row[-1], output - images[against], window)
        figure.colorbar(shown, ax=row[-1], label="difference, HU", shrink=0.8, aspect=25)
    for ax, title in zip(axes[0], [*images, f"output - {against}"], strict=True):
        ax.set_title(title)
    return figure


@matplotlib.rc_context(STYLE)
def artefacts(
    straightforward_hu: np.ndarray,
    stan_ct_hu: np.ndarray,
    source_hu: np.ndarray,
    findings: Mapping[str, Sequence[Box]] | None = None,
    borders: Sequence[Box] = (),
    window: DisplayWindow = LUNG_WINDOW,
    crop: Box | None = None,
) -> Figure:
    """Fig. 4: source, straightforward and STAN-CT reconstruction; below a part of them magnified, and its differences.

    Args:
        straightforward_hu: Slice reconstructed without checks, (H, W) HU.
        stan_ct_hu: The same slice reconstructed with all checks, (H, W) HU.
        source_hu: Source slice, (H, W) HU.
        findings: "straightforward" or "stan_ct" -> boxes around what the quality control found.
        borders: Patches of the straightforward method, drawn dotted.
        window: Display window.
        crop: Magnified part; by default around the first finding, or where the two methods differ most.
    Raises:
        ValueError: If the slices differ in shape, or `findings` has another key.
    """
    images = {"source": source_hu, "straightforward": straightforward_hu, "stan_ct": stan_ct_hu}
    _require_equal_shapes(images)
    findings = findings or {}
    if unknown := set(findings) - {"straightforward", "stan_ct"}:
        raise ValueError(f'findings are of "straightforward" or "stan_ct", not {sorted(unknown)}')
    crop = crop or _crop(images, [box for boxes in findings.values() for box in boxes])
    part = np.s_[crop[0] : crop[0] + crop[2], crop[1] : crop[1] + crop[3]]
    figure = Figure(figsize=(11, 11), layout="compressed")
    axes = figure.subplots(3, 3)
    titles = {"source": "source", "straightforward": "straightforward", "stan_ct": "STAN-CT"}
    for (whole, magnified, changed), (name, image) in zip(axes.T, images.items(), strict=True):
        _show(whole, image, window)
        _show(magnified, image[part], window)
        _boxes(whole, borders if name == "straightforward" else (), BORDER)
        _boxes(whole, findings.get(name, ()), FOUND)
        _boxes(whole, [crop], MAGNIFIED)
        whole.set_title(titles[name])
        if name != "source":
            shown = _difference(changed, image[part] - source_hu[part], window)
            changed.set_title(f"{titles[name]} - source, magnified")
    _label(axes[0, 0], "slice", window)
    _label(axes[1, 0], "magnified", window)
    _explain(axes[2, 0], shown, _legend(borders))
    return figure


def _explain(ax: Axes, differences: AxesImage, handles: list[Line2D]) -> None:
    """Draws the legend and the colour bar of the differences into empty axes."""
    ax.set_axis_off()
    ax.set_box_aspect(1)
    ax.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, 0.85),
        facecolor=LEGEND_BACKGROUND,
        labelcolor="white",
        frameon=True,
    )
    scale = ax.inset_axes((0.1, 0.3, 0.8, 0.05))
    ax.figure.colorbar(differences, cax=scale, orientation="horizontal", label="difference, HU")


def _crop(images: Mapping[str, np.ndarray], found: Sequence[Box]) -> Box:
    """A square of `CROP` pixels (less in a smaller slice) around the first finding, or the largest difference of methods."""
    height, width = images["source"].shape
    if found:
        row, column, tall, wide = found[0]
        center = (row + tall // 2, column + wide // 2)
    else:
        difference = np.abs(images["straightforward"] - images["stan_ct"])
        peak = np.unravel_index(np.argmax(difference), difference.shape)
        center = (int(peak[0]), int(peak[1]))
    tall, wide = min(CROP, height), min(CROP, width)
    row, column = (int(np.clip(c - s // 2, 0, n - s)) for c, s, n in zip(center, (tall, wide), (height, width), strict=True))
    return row, column, tall, wide


def _show(ax: Axes, hu: np.ndarray, window: DisplayWindow) -> None:
    """Draws a slice in gray."""
    _bare(ax).imshow(hu, cmap="gray", vmin=window.low, vmax=window.high)


def _difference(ax: Axes, hu: np.ndarray, window: DisplayWindow) -> AxesImage:
    """Draws a difference: blue where it is negative, red where it is positive, white in between."""
    return _bare(ax).imshow(hu, cmap="RdBu_r", vmin=-DIFFERENCE * window.width, vmax=DIFFERENCE * window.width)


def _bare(ax: Axes) -> Axes:
    ax.set(xticks=[], yticks=[], frame_on=False)
    ax.grid(visible=False)
    return ax


def _label(ax: Axes, name: str, window: DisplayWindow) -> None:
    ax.set_ylabel(f"{name}\nL {window.center:g} W {window.width:g}")


def _boxes(ax: Axes, boxes: Sequence[Box], style: Style) -> None:
    for row, column, height, width in boxes:
        ax.add_patch(Rectangle((column - 0.5, row - 0.5), width, height, fill=False, **style))


def _legend(borders: Sequence[Box]) -> list[Line2D]:
    handles = [Line2D([], [], label="finding of the quality control", **FOUND)]
    handles += [Line2D([], [], label="border of a patch", **BORDER)] if borders else []
    return [*handles, Line2D([], [], label="magnified below", **MAGNIFIED)]


def _require_equal_shapes(images: Mapping[str, np.ndarray]) -> None:
    shapes = {name: np.shape(image) for name, image in images.items()}
    if len(set(shapes.values())) > 1 or len(next(iter(shapes.values()))) != 2:
        raise ValueError(f"expected slices (H, W) of one shape, got {shapes}")
