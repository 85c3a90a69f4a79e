"""A report says the same in Markdown, CSV, JSON and HTML, and marks the best honestly."""

import csv
import io
import json
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.figure import Figure

from stan_ct.report.blocks import Text
from stan_ct.report.files import PNG, render, to_csv, to_json, write_report
from stan_ct.report.markdown import to_markdown
from stan_ct.report.sections import Cell, FigureSection, Provenance, Report, Table, file_name, mark

NAN = float("nan")
SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>'
PROVENANCE = Provenance(
    "python evaluate.py --seed 3", {"source": "2 slices"}, {"a<b": None}, {}, {"g": "ab12"}, {}, "2025-01-01"
)


def table(*rows, columns=("contrast",), **options):
    """A table with rows r0, r1 ... of means or cells."""
    cells = [tuple(c if isinstance(c, Cell) else Cell(c) for c in np.atleast_1d(np.array(row, object))) for row in rows]
    return Table("T & t", "Errors.", columns, {f"r{i}": row for i, row in enumerate(cells)}, **options)


def drawing():
    """A matplotlib figure with text, a line, and clipping, whose SVG has identifiers."""
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([0, 1], [0, 2])
    return figure


def example(image=None):
    """A report with a section of each kind."""
    cells = {
        "source": (Cell(1 / 3, 0.1, 0.25, 0.5, 10), Cell(0.01, n=10)),
        "A|B": (Cell(0.1, 0.02, 0.05, 0.2, 10), Cell(NAN, reason="flat <image>")),
        "C<d": (Cell(0.1004, n=8, undefined=2, reason="target is 0"), Cell(-0.0004)),
    }
    errors = Table(
        "Errors & more", "Eq. 8.", ("contrast", "energy"), cells, reference=frozenset({"source"}), identity={"kernel": "BL57"},
        notes=("Of 10 patches.",),
    )  # fmt: skip
    sections = (
        Text("Summary", "All **good** & <well>.\n\n- one\n- two"),
        errors,
        FigureSection("Curve", "A line.", image or drawing()),
    )
    return Report("STAN-CT & <friends>", sections, PROVENANCE)


# What is printed


def test_the_best_value_of_each_direction_is_marked():
    """The lowest error, the highest agreement, and nothing where neither is better."""
    assert table(0.3, 0.1, 0.2).best("contrast") == {"r1"}
    assert table(0.3, 0.1, 0.2, better="higher").best("contrast") == {"r0"}
    assert table(0.3, 0.1, 0.2, better="neither").best("contrast") == set()


def test_a_column_can_have_its_own_direction_and_precision():
    """One table holds errors, agreement, and a column that no one wins."""
    of = table([1, 1, 1], [2, 2, 2], columns=("e", "c", "x"), better={"e": "lower", "c": "higher"}, decimals={"e": 0})
    assert [of.best(column) for column in of.columns] == [{"r0"}, {"r1"}, set()]
    assert [of.printed(1.25, column) for column in ("e", "c")] == ["1", "1.250"]


def test_values_that_print_alike_are_all_the_best():
    """0.1004 and 0.0996 print as 0.100; 0.1006 does not."""
    assert table(0.1004, 0.0996, 0.1006).best("contrast") == {"r0", "r1"}
    assert table(-0.0004, 0.0004, 0.1).best("contrast") == {"r0", "r1"}  # no negative zero
    assert table(0.1004, 0.0996, decimals=4).best("contrast") == {"r1"}


def test_undefined_and_reference_rows_are_never_the_best():
    """A reference row may be lower, NaN may be anything; with one row left there is no competition."""
    undefined = Cell(NAN, reason="flat")
    assert table(0.0, 0.3, undefined, 0.2, reference=frozenset({"r0"})).best("contrast") == {"r3"}
    assert table(0.0, 0.3, undefined, reference=frozenset({"r0"})).best("contrast") == set()
    assert table(undefined, undefined).best("contrast") == set()


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.12345, "0.123"), (-0.5, "\N{MINUS SIGN}0.500"), (-0.0004, "0.000"), (NAN, "undefined"), (np.inf, "\N{INFINITY}")],
)
def test_numbers_as_printed(value, text):
    """Fixed digits, a true minus, no negative zero."""
    assert table(0.0).printed(value, "contrast") == text


