"""The page escapes whatever it is given, needs nothing from outside, and ships its templates."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stan_ct.report.blocks import ColourBar, Facts, Group, Legend, Link, Listing, Notice, Status, Tally, Text, Tiles
from stan_ct.report.files import to_json, write_report
from stan_ct.report.html import EMBEDDED, LINKED, page
from stan_ct.report.markdown import to_markdown
from stan_ct.report.sections import Cell, FigureSection, Provenance, Report, Table

ROOT = Path(__file__).resolve().parents[2]
PROVENANCE = Provenance("stan-ct", {}, {}, {}, {}, {}, "2025-01-01")
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"/>'
LEVELS = ("good", "caution", "bad", "neutral")


def everything(words, folded=False):
    """A report with a block of each kind, in which all that can be read is `words`."""
    status = Status("good", words)
    blocks = (
        Notice("bad", words),
        Tally(((3, status),)),
        Facts({words: words}),
        Listing((words,), ((words,), (status,), (Link(words, "g"),), (Link(words, file=words),))),
        Tiles("a/b c.jpg", words, (words, words), 2, (10, 20)),
        Legend((ColourBar(words, (words, words), ("#000", "#fff")),), {words: "#888"}),
        Text(words, f"{words}\n\n- {words}\n- **{words}**"),
    )
    table = Table(words, words, (words,), {words: (Cell(1.0, 0.5, 0.0, 2.0, undefined=1, reason=words),)}, notes=(words,))
    provenance = Provenance(words, {words: words}, {words: words}, {words: 1}, {words: words}, {words: words}, words)
    sections = (Group(words, blocks, status, "g", folded), table, FigureSection(words, words, SVG), Text(words, words))
    return Report(words, sections, provenance, words, Link(words, file=words))


def group(*blocks, **options):
    """A report of one group."""
    return Report("T", (Group("G", blocks, **options),), PROVENANCE)


def structure(html):
    """The page without its text: everything between < and >, styles left out."""
    body = html[html.index("</style>") :]
    return [part.split(">")[0].split()[0] for part in body.split("<")[1:]]


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize(
    "evil",
    ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "' onclick='alert(1)", "{{ 7*7 }}{% x %}", "</style>"],
)
def test_words_never_become_markup(evil, folded):
    """A page of hostile words has the very elements of a page of harmless ones, and shows them as they are."""
    images = {evil: {"figure.svg": SVG}}
    html, harmless = page(everything(evil, folded), images), page(everything("words", folded), {"words": {"figure.svg": SVG}})
    assert structure(html) == structure(harmless)
    assert html.count("onerror=alert") == html.count("&gt;&lt;img src=x onerror=alert") * ("onerror" in evil)
    assert ("49" in html) is False


@given(st.text(alphabet=st.sampled_from("<>&\"'{}%#=/-* ab"), min_size=1))
def test_no_words_at_all_become_markup(words):
    """The same for any words in a notice, a cell and a heading."""
    blocks = (Notice("bad", f"x{words}"), Listing((words,), ((words,),)), Facts({words: words}))
    harmless = (Notice("bad", "x"), Listing(("x",), (("x",),)), Facts({"x": "x"}))
    hostile, plain = (
        [tag for tag in structure(page(group(*of))) if tag not in ("strong", "/strong")] for of in (blocks, harmless)
    )
    assert hostile == plain


def test_the_browser_is_told_to_fetch_nothing():
    """Only images in the page; with linked images also files beside it."""
    assert EMBEDDED == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    linked, embedded = (
        page(group(block)).replace("&#39;", "'") for block in (everything("x").sections[0].blocks[4], Facts({}))
    )
    assert (LINKED in linked, EMBEDDED in embedded) == (True, True)
    for html in (linked, embedded, page(everything("x"), {"x": {"f.svg": SVG}})):
        assert [word for word in ("<script", "<link", "http:", "https:", "url(", "@import", "<iframe") if word in html] == []


def test_templates_name_no_address():
    """Nothing in them leads out of the page."""
    texts = {path.name: path.read_text() for path in (ROOT / "stan_ct/report/templates").iterdir()}
    assert set(texts) == {"page.html.j2", "blocks.html.j2", "style.css.j2"}
    assert [name for name, text in texts.items() if "//" in text.replace("loop.index0 //", "") or "|safe" in text] == []


def test_templates_are_in_the_package(tmp_path):
    """What setuptools copies into a wheel has them."""
    command = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(tmp_path / "lib")]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    folder = Path("stan_ct/report/templates")
    assert {p.name for p in (tmp_path / "lib" / folder).iterdir()} == {p.name for p in (ROOT / folder).iterdir()}


# Blocks


@pytest.mark.parametrize("level", LEVELS)
def test_a_light_is_a_colour_and_words(level):
    """Who cannot tell the colours reads the words."""
    html = page(group(Notice(level, "n"), Tally(((7, Status(level, "counted")),)), status=Status(level, "words")))
    assert f'<span class="light {level}">words</span>' in html
    assert f'<li class="{level}"><b>7</b> counted</li>' in html
    assert f'<div class="notice {level}">' in html


def test_links_lead_to_the_anchor_of_their_group():
    """And the table of contents does."""
    html = page(group(Listing(("a",), ((Link("there", "here"),),)), anchor="here"))
    assert html.count('href="#here"') == 2
    assert html.count('id="here"') == 1


def test_links_lead_to_other_pages():
    """Their names as addresses; the one to the page that this belongs to stands above the title."""
    links = (Link("there", file="a b/c%.html"), Link("in it", "here", "d.html"))
    html = page(replace(group(Listing(("a", "b"), (links,))), back=Link("<all>", file="../e.html")))
    assert '<a href="a%20b/c%25.html">there</a>' in html
    assert '<a href="d.html#here">in it</a>' in html
    assert '<header><p><a href="../e.html">&lt;all&gt;</a></p><h1>' in html


def test_groups_can_be_folded_and_left_out_of_the_contents():
    """Thousand series need no thousand entries."""
    html = page(group(Facts({"a": "b"}), folded=True, listed=False))
    assert "<details><summary><h2>G</h2></summary>" in html
    assert 'href="#s0"' not in html
    assert "<nav" not in html
    assert "<nav" in page(group(Facts({"a": "b"})))


def test_tiles_show_each_part_of_their_file():
    """Place of each in the file, label, and the file's name as an address."""
    html = page(group(Tiles("a/b c%.jpg", "cap", ("one", "two", "three", "four"), 2, (10, 20))))
    assert html.count('src="a/b%20c%25.jpg"') == 4
    assert html.count('href="a/b%20c%25.jpg"') == 1
    places = [(f'style="--x:{x};--y:{y}"' in html) for y in range(2) for x in range(2)]
    assert places == [True] * 4
    assert "--columns:2;--rows:2;--height:10;--width:20" in html
    assert 'alt="cap: three"' in html


