"""Display windows in the header of a derived slice: Window Center, Window Width and their explanation (0028,1050 to 1055)."""

from __future__ import annotations

import math
from typing import NamedTuple

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

from stan_ct.ct.display_windows import DisplayWindow
from stan_ct.dicom.encoding import element_bytes

CENTER, WIDTH, EXPLANATION = map(Tag, ("WindowCenter", "WindowWidth", "WindowCenterWidthExplanation"))
MAX_SOFT_WIDTH, LEAST_SOFT_LOW = 600.0, -300.0
"""A window for soft tissue is at most this wide, and its black begins at this HU or above: lung is black in it. HU."""
MAX_CENTER_DISTANCE, MAX_WIDTH_RATIO = 200.0, 1.5
"""Windows as near to each other as this, in HU and as a factor, are for the same tissue."""


class ListedWindow(NamedTuple):
    """A window of a header, as the bytes that it has there."""

    window: DisplayWindow
    center: bytes
    width: bytes
    explanation: bytes


def is_for_soft_tissue(window: DisplayWindow) -> bool:
    """Whether a window is one that goes with a soft kernel: soft tissue spread over the gray levels, lung black.

    Example:
        >>> [is_for_soft_tissue(DisplayWindow(*w)) for w in ((40, 400), (60, 350), (40, 80), (-600, 1500), (400, 1800))]
        [True, True, True, False, False]
    """
    return window.width <= MAX_SOFT_WIDTH and window.low >= LEAST_SOFT_LOW


def are_alike(one: DisplayWindow, other: DisplayWindow) -> bool:
    """Whether two windows are for the same tissue, such as the lung windows of two hospitals.

    Example:
        >>> are_alike(DisplayWindow(-600, 1500), DisplayWindow(-600, 1200))
        True
        >>> are_alike(DisplayWindow(-600, 1500), DisplayWindow(400, 1800))
        False
    """
    ratio = max(one.width, other.width) / min(one.width, other.width)
    return abs(one.center - other.center) <= MAX_CENTER_DISTANCE and ratio <= MAX_WIDTH_RATIO


def set_window(header: Dataset, window: DisplayWindow, explanation: str) -> None:
    """Puts a window before those of the source, whose first is one for soft tissue; viewers open with the first.

    Where the source lists a window for the same tissue, its own comes first instead. Every window of the source stays. Nothing
    changes where the source's first window is of another kind, or where it states none that can be read.

    Args:
        header: Header that is edited.
        window: Window of the standard protocol.
        explanation: What it is, ASCII without backslash, at most 64 characters.
    """
    listed = _listed(header)
    if not listed or not is_for_soft_tissue(listed[0].window):
        return
    own = [entry for entry in listed if are_alike(entry.window, window)]
    center, width = (f"{number:g}".encode() for number in window)
    first = own[:1] or [ListedWindow(window, center, width, explanation.encode())]
    ordered: dict[DisplayWindow, ListedWindow] = {}
    for entry in (*first, *listed):  # a window that is listed twice, as some scanners do, stays once
        ordered.setdefault(entry.window, entry)
    _set(header, CENTER, [entry.center for entry in ordered.values()])
    _set(header, WIDTH, [entry.width for entry in ordered.values()])
    _set(header, EXPLANATION, [entry.explanation for entry in ordered.values()])


def _listed(header: Dataset) -> list[ListedWindow]:
    """Windows of a header in their order; none if they cannot be read."""
    centers, widths, explanations = (_values(header, tag) for tag in (CENTER, WIDTH, EXPLANATION))
    if len(centers) != len(widths):
        return []
    if len(explanations) != len(centers):  # absent, or in a character set in which a backslash is half a character
        explanations = [b"SOURCE"] * len(centers)
    try:
        windows = [DisplayWindow(float(c), float(w)) for c, w in zip(centers, widths, strict=True)]
    except ValueError:
        return []
    if not all(math.isfinite(window.center) and 0 < window.width < math.inf for window in windows):
        return []
    return list(map(ListedWindow, windows, centers, widths, explanations))


def _values(header: Dataset, tag: BaseTag) -> list[bytes]:
    if tag not in header:
        return []
    text = element_bytes(header.get_item(tag), header.get("SpecificCharacterSet")).strip(b" \0")
    return [value.strip(b" \0") for value in text.split(b"\\")] if text else []


def _set(header: Dataset, tag: BaseTag, values: list[bytes]) -> None:
    text = b"\\".join(values)
    header[tag] = RawDataElement(tag, dictionary_VR(tag), len(text), text, 0, False, True)