def test_standard_deviation_and_interval_are_printed_where_there_are_any():
    """A NaN standard deviation (one value) is left out."""
    of = table(0.0)
    assert of.texts(Cell(1.0, 0.25, 0.5, 2.0), "contrast") == ("1.000 ± 0.250", "[0.500, 2.000]")
    assert of.texts(Cell(1.0, NAN), "contrast") == ("1.000", "")
    assert of.texts(Cell(1.0, None, NAN, NAN, reason="one patient"), "contrast") == ("1.000", "")


def test_footnotes_count_what_was_left_out():
    """One per reason, in reading order, with the number of values and where they are."""
    zero, flat = {"undefined": 12, "reason": "zero"}, Cell(NAN, reason="flat")
    of = table([Cell(1, **zero), flat], [Cell(2, **zero), Cell(3, undefined=1, reason="zero")], columns=("a", "b"))
    assert of.footnotes == {
        "zero": "zero; undefined and not averaged: 12 in a (each of 2 rows), 1 in b (r1)",
        "flat": "flat",
    }
    assert [mark(i) for i in (0, 25, 26, 27, 51, 52)] == ["a", "z", "aa", "ab", "az", "ba"]


@pytest.mark.parametrize(
    "wrong", [{"mean": NAN}, {"mean": 1, "undefined": 2}, {"mean": 1, "low": 0}, {"mean": 1, "low": NAN, "high": NAN}]
)
def test_cells_say_why_something_is_undefined(wrong):
    """Nothing is undefined without a reason, and an interval has two ends."""
    with pytest.raises(ValueError, match=r"say why|both ends"):
        Cell(**wrong)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"columns": ("a", "b")}, "2 different columns"),
        ({"reference": frozenset({"source"})}, "no such rows"),
        ({"better": "smaller"}, "smaller"),
        ({"identity": {"row": "1"}}, "identity"),
        ({"key": "Errors, BL57"}, "expected a key of a-z, 0-9 and _, such as 'errors_bl57'"),
    ],
)
def test_tables_refuse_what_does_not_fit(options, words):
    """Rows as long as columns, known rows and directions."""
    with pytest.raises(ValueError, match=words):
        table(0.1, 0.2, **options)


def test_two_sections_cannot_have_the_same_file():
    """Titles that differ in signs only make the same file name."""
    assert file_name(table(0.1)) == "table_t_t"
    assert file_name(FigureSection("Fig. 3: errors", "", PNG)) == "fig_3_errors"
    with pytest.raises(ValueError, match="table_t_t"):
        Report("", (table(0.1), table(0.2)), PROVENANCE)


def test_a_key_names_a_table_for_programs():
    """The CSV and the JSON go by the key, whatever the title says; without one, by the title."""
    keyed, plain = (
        json.loads(to_json(Report("", (of,), PROVENANCE), {}))["sections"][0] for of in (table(0.1, key="x_1"), table(0.1))
    )
    assert (keyed["key"], keyed["file"], keyed["title"]) == ("x_1", "table_x_1.csv", "T & t")
    assert (plain["key"], plain["file"]) == ("t_t", "table_t_t.csv")


# Files


def test_markdown():
    """The whole file: bold ties, italic reference row, footnotes, escaped bars, the commands to repeat it."""
    report = example()
    assert (
        to_markdown(report, {"Curve": {"curve.svg": b"", "curve.png": b""}})
        == """\
# STAN-CT & <friends>

## Summary

All **good** & <well>.

- one
- two

## Errors & more

Eq. 8.

| | contrast | energy |
|---|---:|---:|
| *source* | 0.333 ± 0.100 [0.250, 0.500] | 0.010 |
| A\\|B | **0.100 ± 0.020** [0.050, 0.200] | undefined<sup>a</sup> |
| C<d | **0.100**<sup>b</sup> | 0.000 |

- <sup>a</sup> flat <image>
- <sup>b</sup> target is 0; undefined and not averaged: 2 in contrast (C<d)
- Of 10 patches.

## Curve

![Curve](curve.png)

A line.

## Provenance

```
python evaluate.py --seed 3
```

Data:

- source: 2 slices

Settings:

- a<b: None

Models (SHA-256):

- g: ab12

Made:

- created: 2025-01-01
"""
    )


