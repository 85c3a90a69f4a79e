"""Blocks of a page that hold words and images rather than numbers: notices, facts, lists, images with a legend, groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Level = Literal["good", "caution", "bad", "neutral"]
"""A traffic light: green, amber, red; or gray, where there is nothing to judge."""


@dataclass(frozen=True)
class Text:
    """A heading (may be empty) and paragraphs.

    Attributes:
        heading: Heading; empty for none.
        text: Paragraphs, separated by blank lines; lines that start with "- " are a list, ** marks strong words.
    """

    heading: str
    text: str


@dataclass(frozen=True)
class Status:
    """A traffic light and the words beside it, for those who cannot tell its colour."""

    level: Level
    words: str


@dataclass(frozen=True)
class Link:
    """Words that lead to a group, or to another page.

    Attributes:
        words: Words.
        anchor: Anchor of the group; empty for the page as a whole.
        file: Path of the other page, relative to this one; empty for this page.
    """

    words: str
    anchor: str = ""
    file: str = ""


@dataclass(frozen=True)
class Notice:
    """A sentence that must not be overlooked."""

    level: Level
    text: str


@dataclass(frozen=True)
class Tally:
    """How many there are of each status."""

    counts: tuple[tuple[int, Status], ...]


@dataclass(frozen=True)
class Facts:
    """Names and what they are, such as properties of a series."""

    values: Mapping[str, str]


@dataclass(frozen=True)
class Listing:
    """A table of words.

    Attributes:
        columns: Column names.
        rows: Cells of each row, as many as columns.
    Raises:
        ValueError: If a row has another number of cells.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str | Status | Link, ...], ...]

    def __post_init__(self) -> None:
        if wrong := [row for row in self.rows if len(row) != len(self.columns)]:
            raise ValueError(f"expected {len(self.columns)} cells in every row ({', '.join(self.columns)}), got {wrong[0]}")


@dataclass(frozen=True)
class Tiles:
    """One image file that holds several images of equal size side by side, shown with a label each; a click enlarges them.

    Attributes:
        file: Path of the image file, relative to the page.
        caption: Caption of all the images.
        labels: Label of each image, in reading order.
        columns: Number of images in a row of the file.
        shape: Height and width of one image, px.
    Raises:
        ValueError: If the labels do not fill the rows.
    """

    file: str
    caption: str
    labels: tuple[str, ...]
    columns: int
    shape: tuple[int, int]

    def __post_init__(self) -> None:
        if not self.labels or len(self.labels) % self.columns:
            raise ValueError(f"expected labels for whole rows of {self.columns} images, got {len(self.labels)} labels")

    @property
    def num_rows(self) -> int:
        """Number of rows of images in the file."""
        return len(self.labels) // self.columns


@dataclass(frozen=True)
class ColourBar:
    """Scale of an image in false colours.

    Attributes:
        label: What is shown, with its unit.
        ticks: Values at equal distances along the bar, as printed.
        colours: Colours at equal distances along the bar, as CSS knows them.
    """

    label: str
    ticks: tuple[str, ...]
    colours: tuple[str, ...]


@dataclass(frozen=True)
class Legend:
    """How to read the images.

    Attributes:
        bars: Scales.
        swatches: Meaning -> colour, as CSS knows it.
    """

    bars: tuple[ColourBar, ...]
    swatches: Mapping[str, str]


Block = Text | Notice | Tally | Facts | Listing | Tiles | Legend


@dataclass(frozen=True)
class Group:
    """Blocks under one heading.

    Attributes:
        heading: Heading.
        blocks: Blocks in reading order.
        status: Traffic light beside the heading, or None.
        anchor: Name that a `Link` leads to: letters, digits, hyphens.
        folded: Whether the blocks are hidden until the heading is clicked.
        listed: Whether the table of contents names the group.
    """

    heading: str
    blocks: tuple[Block, ...]
    status: Status | None = None
    anchor: str = ""
    folded: bool = False
    listed: bool = True
