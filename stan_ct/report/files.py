"""A report as files: a page, Markdown, JSON, a CSV per table, and figures as PNG and SVG."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stan_ct.files import write_together
from stan_ct.report.blocks import Group, Text
from stan_ct.report.html import page
from stan_ct.report.markdown import to_markdown
from stan_ct.report.sections import COLUMNS, Cell, FigureSection, Report, Section, Table, file_name, key_of

PNG = b"\x89PNG\r\n\x1a\n"
"""First bytes of a PNG file."""
DPI = 160
"""Resolution of a figure's PNG, pixels per inch."""

Images = Mapping[str, Mapping[str, bytes]]
"""Name of a figure -> file name -> content."""


def write_report(report: Report, output_dir: Path, beside: Mapping[str, str] | None = None) -> list[Path]:
    """Writes `report.html`, `report.md`, `report.json`, a CSV per table, and the figures; all of them or none.

    Args:
        report: Report; equal reports give equal bytes.
        output_dir: Folder, created if needed. Files of other names in it are kept.
        beside: File name -> text of further files that are written with the report, such as the flags.
    Returns:
        Paths of the files.
    Raises:
        ValueError: If the bytes of a figure are neither PNG nor SVG.
        OSError: If the directory cannot be written.
    """
    images = {s.name: render(s) for s in report.sections if isinstance(s, FigureSection)}
    files: dict[str, str | bytes] = {f"{file_name(s)}.csv": to_csv(s) for s in report.sections if isinstance(s, Table)}
    for image_files in images.values():
        files |= image_files
    files |= {"report.md": to_markdown(report, images), "report.json": to_json(report, images)}
    files["report.html"] = page(report, images)
    files |= {**report.beside, **(beside or {})}
    write_together(output_dir, files)
    return [output_dir / name for name in files]


def render(figure: FigureSection) -> dict[str, bytes]:
    """File name -> content: PNG and SVG of a matplotlib figure, or the bytes that the section holds."""
    import matplotlib  # takes long; pages without figures do without it

    name = file_name(figure)
    if isinstance(figure.image, bytes):
        if figure.image.startswith(PNG):
            return {f"{name}.png": figure.image}
        if b"<svg" in figure.image[:4096]:
            return {f"{name}.svg": figure.image}
        raise ValueError(f"figure {figure.name!r}: expected a matplotlib figure, or the bytes of a PNG or SVG file")
    files = {}
    removed: dict[str, dict[str, Any]] = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}
    for suffix, metadata in removed.items():
        with matplotlib.rc_context({"svg.hashsalt": name}), io.BytesIO() as buffer:
            figure.image.savefig(buffer, format=suffix, dpi=DPI, metadata=metadata)
            files[f"{name}.{suffix}"] = buffer.getvalue()
    return files


def to_csv(table: Table) -> str:
    """One line per cell: `COLUMNS` and the table's identity, numbers in full precision, empty where a number is missing."""
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
    """A NumPy number as a Python number; anything else unchanged."""
    return number.item() if hasattr(number, "item") else number


def to_json(report: Report, images: Images) -> str:
    """Everything but the images, which are named; NaN is null, infinity "inf"."""
    sections = [_section(section, images) for section in report.sections]
    content = {"title": report.title, "sections": sections, "provenance": asdict(report.provenance)}
    return json.dumps(_plain(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _section(section: Section, images: Images) -> dict[str, Any]:
    if isinstance(section, FigureSection):
        return {"kind": "figure", "name": section.name, "caption": section.caption, "files": list(images[section.name])}
    if isinstance(section, Text):
        return {"kind": "text", **asdict(section)}
    if isinstance(section, Group):
        blocks = [{"kind": type(block).__name__.lower(), **asdict(block)} for block in section.blocks]
        return {"kind": "group", **asdict(section), "blocks": blocks}
    best = {column: [row for row in section.rows if row in section.best(column)] for column in section.columns}
    rows = {row: dict(zip(section.columns, map(asdict, cells), strict=True)) for row, cells in section.rows.items()}
    found = {"key": key_of(section), "rows": rows, "best": best, "file": f"{file_name(section)}.csv"}
    return {"kind": "table", **asdict(section), **found}


def _plain(value: Any) -> Any:
    """A value as JSON holds it: sets sorted, NumPy numbers as Python's, paths and the like as text."""
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