def test_csv_has_full_precision():
    """A line per cell, which reads back as the same number; nothing for what does not exist."""
    text = to_csv(example().sections[1])
    lines = list(csv.DictReader(io.StringIO(text)))
    assert text.splitlines()[0] == "table,row,column,mean,sd,ci_low,ci_high,n,undefined,kernel"
    assert [(line["row"], line["column"]) for line in lines[1:4]] == [
        ("source", "energy"),
        ("A|B", "contrast"),
        ("A|B", "energy"),
    ]
    first = {"table": "Errors & more", "row": "source", "column": "contrast", "kernel": "BL57"}
    assert lines[0] == first | {
        "mean": repr(1 / 3),
        "sd": "0.1",
        "ci_low": "0.25",
        "ci_high": "0.5",
        "n": "10",
        "undefined": "0",
    }
    assert lines[3]["mean"] == "nan"
    assert lines[5] | {"mean": "-0.0004", "sd": "", "ci_low": "", "ci_high": "", "n": "", "undefined": "0"} == lines[5]
    assert lines[4]["undefined"] == "2"


def test_numbers_of_numpy_are_numbers():
    """A cell may hold what NumPy computed."""
    of = table(Cell(np.float32(0.5), np.float64(0.25), n=np.int64(7)))
    assert to_csv(of).splitlines()[1] == "T & t,r0,contrast,0.5,0.25,,,7,0"
    cell = json.loads(to_json(Report("", (of,), PROVENANCE), {}))["sections"][0]["rows"]["r0"]["contrast"]
    assert cell == {"mean": 0.5, "sd": 0.25, "low": None, "high": None, "n": 7, "undefined": 0, "reason": ""}


def test_json_is_strict_and_complete():
    """NaN is null, infinity a word, and the best rows and the files are named."""

    def refuse(constant):
        raise AssertionError(constant)

    report = example()
    read = json.loads(to_json(report, {"Curve": {"curve.png": PNG}}), parse_constant=refuse)
    text, errors, curve = read["sections"]
    assert (read["title"], text["heading"], curve["files"]) == (report.title, "Summary", ["curve.png"])
    assert errors["rows"]["A|B"]["energy"] == {
        "mean": None, "sd": None, "low": None, "high": None, "n": None, "undefined": 0, "reason": "flat <image>"
    }  # fmt: skip
    assert errors["rows"]["source"]["contrast"]["mean"] == 1 / 3
    assert errors["best"] == {"contrast": ["A|B", "C<d"], "energy": []}
    assert (errors["reference"], errors["file"], errors["identity"]) == (
        ["source"],
        "table_errors_more.csv",
        {"kernel": "BL57"},
    )
    assert read["provenance"]["settings"] == {"a<b": None}
    infinite = to_json(Report("", (table(np.inf),), PROVENANCE), {})
    assert json.loads(infinite, parse_constant=refuse)["sections"][0]["rows"]["r0"]["contrast"]["mean"] == "inf"


def test_equal_reports_are_equal_bytes(tmp_path):
    """All files, pictures of matplotlib too; no time but the provenance's."""
    first, second = (write_report(example(), tmp_path / name) for name in "ab")
    assert [path.name for path in first] == [
        "table_errors_more.csv", "figure_curve.png", "figure_curve.svg", "report.md", "report.json", "report.html"
    ]  # fmt: skip
    assert [a.read_bytes() == b.read_bytes() for a, b in zip(first, second, strict=True)] == [True] * 6
    assert first[1].read_bytes().startswith(PNG)
    assert b"<dc:date>" not in first[2].read_bytes()


def test_pictures_are_written_as_they_are():
    """Bytes keep their kind; other bytes are refused."""
    assert render(FigureSection("a", "", PNG + b"1")) == {"figure_a.png": PNG + b"1"}
    assert render(FigureSection("a", "", SVG)) == {"figure_a.svg": SVG}
    with pytest.raises(ValueError, match="PNG or SVG"):
        render(FigureSection("a", "", b"GIF89a"))


