"""A report as data: text, tables, figures and groups of blocks in reading order, and their provenance.

:mod:`~stan_ct.report.files` writes it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stan_ct.report.blocks import Group, Link, Text

if TYPE_CHECKING:  # matplotlib takes long to import, and pages without figures do without it
    from matplotlib.figure import Figure

COLUMNS = ("table", "row", "column", "mean", "sd", "ci_low", "ci_high", "n", "undefined")
"""Columns of a table's CSV file; the columns of its identity follow."""

BETTER = ("lower", "higher", "neither")


@dataclass(frozen=True)
class Cell:
    """A number of a table.

    Attributes:
        mean: Value; NaN if undefined.
        sd: Standard deviation, where there is one.
        low: Lower end of the confidence interval, where there is one.
        high: Upper end of the confidence interval, where there is one.
        n: Number of averaged values, where the number is an average.
        undefined: Number of values that are undefined and excluded from the average.
        reason: Reason why the mean, its interval (NaN) or some of the values are undefined; printed as a footnote.
    Raises:
        ValueError: If something is undefined without a reason, or the interval has one end only.
    """

    mean: float
    sd: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    undefined: int = 0
    reason: str = ""

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None):
            raise ValueError(f"expected both ends of a confidence interval or none, got [{self.low}, {self.high}]")
        without = math.isnan(self.mean) or math.isnan(self.low or 0)
        if (self.undefined or without) and not self.reason:
            raise ValueError(f"expected a reason for what is undefined, say why, got {self}")


@dataclass(frozen=True)
class Table:
    """Rows and columns of numbers.

    Attributes:
        title: Title, from which the name of the file is made.
        caption: Description of the numbers, printed above the table.
        columns: Column names.
        rows: Name of a row -> its cells, as many as columns.
        better: Values that are better, "lower", "higher" or "neither"; or the same by column.
        reference: Rows that do not compete for the best value, such as the source or numbers of the paper.
        decimals: Number of digits after the point; or the same by column.
        notes: Notes printed below the table, one per line.
        identity: Further columns of the CSV file with one value each, such as the kernel.
        key: Stable name for programs, of the CSV file and of the table in `report.json`: lower-case letters, digits and "_";
            by default those of the title.
    Raises:
        ValueError: If rows and columns do not fit, or a name is unknown.
    """

    title: str
    caption: str
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[Cell, ...]]
    better: str | Mapping[str, str] = "lower"
    reference: frozenset[str] = frozenset()
    decimals: int | Mapping[str, int] = 3
    notes: tuple[str, ...] = ()
    identity: Mapping[str, str] = field(default_factory=dict)
    key: str = ""

    def __post_init__(self) -> None:
        if self.key != slug(self.key):
            raise ValueError(
                f"table {self.title!r}: expected a key of a-z, 0-9 and _, such as {slug(self.key)!r}, got {self.key!r}"
            )
        wrong = {name: len(cells) for name, cells in self.rows.items() if len(cells) != len(self.columns)}
        if wrong or len(set(self.columns)) < len(self.columns):
            raise ValueError(f"table {self.title!r}: expected {len(self.columns)} different columns in every row, got {wrong}")
        if self.reference - set(self.rows):
            raise ValueError(f"table {self.title!r}: no such rows: {sorted(self.reference - set(self.rows))}")
        unknown = {direction for column in self.columns if (direction := self.direction(column)) not in BETTER}
        if unknown or set(self.identity) & set(COLUMNS):
            raise ValueError(f"table {self.title!r}: better is one of {BETTER}, not {unknown}; identity is none of {COLUMNS}")

    def direction(self, column: str) -> str:
        """Values of a column that are better, one of `BETTER`."""
        return self.better if isinstance(self.better, str) else self.better.get(column, "neither")

    def printed(self, value: float, column: str) -> str:
        """A number as the table prints it, with a true minus sign and without negative zero."""
        digits = self.decimals if isinstance(self.decimals, int) else self.decimals.get(column, 3)
        text = f"{value:.{digits}f}"
        if math.isnan(value):
            return "undefined"
        return (text if float(text) else text.lstrip("-")).replace("-", "\N{MINUS SIGN}").replace("inf", "\N{INFINITY}")

    def texts(self, cell: Cell, column: str) -> tuple[str, str]:
        """A cell as printed: mean with standard deviation, and confidence interval; empty where there is none."""
        mean, interval = self.printed(cell.mean, column), ""
        if not (cell.sd is None or math.isnan(cell.sd)):
            mean += f" \N{PLUS-MINUS SIGN} {self.printed(cell.sd, column)}"
        if cell.low is not None and cell.high is not None and not math.isnan(cell.low + cell.high):
            interval = f"[{self.printed(cell.low, column)}, {self.printed(cell.high, column)}]"
        return mean, interval

    def best(self, column: str) -> set[str]:
        """Rows with the best value of a column at printed precision; empty if fewer than two rows compete."""
        place = self.columns.index(column)
        means = {name: cells[place].mean for name, cells in self.rows.items() if name not in self.reference}
        means = {name: mean for name, mean in means.items() if not math.isnan(mean)}
        if len(means) < 2 or self.direction(column) == "neither":
            return set()
        best = min(means.values()) if self.direction(column) == "lower" else max(means.values())
        return {name for name, mean in means.items() if self.printed(mean, column) == self.printed(best, column)}

    @property
    def footnotes(self) -> dict[str, str]:
        """Reason given by a cell -> footnote, which counts the excluded values; in reading order."""
        found: dict[str, dict[str, list[str]]] = {}
        for row, cells in self.rows.items():
            for column, cell in zip(self.columns, cells, strict=True):
                excluded = found.setdefault(cell.reason, {}) if cell.reason else {}
                if cell.undefined:
                    excluded.setdefault(f"{cell.undefined:,} in {column}", []).append(row)
        return {reason: reason + _excluded(counts) for reason, counts in found.items()}


