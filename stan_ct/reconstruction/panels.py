"""Images of a few slices for the report: source, output, their difference, and what a change of kernel does not explain."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from stan_ct.ct.display_windows import LUNG_WINDOW, SOFT_TISSUE_WINDOW, DisplayWindow
from stan_ct.ct.filters import RadialFilter
from stan_ct.dicom.series import Series
from stan_ct.reconstruction.fidelity import residual
from stan_ct.reconstruction.wording import with_minus

SHOWN = (0.25, 0.5, 0.75)
"""Positions of the shown slices, as fractions of the series."""
WINDOWS = {"lung": LUNG_WINDOW, "soft-tissue": SOFT_TISSUE_WINDOW}
"""Name -> window in which source and output are shown."""
DIFFERENCE = 300.0
"""The image of output - source spans -DIFFERENCE to +DIFFERENCE HU."""
UNEXPLAINED = 60.0
"""The image of what a change of kernel does not explain spans -UNEXPLAINED to +UNEXPLAINED HU."""
COLOURS = ((5, 48, 97), (67, 147, 195), (247, 247, 247), (214, 96, 77), (103, 0, 31))
"""Colours of a difference, red, green, blue: at equal distances from the lowest value over zero to the highest."""
NOT_JUDGED = (125, 130, 135)
"""Colour of pixels that are not judged."""
FOLDER = "report_files"
"""Folder of the images, beside the report."""
QUALITY = 90
"""JPEG quality, percent."""

LABELS = (
    *(f"{image}, {window} window" for window in WINDOWS for image in ("source", "output")),
    "output \N{MINUS SIGN} source",
    "not explained by a change of kernel",
)
"""Labels of the six images of a panel, in reading order."""
COLUMNS = 2
"""Number of images beside each other in a panel."""


@dataclass(frozen=True)
class Panel:
    """The images of one slice.

    Attributes:
        caption: Which slice.
        file: Path relative to the report.
        shape: Height and width of one of the images, px.
        jpeg: Content of the file: `LABELS`, `COLUMNS` images a row. Empty if the file is already on disk.
    """

    caption: str
    file: str
    shape: tuple[int, int]
    jpeg: bytes = b""


def shown_slices(num_slices: int) -> list[int]:
    """Indices of the slices that the report shows."""
    return sorted({int(fraction * num_slices) for fraction in SHOWN})


def panels(
    series: Series,
    volume: np.ndarray,
    explained: RadialFilter,
    residuals: Mapping[int, tuple[np.ndarray, np.ndarray]] | None = None,
) -> list[Panel]:
    """Images of a few slices of a series.

    Args:
        series: Source.
        volume: (Z, H, W) float32 HU, the output.
        explained: Radial filter that explains the output best.
        residuals: Index of a slice -> result of :func:`~stan_ct.reconstruction.fidelity.residual`; the missing ones of
            :func:`shown_slices` are computed.
    """
    images, residuals = [], residuals or {}
    for z in shown_slices(len(volume)):
        source, output = series.volume[z], volume[z]
        rest, judged = residuals.get(z) or residual(series.slice(z), output, explained)
        caption = f"Slice {z + 1} of {len(volume)}, {with_minus(f'{series.instances[z].location + 0.0:g}')} mm"
        file = f"{FOLDER}/{file_name(series.files.name)}_{z + 1:04d}.jpg"
        images.append(Panel(caption, file, source.shape, _jpeg(source, output, rest, judged)))
    return images


def _jpeg(source: np.ndarray, output: np.ndarray, rest: np.ndarray, judged: np.ndarray) -> bytes:
    gray = [_gray(hu, window) for window in WINDOWS.values() for hu in (source, output)]
    unexplained = np.where(judged[..., None], in_colours(rest, UNEXPLAINED), np.array(NOT_JUDGED, np.uint8))
    tiles = [*gray, in_colours(output - source, DIFFERENCE), unexplained]
    rows = [np.hstack(tiles[i : i + COLUMNS]) for i in range(0, len(tiles), COLUMNS)]
    options = [cv2.IMWRITE_JPEG_QUALITY, QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    ok, jpeg = cv2.imencode(".jpg", np.ascontiguousarray(np.vstack(rows)[..., ::-1]), options)
    if not ok:
        raise RuntimeError("OpenCV could not encode a JPEG")
    return jpeg.tobytes()


def _gray(hu: np.ndarray, window: DisplayWindow) -> np.ndarray:
    return np.repeat(window.to_gray(hu)[..., None], 3, axis=-1)


def in_colours(difference: np.ndarray, limit: float) -> np.ndarray:
    """A difference in the colours of `COLOURS`.

    Args:
        difference: (H, W) HU.
        limit: Difference that has the last colour, HU; its negative has the first one.
    Returns:
        (H, W, 3) uint8, red, green, blue.
    Example:
        >>> in_colours(np.array([[-60.0, 0.0, 30.0]]), 60.0).tolist()
        [[[5, 48, 97], [247, 247, 247], [214, 96, 77]]]
    """
    stops = np.linspace(-limit, limit, len(COLOURS))
    channels = [np.interp(difference, stops, channel) for channel in zip(*COLOURS, strict=True)]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)


def file_name(series_name: str) -> str:
    """A name that is safe in files and addresses; different for different series."""
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", series_name).strip(".")
    return safe if safe == series_name else f"{safe}-{hashlib.sha256(series_name.encode()).hexdigest()[:8]}"
