"""A report as one page that needs no network, no script and no file beside it."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from html import escape

from stan_ct.report.sections import Cell, FigureSection, Provenance, Report, Table, Text, heading, mark

STYLE = """
:root{color-scheme:light dark;--page:#fff;--ink:#1d2329;--soft:#5a6570;--line:#d9dfe5;--band:#f5f7f9;--best:#e3f0e8;
--accent:#0b5c8a;--card:#fff}
@media (prefers-color-scheme:dark){:root{--page:#14181c;--ink:#e4e8ec;--soft:#9aa6b1;--line:#323a42;--band:#1b2127;
--best:#1d3a2b;--accent:#7cc0ea;--card:#fff}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;scroll-behavior:smooth}
body{margin:0 auto;padding:2.5rem 1.25rem 4rem;max-width:72rem;background:var(--page);color:var(--ink);
font:16px/1.6 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
header{border-bottom:3px solid var(--accent);padding-bottom:1rem;margin-bottom:1.5rem}
h1{font-size:clamp(1.5rem,4vw,2.2rem);line-height:1.2;margin:0 0 .4rem;text-wrap:balance}
h2{font-size:1.3rem;line-height:1.3;margin:0 0 .6rem;text-wrap:balance}
h3{font-size:1rem;margin:1.4rem 0 .4rem}
a{color:var(--accent);text-underline-offset:.15em}
header p{margin:0;color:var(--soft)}
nav{background:var(--band);border-radius:.6rem;padding:.9rem 1.2rem;margin-bottom:2rem}
nav strong{display:block;margin-bottom:.2rem}
nav ol{margin:0;padding-left:1.4rem;columns:2 20rem;column-gap:2.5rem}
nav li{break-inside:avoid;padding:.1rem 0}
section{margin:0 0 2.75rem;scroll-margin-top:1rem}
section>p,section>ul{max-width:46rem}
p{margin:.5rem 0}
.scroll{overflow-x:auto;margin:.8rem 0;border:1px solid var(--line);border-radius:.6rem}
table{border-collapse:collapse;width:100%;font-size:.92rem;font-variant-numeric:tabular-nums}
th,td{padding:.5rem .9rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap;vertical-align:top}
tr:last-child>*{border-bottom:0}
thead>tr>*{background:var(--band);vertical-align:bottom}
th:first-child,td:first-child{text-align:left}
th:first-child,td:first-child{position:sticky;left:0;z-index:1}
tbody th{background:var(--page);font-weight:500;max-width:16rem;min-width:8rem;white-space:normal}
tr.reference>*{color:var(--soft);font-style:italic}
td.best{background:var(--best);font-weight:700}
td small{display:block;color:var(--soft);font-weight:400;font-size:.82em}
sup{line-height:0}
.notes{font-size:.88rem;color:var(--soft);margin:.4rem 0;padding:0;list-style:none}
.notes li{margin:.15rem 0}
figure{margin:.8rem 0}
figure img{display:block;width:100%;height:auto;background:var(--card);border:1px solid var(--line);border-radius:.6rem;
padding:.6rem}
figcaption{margin-top:.6rem;color:var(--soft);font-size:.92rem;max-width:60rem}
pre{background:var(--band);border-radius:.6rem;padding:.9rem 1.1rem;overflow-x:auto;white-space:pre-wrap;
overflow-wrap:anywhere;font-size:.85rem}
table.plain th,table.plain td{text-align:left;white-space:normal;overflow-wrap:anywhere}
table.plain th{width:14rem;min-width:9rem}
footer{color:var(--soft);font-size:.88rem;border-top:1px solid var(--line);padding-top:1rem}
@media (max-width:40rem){.wide img{width:44rem;max-width:none}.wide{overflow-x:auto}
body{padding-top:1.25rem}th,td{padding:.4rem .55rem}tbody th{max-width:9rem;min-width:6.5rem}}
@media print{@page{margin:15mm}:root{--page:#fff;--ink:#000;--soft:#444;--line:#bbb;--band:#f2f2f2;--best:#e3f0e8;
--accent:#000;--card:#fff}body{padding:0;max-width:none;font-size:10pt}nav{display:none}.scroll{overflow:visible;border:0}
table{font-size:8pt}th,td{padding:.25rem .4rem}th:first-child,td:first-child{position:static}figure,tr{break-inside:avoid}
h2,h3{break-after:avoid}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
"""

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""The browser itself refuses whatever is not in the page."""


def page(report: Report, pictures: Mapping[str, Mapping[str, bytes]]) -> str:
    """The page.

    Args:
        report: What to show.
        pictures: Name of a figure -> file name -> content, PNG or SVG.
    Returns:
        HTML.
    """
    sections = [_section(section, pictures) for section in report.sections]
    headings = [heading(section) for section in report.sections]
    body = [f'<section id="s{i}">{content}</section>' for i, content in enumerate(sections)]
    entries = [f'<li><a href="#s{i}">{escape(text)}</a></li>' for i, text in enumerate(headings) if text]
    entries.append('<li><a href="#provenance">Provenance</a></li>')
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        f"<title>{escape(report.title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<header><h1>{escape(report.title)}</h1><p>Research use only. Not for diagnosis.</p></header>\n"
        f'<nav aria-label="Contents"><strong>Contents</strong><ol>{"".join(entries)}</ol></nav>\n'
        f"<main>\n{chr(10).join(body)}\n{_provenance(report.provenance)}\n</main>\n"
        f"<footer>Made {escape(report.provenance.created)}. The numbers in full precision are in the CSV files and in "
        "report.json beside this page.</footer>\n</body>\n</html>\n"
    )


def _section(section: Text | Table | FigureSection, pictures: Mapping[str, Mapping[str, bytes]]) -> str:
    title = f"<h2>{escape(heading(section))}</h2>" if heading(section) else ""
    if isinstance(section, Text):
        return title + paragraphs(section.text)
    if isinstance(section, Table):
        return f"{title}<p>{escape(section.caption)}</p>{_table(section)}{_notes(section)}"
    source, caption = _source(pictures[section.name]), escape(section.caption)
    alt = escape(f"{section.name}. {section.caption}")
    return f'{title}<figure><div class="wide"><img alt="{alt}" src="{source}"></div><figcaption>{caption}</figcaption></figure>'


def paragraphs(text: str) -> str:
    """Paragraphs, parted by blank lines; lines that start with "- " make a list; what stands in ** is strong."""
    made = []
    for block in text.strip().split("\n\n"):
        lines = block.strip().splitlines()
        if lines and all(line.startswith("- ") for line in lines):
            made.append("<ul>" + "".join(f"<li>{_strong(line[2:])}</li>" for line in lines) + "</ul>")
        elif lines:
            made.append(f"<p>{_strong(' '.join(lines))}</p>")
    return "".join(made)


def _strong(text: str) -> str:
    return re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", escape(text))


def _table(table: Table) -> str:
    best = {column: table.best(column) for column in table.columns}
    rows = []
    for row, cells in table.rows.items():
        kind = ' class="reference"' if row in table.reference else ""
        shown = [_cell(table, column, c, row in best[column]) for column, c in zip(table.columns, cells, strict=True)]
        rows.append(f'<tr{kind}><th scope="row">{escape(row)}</th>{"".join(shown)}</tr>')
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in table.columns)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(table.title)}"><table>'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cell(table: Table, column: str, cell: Cell, best: bool) -> str:
    mean, interval = table.texts(cell, column)
    note = f"<sup>{mark(list(table.footnotes).index(cell.reason))}</sup>" if cell.reason else ""
    small = f"<small>{interval}</small>" if interval else ""
    kind = ' class="best"' if best else ""
    return f"<td{kind}>{mean}{note}{small}</td>"


def _notes(table: Table) -> str:
    footnotes = [f"<sup>{mark(i)}</sup> {escape(text)}" for i, text in enumerate(table.footnotes.values())]
    lines = "".join(f"<li>{note}</li>" for note in [*footnotes, *map(escape, table.notes)])
    return f'<ul class="notes">{lines}</ul>' if lines else ""


def _source(files: Mapping[str, bytes]) -> str:
    """Of PNG and SVG the better one: lines as SVG, pictures made of pixels as PNG."""
    kinds = {name.rsplit(".", 1)[1]: content for name, content in files.items()}
    lines = "svg" in kinds and ("png" not in kinds or b"<image" not in kinds["svg"])
    kind, content = ("svg+xml", kinds["svg"]) if lines else ("png", kinds["png"])
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _provenance(provenance: Provenance) -> str:
    parts = [f"<h2>Provenance</h2><pre>{escape(provenance.command)}</pre>"]
    for title, values in provenance.parts().items():
        rows = "".join(f'<tr><th scope="row">{escape(str(k))}</th><td>{escape(v)}</td></tr>' for k, v in values.items())
        parts.append(f'<h3>{escape(title)}</h3><div class="scroll"><table class="plain"><tbody>{rows}</tbody></table></div>')
    return f'<section id="provenance">{"".join(parts)}</section>'
