"""A report as files: Markdown, CSV, JSON, pictures, and a page (:mod:`~stan_ct.report.html`)."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib

from stan_ct.files import write_together
from stan_ct.report.html import page
from stan_ct.report.sections import COLUMNS, Cell, FigureSection, Report, Table, Text, file_name, mark

PNG = b"\x89PNG\r\n\x1a\n"
"""How a PNG file begins."""
DPI = 160
"""Pixels per inch of a figure's PNG."""

Pictures = Mapping[str, Mapping[str, bytes]]
"""Name of a figure -> file name -> content."""


def write_report(report: Report, output_dir: Path, beside: Mapping[str, str] | None = None) -> list[Path]:
    """Writes `report.html`, `report.md`, `report.json`, a CSV per table, and the figures; all of them or none.

    Args:
        report: What to write; equal reports give equal bytes.
        output_dir: Made if it does not exist. Files of other names that are there stay.
        beside: Name -> text of files that are written with them, such as the flags.
    Returns:
        The files.
    Raises:
        ValueError: If the bytes of a figure are no PNG or SVG.
        OSError: If the directory cannot be written.
    """
    pictures = {s.name: render(s) for s in report.sections if isinstance(s, FigureSection)}
    files: dict[str, str | bytes] = {f"{file_name(s)}.csv": to_csv(s) for s in report.sections if isinstance(s, Table)}
    for of_figure in pictures.values():
        files |= of_figure
    files |= {"report.md": to_markdown(report, pictures), "report.json": to_json(report, pictures)}
    files["report.html"] = page(report, pictures)
    files |= beside or {}
    write_together(output_dir, files)
    return [output_dir / name for name in files]


def render(figure: FigureSection) -> dict[str, bytes]:
    """File name -> content: PNG and SVG of a matplotlib figure, or the bytes that are there."""
    name = file_name(figure)
    if isinstance(figure.image, bytes):
        if figure.image.startswith(PNG):
            return {f"{name}.png": figure.image}
        if b"<svg" in figure.image[:4096]:
            return {f"{name}.svg": figure.image}
        raise ValueError(f"figure {figure.name!r}: expected a matplotlib figure, or bytes of PNG or SVG")
    made = {}
    metadata = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}
    for suffix, without in metadata.items():
        with matplotlib.rc_context({"svg.hashsalt": name}), io.BytesIO() as buffer:
            figure.image.savefig(buffer, format=suffix, dpi=DPI, metadata=without)
            made[f"{name}.{suffix}"] = buffer.getvalue()
    return made


def to_csv(table: Table) -> str:
    """One line per cell: `COLUMNS` and the table's identity, numbers in full precision, empty where there is none."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow([*COLUMNS, *table.identity])
    for row, cells in table.rows.items():
        for column, c in zip(table.columns, cells, strict=True):
            lines.writerow([table.title, row, column, *_numbers(c), *table.identity.values()])
    return text.getvalue()


def _numbers(cell: Cell) -> list[str]:
    numbers = (cell.mean, cell.sd, cell.low, cell.high, cell.n, cell.undefined)
    return ["" if number is None else repr(_python(number)) for number in numbers]


def _python(number: Any) -> Any:
    """NumPy's numbers as Python's."""
    return number.item() if hasattr(number, "item") else number


def to_json(report: Report, pictures: Pictures) -> str:
    """All but the pictures, which are named; NaN is null, infinity "inf"."""
    sections = [_section(section, pictures) for section in report.sections]
    content = {"title": report.title, "sections": sections, "provenance": asdict(report.provenance)}
    return json.dumps(_plain(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _section(section: Text | Table | FigureSection, pictures: Pictures) -> dict:
    if isinstance(section, FigureSection):
        return {"kind": "figure", "name": section.name, "caption": section.caption, "files": list(pictures[section.name])}
    if isinstance(section, Text):
        return {"kind": "text", **asdict(section)}
    best = {column: [row for row in section.rows if row in section.best(column)] for column in section.columns}
    rows = {row: dict(zip(section.columns, map(asdict, cells), strict=True)) for row, cells in section.rows.items()}
    return {"kind": "table", **asdict(section), "rows": rows, "best": best, "file": f"{file_name(section)}.csv"}


def _plain(value: Any) -> Any:
    """What JSON can hold: sets sorted, NumPy numbers as Python's, paths and the like as text."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    value = _python(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value if isinstance(value, str | int | float | None) else str(value)


def to_markdown(report: Report, pictures: Pictures) -> str:
    """The report for readers of plain text; pictures are the files beside it."""
    parts = [f"# {report.title}"]
    for section in report.sections:
        if isinstance(section, Table):
            parts += _table(section)
        elif isinstance(section, FigureSection):
            shown = sorted(pictures[section.name])[0]  # the PNG, where there are both
            parts += [f"## {section.name}", f"![{section.name}]({shown})", section.caption]
        else:
            parts += ([f"## {section.heading}"] if section.heading else []) + [section.text.strip()]
    parts += ["## Provenance", f"```\n{report.provenance.command}\n```"]
    for heading, values in report.provenance.parts().items():
        parts.append(f"{heading}:\n\n" + "\n".join(f"- {name}: {value}" for name, value in values.items()))
    return "\n\n".join(parts) + "\n"


def summary(report: Report) -> str:
    """What a terminal shows: of each part of the report the first table."""
    shown: list[str] = []
    for before, section in pairwise(report.sections):
        if isinstance(before, Text) and isinstance(section, Table):
            shown += _table(section)
    return "\n\n".join(shown)


def _table(table: Table) -> list[str]:
    lines = ["| | " + " | ".join(map(_escaped, table.columns)) + " |", "|---" + "|---:" * len(table.columns) + "|"]
    best = {column: table.best(column) for column in table.columns}
    for row, cells in table.rows.items():
        name = f"*{_escaped(row)}*" if row in table.reference else _escaped(row)
        texts = [_cell(table, column, c, row in best[column]) for column, c in zip(table.columns, cells, strict=True)]
        lines.append(f"| {name} | " + " | ".join(texts) + " |")
    footnotes = [f"<sup>{mark(i)}</sup> {text}" for i, text in enumerate(table.footnotes.values())]
    notes = "\n".join(f"- {note}" for note in [*footnotes, *table.notes])
    return [f"## {table.title}", table.caption, "\n".join(lines)] + ([notes] if notes else [])


def _cell(table: Table, column: str, cell: Cell, best: bool) -> str:
    mean, interval = table.texts(cell, column)
    text = " ".join(filter(None, [f"**{mean}**" if best else mean, interval]))
    return text + (f"<sup>{mark(list(table.footnotes).index(cell.reason))}</sup>" if cell.reason else "")


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