def test_files_appear_together_or_not_at_all(tmp_path):
    """Neither a picture that cannot be drawn nor a name that is taken leaves half a report."""
    with pytest.raises(ValueError, match="PNG or SVG"):
        write_report(example(image=b"GIF89a"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "report.html").mkdir()
    with pytest.raises(IsADirectoryError, match=r"report\.html is a directory"):
        write_report(example(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


# The page


class Page(HTMLParser):
    """Tags, attributes and the text of each element, of a page whose tags must be balanced."""

    VOID = frozenset({"meta", "img", "br", "!doctype"})

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.text = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        element = (tag, dict(attrs), [])
        self.elements.append(element)
        if tag not in self.VOID:
            self.open.append(element)

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for _, _, text in self.open:
            text.append(data)

    def find(self, tag, **attributes):
        """Texts of the elements with these attributes."""
        found = [(a, "".join(t)) for name, a, t in self.elements if name == tag]
        return [text for a, text in found if all(a.get(k.rstrip("_")) == v for k, v in attributes.items())]


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    """The page of the example."""
    folder = tmp_path_factory.mktemp("report")
    write_report(example(), folder)
    return (folder / "report.html").read_text()


def test_the_page_needs_nothing_from_outside(html):
    """Every reference leads into the page, there is no script, and the policy forbids the rest."""
    page = Page(html)
    references = [a[k] for _, a, _ in page.elements for k in ("src", "href", "data", "action", "srcset") if k in a]
    assert len(references) == 5  # contents: three sections and the provenance; one picture
    assert [r for r in references if not r.startswith(("#s", "#provenance", "data:image/svg+xml;base64,"))] == []
    assert {"script", "link", "iframe", "object", "base"} & {tag for tag, _, _ in page.elements} == set()
    assert [word for word in ("http:", "https:", "url(", "@import") if word in html] == []
    assert "default-src 'none'" in next(a["content"] for t, a, _ in page.elements if t == "meta" and "http-equiv" in a)


def test_the_page_says_what_the_table_says(html):
    """Titles as written, whatever signs they have; the best marked; a cell's interval and footnote in it."""
    page = Page(html)
    assert page.find("h1") == page.find("title") == ["STAN-CT & <friends>"]
    assert page.find("h2") == ["Summary", "Errors & more", "Curve", "Provenance"]
    assert page.find("th", scope="col") == ["contrast", "energy"]
    assert page.find("th", scope="row")[:3] == ["source", "A|B", "C<d"]
    assert page.find("td", class_="best") == ["0.100 ± 0.020[0.050, 0.200]", "0.100b"]
    assert page.find("tr", class_="reference") == ["source0.333 ± 0.100[0.250, 0.500]0.010"]
    assert "undefineda" in page.find("td")
    assert page.find("ul", class_="notes") == [
        "a flat <image>b target is 0; undefined and not averaged: 2 in contrast (C<d)Of 10 patches."
    ]
    assert page.find("strong") == ["Contents", "good"]
    assert page.find("p")[1:2] == ["All good & <well>."]
    assert page.find("li")[-5:-3] == ["one", "two"]
    assert page.find("pre") == ["python evaluate.py --seed 3"]
    assert page.find("table", class_="plain")[1] == "a<bNone"


def test_contents_lead_to_the_sections(html):
    """Each entry names the section it leads to."""
    page = Page(html)
    links = {a["href"].removeprefix("#"): "".join(text) for tag, a, text in page.elements if tag == "a"}
    targets = {a["id"]: "".join(text) for tag, a, text in page.elements if tag == "section"}
    assert list(links) == list(targets) == ["s0", "s1", "s2", "provenance"]
    assert [targets[name].strip().startswith(text) for name, text in links.items()] == [True] * 4


def test_the_page_fits_phones_paper_and_the_dark(html):
    """A viewport, wide tables that scroll, a dark scheme, and rules for print."""
    page = Page(html)
    assert "width=device-width" in next(a["content"] for t, a, _ in page.elements if a.get("name") == "viewport")
    assert len(page.find("div", class_="scroll")) == 1 + 4  # the table, and four of the provenance
    assert "@media (prefers-color-scheme:dark)" in html
    assert "@media print" in html


def test_pictures_of_pixels_are_shown_as_png(tmp_path):
    """An SVG full of pixels is larger and no sharper than the PNG."""
    figure = Figure(figsize=(1, 1))
    figure.subplots().imshow(np.eye(4))
    write_report(example(image=figure), tmp_path)
    assert 'src="data:image/png;base64,' in (tmp_path / "report.html").read_text()
