"""A report for readers of plain text: Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from stan_ct.report.blocks import Block, Facts, Group, Legend, Link, Listing, Notice, Status, Tally, Text, Tiles
from stan_ct.report.sections import Cell, FigureSection, Report, Section, Table, mark


def to_markdown(report: Report, images: Mapping[str, Mapping[str, bytes]]) -> str:
    """The report as Markdown.

    Args:
        report: Report.
        images: Name of a figure -> file name -> content; the files are expected beside the text.
    """
    parts = [f"# {report.title}"]
    for section in report.sections:
        parts += _section(section, images)
    parts += ["## Provenance", f"```\n{report.provenance.command}\n```"]
    for heading, values in report.provenance.parts().items():
        parts.append(f"{heading}:\n\n{_facts(values)}")
    return "\n\n".join(parts) + "\n"


def summary(report: Report) -> str:
    """What a terminal shows: the first table of each part of the report."""
    shown: list[str] = []
    for before, section in pairwise(report.sections):
        if isinstance(before, Text) and isinstance(section, Table):
            shown += _table(section)
    return "\n\n".join(shown)


def _section(section: Section, images: Mapping[str, Mapping[str, bytes]]) -> list[str]:
    if isinstance(section, Table):
        return _table(section)
    if isinstance(section, FigureSection):
        shown = sorted(images[section.name])[0]  # the PNG, where there are both
        return [f"## {section.name}", f"![{section.name}]({shown})", section.caption]
    if isinstance(section, Text):
        return ([f"## {section.heading}"] if section.heading else []) + [section.text.strip()]
    return _group(section)


def _group(group: Group) -> list[str]:
    status = f" ({group.status.words})" if group.status else ""
    return [f"## {group.heading}{status}", *map(_block, group.blocks)]


def _block(block: Block) -> str:
    if isinstance(block, Text):
        return (f"**{block.heading}**\n\n" if block.heading else "") + block.text.strip()
    if isinstance(block, Notice):
        return f"> {block.text}"
    if isinstance(block, Tally):
        return "\n".join(f"- {count} {status.words}" for count, status in block.counts)
    if isinstance(block, Facts):
        return _facts(block.values)
    if isinstance(block, Listing):
        return _grid(block.columns, [[_words(cell) for cell in row] for row in block.rows])
    if isinstance(block, Tiles):
        return f"![{block.caption}: {', '.join(block.labels)}]({block.file})"
    return _legend(block)


def _legend(legend: Legend) -> str:
    bars = [f"- {bar.label}: {bar.ticks[0]} to {bar.ticks[-1]}" for bar in legend.bars]
    return "\n".join([*bars, *(f"- {colour}: {meaning}" for meaning, colour in legend.swatches.items())])


def _words(cell: str | Status | Link) -> str:
    return _escaped(cell if isinstance(cell, str) else cell.words)


def _facts(values: Mapping[str, str]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in values.items())


def _grid(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(map(_escaped, columns)) + " |", "|---" * len(columns) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


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
