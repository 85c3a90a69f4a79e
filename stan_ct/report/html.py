"""A report as one page that needs no script and no network: Jinja2 templates that escape whatever they are given."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from stan_ct.report.blocks import Group, Tiles
from stan_ct.report.sections import Cell, Report, Table, heading, mark

EMBEDDED = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""Content security policy of a page without linked images: the browser itself refuses whatever is not in the page."""
LINKED = "default-src 'none'; img-src 'self' file: data:; style-src 'unsafe-inline'"
"""The same for a page with image files beside it."""


def page(report: Report, images: Mapping[str, Mapping[str, bytes]] | None = None) -> str:
    """The page as HTML.

    Args:
        report: Report.
        images: Name of a figure -> file name -> content, PNG or SVG; figures are embedded. The files that `Tiles` name are
            linked.
    """
    linked = any(isinstance(b, Tiles) for section in report.sections if isinstance(section, Group) for b in section.blocks)
    sources = {name: _data_uri(files) for name, files in (images or {}).items()}
    sections = [(getattr(section, "anchor", "") or f"s{i}", section) for i, section in enumerate(report.sections)]
    template = _environment().get_template("page.html.j2")
    return template.render(report=report, sections=sections, sources=sources, policy=LINKED if linked else EMBEDDED)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("stan_ct.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"paragraphs": _paragraphs, "strong": _strong, "heading": heading}
    environment.tests["kind"] = lambda part, name: type(part).__name__ == name
    environment.globals |= {"heading": heading, "mark": mark, "cell_texts": _cell_texts}
    return environment


def _paragraphs(text: str) -> list[tuple[str, list[str]]]:
    """("p", [text]) for a paragraph, ("ul", items) for a block of lines that start with "- "; blank lines separate them."""
    blocks = [block.strip().splitlines() for block in text.strip().split("\n\n") if block.strip()]
    return [
        ("ul", [line[2:] for line in lines]) if all(line.startswith("- ") for line in lines) else ("p", [" ".join(lines)])
        for lines in blocks
    ]


def _strong(text: str) -> Markup:
    """Escaped text in which ** marks strong words."""
    return Markup(re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", str(escape(text))))


def _cell_texts(table: Table, column: str, cell: Cell) -> tuple[str, str, str]:
    """Mean, confidence interval and mark of the footnote of a cell; empty where there is none."""
    mean, interval = table.texts(cell, column)
    return mean, interval, mark(list(table.footnotes).index(cell.reason)) if cell.reason else ""


def _data_uri(files: Mapping[str, bytes]) -> str:
    """The better one of PNG and SVG: drawings as SVG, images made of pixels as PNG."""
    kinds = {name.rsplit(".", 1)[1]: content for name, content in files.items()}
    vector = "svg" in kinds and ("png" not in kinds or b"<image" not in kinds["svg"])
    kind, content = ("svg+xml", kinds["svg"]) if vector else ("png", kinds["png"])
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