def test_tiles_and_listings_refuse_what_does_not_fit():
    """Labels in whole rows, cells as many as columns."""
    with pytest.raises(ValueError, match="whole rows of 2 images, got 3"):
        Tiles("a.jpg", "", ("1", "2", "3"), 2, (1, 1))
    with pytest.raises(ValueError, match=r"expected 2 cells in every row \(a, b\), got \('1',\)"):
        Listing(("a", "b"), (("1", "2"), ("1",)))


def test_markdown_and_json_say_the_same(tmp_path):
    """Every block, in words."""
    report = Report("T", everything("w").sections[:1], PROVENANCE)
    assert to_markdown(report, {}).split("\n\n")[1:-4] == [
        "## w (w)",
        "> w",
        "- 3 w",
        "- w: w",
        "| w |\n|---|\n| w |\n| w |\n| w |\n| w |",
        "![w: w, w](a/b c.jpg)",
        "- w: w to w\n- #888: w",
        "**w**",
        "w",
        "- w\n- **w**",
    ]
    (section,) = json.loads(to_json(report, {}))["sections"]
    assert (section["kind"], section["status"]) == ("group", {"level": "good", "words": "w"})
    kinds = ["notice", "tally", "facts", "listing", "tiles", "legend", "text"]
    assert [block["kind"] for block in section["blocks"]] == kinds
    assert [path.name for path in write_report(report, tmp_path)] == ["report.md", "report.json", "report.html"]


def test_pages_without_figures_do_without_matplotlib():
    """It takes long to import."""
    code = "import sys, stan_ct.report.html, stan_ct.reconstruction.report; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"