def _excluded(counts: Mapping[str, list[str]]) -> str:
    """End of a footnote: number and place of the values that were not averaged."""
    places = [f"{count} ({rows[0] if len(rows) == 1 else f'each of {len(rows)} rows'})" for count, rows in counts.items()]
    return f"; undefined and not averaged: {', '.join(places)}" if places else ""


@dataclass(frozen=True)
class FigureSection:
    """A figure with its caption.

    Attributes:
        name: Name, from which the names of the files are made.
        caption: Description of what is seen, printed below the figure and read to those who cannot see it.
        image: Figure of matplotlib, written as PNG and SVG; or the bytes of a PNG or SVG file, written unchanged.
    """

    name: str
    caption: str
    image: Figure | bytes


Section = Text | Table | FigureSection | Group


@dataclass(frozen=True)
class Provenance:
    """How the report was made: everything that is needed to make it again.

    Attributes:
        command: Command line.
        data: Name of an input -> description, such as a folder and its number of files.
        settings: Flag or setting -> value.
        seeds: Random process -> seed.
        models: Name of a model -> SHA-256.
        versions: Software -> version.
        created: Date and time; the only time in the report.
    """

    command: str
    data: Mapping[str, str]
    settings: Mapping[str, Any]
    seeds: Mapping[str, int]
    models: Mapping[str, str]
    versions: Mapping[str, str]
    created: str

    def parts(self) -> dict[str, dict[str, str]]:
        """Heading -> name -> value, as printed; without empty parts."""
        named = {"Data": self.data, "Settings": self.settings, "Seeds": self.seeds, "Models (SHA-256)": self.models}
        named |= {"Software": self.versions, "Made": {"created": self.created}}
        return {heading: {k: str(v) for k, v in values.items()} for heading, values in named.items() if values}


@dataclass(frozen=True)
class Report:
    """A title, sections in reading order, and their provenance.

    Attributes:
        title: Title.
        sections: Sections in reading order.
        provenance: How the report came about.
        note: Last line of the page: where to find more.
        back: Link above the title to the page that this one belongs to, or None.
        beside: File name -> text of further files that are written with the report.
    Raises:
        ValueError: If two tables or figures would be written to the same file.
    """

    title: str
    sections: tuple[Section, ...]
    provenance: Provenance
    note: str = "The numbers in full precision are in the CSV files and in report.json beside this page."
    back: Link | None = None
    beside: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [file_name(s) for s in self.sections if isinstance(s, Table | FigureSection)]
        if duplicates := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"tables and figures need different titles: {duplicates} would be written twice")


def heading(section: Section) -> str:
    """Entry of a section in the table of contents; empty for text without heading and for groups that are not listed."""
    if isinstance(section, Table):
        return section.title
    if isinstance(section, FigureSection):
        return section.name
    return section.heading if isinstance(section, Text) or section.listed else ""


def slug(text: str) -> str:
    """Letters and digits of a text, lower case, other characters as one "_".

    Example:
        >>> slug("Table 1, BL57 to BL64")
        'table_1_bl57_to_bl64'
    """
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def key_of(table: Table) -> str:
    """Stable name of a table: its key, or the slug of its title."""
    return table.key or slug(table.title)


def file_name(section: Table | FigureSection) -> str:
    """Name of the files of a table or figure, without suffix: key of the table, or slug of the figure's name."""
    kind, words = ("table", key_of(section)) if isinstance(section, Table) else ("figure", slug(section.name))
    return words if words.startswith((kind, "fig_")) else f"{kind}_{words}"


def mark(number: int) -> str:
    """Mark of a footnote by its number: a, b ... z, aa, ab ..."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    return (mark(number // 26 - 1) if number >= 26 else "") + letters[number % 26]
