"""The report of a run: one traffic light per series, limits beside values, the same refusals once, and nothing that escapes."""

import ast
import doctest
from pathlib import Path

import pytest

import stan_ct
from stan_ct.dicom.refusal import ADVICE
from stan_ct.reconstruction import wording
from stan_ct.reconstruction.fidelity import TISSUE_LIMITS
from stan_ct.reconstruction.finding_texts import FINDINGS, finding_text
from stan_ct.reconstruction.panels import Panel
from stan_ct.reconstruction.report import FOLDED_ABOVE, PAGES_ABOVE, build_report, has_pages, render_report, report_page
from stan_ct.reconstruction.series_section import page_file, series_page, traffic_light
from stan_ct.reconstruction.wording import FEW
from stan_ct.report.blocks import Facts, Group, Link, Listing, Notice, Status, Tally

SOURCE = {
    "name": "3-Chest",
    "source_series_uid": "1.2.3",
    "study_uid": "1.2",
    "kernel": "BR40",
    "slice_thickness": 2.0,
    "pixel_spacing": [0.7, 0.7],
    "shape": [4, 64, 48],
}

MODEL = {
    "name": "m",
    "sha256": "ab" * 32,
    "source_kernel": "BR40",
    "target_kernel": "BL64",
    "sharpens": True,
    "qc_threshold": 0.4991,
}


RUN = ("stan_ct", "created", "command", "models", "settings", "versions", "platform")
"""Keys of a manifest that describe the run."""


def refusal(reason="no_rescale", found="none", files=("/in/1.dcm",)):
    """An entry of a refusal."""
    return {"reason": reason, "found": found, "advice": ADVICE[reason], "num_files": len(files), "files": list(files)}


def written(name="3-Chest", findings=(), of_slices=None, cautions=(), refused=()):
    """The entry of a written series of four slices.

    Args:
        name: Name.
        findings: (name, value, limit) of the series.
        of_slices: Number of the slice, 1 to 4 -> the same of the slice.
        cautions: Reasons for which it is out of protocol.
        refused: Refused slices.
    """

    def entries(given):
        return [{"name": n, "value": value, "limit": limit} for n, value, limit in given]

    return SOURCE | {
        "name": name,
        "status": "written",
        "derived_series_uid": "2.25.1",
        "series_number": 1003,
        "treated_as": "BR40",
        "out_of_protocol": list(cautions),
        "patches": 36,
        "kept_fraction": 0.9722,
        "uncovered": 0.0,
        "series_findings": entries(findings),
        "mean_hu_change": -0.25,
        "rms_hu_change": 31.4,
        "tissue_hu_change": {"lung": -4.5, "fat": 0.0, "soft tissue": 1.25, "bone": 20.0},
        "structure_hu": 2.5,
        "lattice": {"periods": {"2": {"ratio": 1.25, "limit": 2.77}}, "mean": 0.05, "mean_limit": 0.2},
        "strongest_structure": 3.25,
        "slices": [{"findings": entries((of_slices or {}).get(number, ()))} for number in range(1, 5)],
        "refused_slices": list(refused),
        "seconds": 4.2,
    }


def unwritten(status="refused", name="4-Other", **options):
    """The entry of a refused or failed series, or of one that was left alone."""
    return SOURCE | {"name": name, "status": status} | ({} if status == "left_alone" else {"refusal": refusal(**options)})


def manifest(*series, **changed):
    """A manifest of these series."""
    settings = {"fusion": "stan_ct", "patch_layout": "grid", "fusion_weights": "hann", "hu_rescale": "window", "mask": "whole"}
    settings |= {"on_unqualified": "best", "rule": {"sides": [100, 256]}, "precision": "bfloat16"}
    return {
        "stan_ct": "0.1.0",
        "created": "2025-01-01T00:00:00+00:00",
        "command": "stan-ct reconstruct",
        "models": [MODEL],
        "settings": settings,
        "versions": {"numpy": "2.0"},
        "platform": "linux",
        "skipped": {},
        "refusals": [],
        "series": list(series),
        "not_yet_done": [],
    } | changed


def built(*series, **changed):
    """The report of these series without images."""
    return build_report(manifest(*series, **changed), [[] for _ in series])


def group(of, heading):
    """The group with this heading."""
    (found,) = [section for section in of.sections if isinstance(section, Group) and section.heading == heading]
    return found


def blocks(of, kind):
    """The blocks of a kind in a group."""
    return [block for block in of.blocks if isinstance(block, kind)]


# Traffic lights


def test_green_is_written_without_anything_to_say():
    """All checks passed, all slices there, in protocol."""
    assert traffic_light(written()) == Status("good", "no findings")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"findings": [("mean_lung", 6.0, 5.0)]}, "1 finding"),
        ({"of_slices": {2: [("box_artefact", 11.0, 10.0)], 4: [("overlap", 0.4, 0.5)]}}, "2 findings"),
        ({"cautions": ["kernel X"]}, "out of protocol"),
        ({"refused": [refusal()]}, "1 refused slice"),
        ({"cautions": ["kernel X"], "findings": [("mean_fat", 6.0, 5.0)], "refused": [refusal()] * 2},
         "out of protocol, 1 finding, 2 refused slices"),
    ],
)  # fmt: skip
def test_amber_is_written_with_a_reason_to_look(options, words):
    """One finding of the series, or of a slice, a caution, or a refused slice is enough: never green."""
    assert traffic_light(written(**options)) == Status("caution", words)


def test_red_is_not_written_and_gray_is_left_alone():
    """With the reason."""
    assert traffic_light(unwritten("refused")) == Status("bad", "refused: no rescale")
    assert traffic_light(unwritten("failed", reason="failed")) == Status("bad", "failed")
    assert traffic_light(unwritten("failed", reason="unwritable")) == Status("bad", "failed: unwritable")
    assert traffic_light(unwritten("left_alone")) == Status("neutral", "left alone: it has the standard protocol")


def test_an_unknown_status_has_no_light():
    """A new status needs a decision, not a colour by chance."""
    with pytest.raises(ValueError, match="'kept'"):
        traffic_light(unwritten("left_alone") | {"status": "kept"})


def test_series_are_counted_by_light():
    """None of a kind is gray; series that were left alone are counted only where there are any."""
    series = (written(), written(cautions=["x"]), unwritten(), unwritten("failed", reason="failed"))
    (tally,) = blocks(group(built(*series), "Results"), Tally)
    assert [(count, status.level) for count, status in tally.counts] == [(1, "good"), (1, "caution"), (2, "bad")]
    (tally,) = blocks(group(built(unwritten("left_alone")), "Results"), Tally)
    assert [(count, status.level) for count, status in tally.counts] == [(0, "neutral")] * 3 + [(1, "neutral")]


def test_a_caution_is_said_and_no_green_stands_beside_it():
    """Also where all checks passed."""
    of = group(built(written(cautions=["kernel X, the model standardizes BR40"])), "3-Chest")
    notices = blocks(of, Notice)
    assert [notice.level for notice in notices] == ["caution", "neutral"]
    assert notices[0].text.startswith("Out of protocol: kernel X, the model standardizes BR40.")
    assert [notice.level for notice in blocks(group(built(written()), "3-Chest"), Notice)] == ["good"]


# Findings


def test_every_finding_of_the_product_is_explained():
    """With a sentence on its meaning and one on what to do."""
    folder, names = Path(stan_ct.__file__).parent / "reconstruction", set()
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Finding" and node.args:
                names |= {n.value for n in ast.walk(node.args[0]) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    names |= {f"mean_{tissue.replace(' ', '_')}" for tissue in TISSUE_LIMITS}
    names.discard("out_of_protocol")  # a notice of its own
    assert {"box_artefact", "lost_structure", "new_structure", "missing_values"} <= names
    assert names - set(FINDINGS) == set()
    assert [n for n, text in FINDINGS.items() if not (text.meaning.endswith(".") and text.advice.endswith("."))] == []


def test_findings_of_a_name_are_one_row_with_the_worst_value_and_its_limit():
    """The slices as ranges, units, direction of the limit, meaning and advice."""
    of_slices = {1: [("overlap", 0.45, 0.5)], 2: [("overlap", 0.31, 0.5)], 3: [("new_structure", 9.5, 8.0)]}
    of_slices[4] = [("overlap", 0.4, 0.5), ("new_structure", 8.25, 8.0)]
    of = built(written(findings=[("mean_lung", -7.314, 5.0), ("unheard_of", 3.0, 2.0)], of_slices=of_slices))
    (table,) = [listing for listing in blocks(group(of, "3-Chest"), Listing) if listing.columns[0] == "Finding"]
    assert [row[:4] for row in table.rows] == [
        ("Mean HU of lung changed (mean_lung)", "whole series", "\N{MINUS SIGN}7.314 HU", "±5 HU"),
        ("Unheard of (unheard_of)", "whole series", "3", "at most 2"),
        ("Patches overlap too little (overlap)", "slices 1\N{EN DASH}2, 4", "31 %", "at least 50 %"),
        ("A structure may have been added (new_structure)", "slices 3\N{EN DASH}4", "9.5 standard deviations",
         "at most 8 standard deviations"),
    ]  # fmt: skip
    assert table.rows[0][4].startswith("Lung is brighter or darker on average")
    assert table.rows[2][4] == f"{FINDINGS['overlap'].meaning} {FINDINGS['overlap'].advice}"


@pytest.mark.parametrize(("values", "worst"), [((-9.0, 6.0), "\N{MINUS SIGN}9 HU"), ((-6.0, 9.0), "+9 HU")])
def test_the_worst_of_signed_values_is_the_farthest_from_zero(values, worst):
    """Whatever its sign."""
    of_slices = {number: [("mean_fat", value, 5.0)] for number, value in enumerate(values, 1)}
    table = blocks(group(built(written(of_slices=of_slices)), "3-Chest"), Listing)[0]
    assert table.rows[0][2] == worst


def test_checks_without_a_number_have_a_dash():
    """As a finding in words."""
    assert finding_text("gap").printed(None) == finding_text("gap").printed_limit(None) == "\N{EN DASH}"


def test_rejected_patches_are_grouped_by_reason():
    """The most frequent first, with the slices; without any there is no table."""
    entry = written()
    pattern, low = "pattern of 2 px too high", "mean texture too low"
    for number, reasons in enumerate([[pattern, pattern], [], [low, pattern], [""]]):
        entry["slices"][number]["rejected"] = [{"reason": reason, "p_real": 0.2} for reason in reasons]
    (table,) = [b for b in blocks(group(built(entry), "3-Chest"), Listing) if b.columns[0].startswith("Rejected")]
    assert table.rows == (
        (pattern, "3", "1, 3"),
        ("P(real) too low", "1", "4"),
        (low, "1", "3"),
    )
    assert not [b for b in blocks(group(built(written()), "3-Chest"), Listing) if b.columns[0].startswith("Rejected")]


def test_limits_stand_beside_what_was_measured():
    """Also where they are kept."""
    (table,) = [b for b in blocks(group(built(written()), "3-Chest"), Listing) if b.columns[0] == "Measured"]
    assert [row[1:] for row in table.rows] == [
        ("\N{MINUS SIGN}4.5 HU", "±5 HU"),
        ("+0 HU", "±5 HU"),
        ("+1.25 HU", "±5 HU"),
        ("+20 HU", "±40 HU"),
        ("2.5 HU", "at most 10 HU"),
        ("3.25 standard deviations", "at most 8 standard deviations"),
        ("1.25 times the power beside", "at most 2.77 times the power beside"),
        ("0.05 HU", "at most 0.2 HU"),
        ("\N{MINUS SIGN}0.2 HU", "none"),
        ("31.4 HU", "none: noise is meant to change"),
    ]


# Refusals


def test_the_same_refusals_are_one_row():
    """Reason, count, what came, advice, and the first few, of files, series and slices together."""
    series = [unwritten(name=f"{n}-Head", reason="out_of_protocol", found="kernel X") for n in range(FEW + 2)]
    series.append(written(refused=[refusal("truncated", "short", ["/in/a.dcm", "/in/b.dcm"])]))
    of = built(*series, refusals=[refusal("truncated", "shorter", ["/in/c.dcm", "/in/d.dcm"])])
    (table,) = blocks(group(of, "Refused or failed"), Listing)
    assert table.rows == (
        ("Truncated", "2", "shorter; short", ADVICE["truncated"], "/in/c.dcm, /in/d.dcm, /in/a.dcm and 1 more"),
        ("Out of protocol", "5", "kernel X", ADVICE["out_of_protocol"], "0-Head, 1-Head, 2-Head and 2 more"),
    )


def test_exactly_a_few_are_all_named():
    """No "and 0 more"."""
    series = [unwritten(name=f"{n}-Head") for n in range(FEW)]
    (table,) = blocks(group(built(*series), "Refused or failed"), Listing)
    assert table.rows[0][-1] == "0-Head, 1-Head, 2-Head"


def test_nothing_refused_nothing_said():
    """No empty section."""
    assert [section.heading for section in built(written()).sections] == ["Results", "3-Chest", "Method"]


def test_what_is_not_yet_done_or_not_there_is_said():
    """While a run goes on, and where there was no series."""
    assert blocks(group(built(not_yet_done=["a", "b"]), "Results"), Notice) == [
        Notice("neutral", "Not yet done: 2 series: a, b.")
    ]
    assert blocks(group(built(), "Results"), Notice) == [Notice("bad", "No CT series was found.")]


# The page


def test_method_follows_the_results():
    """And provenance, with everything that the manifest knows of it, is last."""
    of = built(written(), unwritten())
    assert [section.heading for section in of.sections] == ["Results", "Refused or failed", "3-Chest", "Method"]
    (facts,) = blocks(group(of, "Method"), Facts)
    assert facts.values["Models"] == "m (abababab), kernel BR40 → BL64, patches qualified from P(real) = 0.499"
    assert of.provenance.command == "stan-ct reconstruct"
    assert of.provenance.models == {"m": "ab" * 32}
    assert of.provenance.versions == {"STAN-CT": "0.1.0", "numpy": "2.0", "platform": "linux"}


def test_many_series_are_folded():
    """Up to `FOLDED_ABOVE` written series are open; refused ones do not count."""
    few = built(*[written(f"{n}") for n in range(FOLDED_ABOVE)], unwritten())
    many = built(*[written(f"{n}") for n in range(FOLDED_ABOVE + 1)])
    assert [{s.folded for s in of.sections if s.status} for of in (few, many)] == [{False}, {True}]


def test_what_an_earlier_run_made_is_said():
    """What was kept keeps its colour; an output whose source is refused now is named, with a caution."""
    assert traffic_light(written() | {"kept": True}) == Status("good", "no findings, kept from an earlier run")
    caution = written(cautions=["x"]) | {"kept": True}
    assert traffic_light(caution) == Status("caution", "out of protocol, kept from an earlier run")
    stays = unwritten() | {"earlier_result": "series/4-Other"}
    assert traffic_light(stays) == Status("bad", "refused: no rescale, an earlier output stays")
    notices = blocks(group(built(written() | {"kept": True}, caution, stays, unwritten()), "Results"), Notice)
    assert [notice.level for notice in notices] == ["neutral", "caution"]
    assert notices[0].text == "Kept from an earlier run with the same settings: 2 series."
    assert notices[1].text.startswith(
        "1 output of an earlier run stayed, although the source is refused or failed now: series/4-Oth"
    )
    assert blocks(group(built(written(), unwritten()), "Results"), Notice) == []


def test_a_refused_series_leads_to_what_to_do():
    """Its name in the overview is a link to the refusals, a written one's to its images; one left alone has neither."""
    of = built(written(), unwritten(), unwritten("left_alone", name="5-Sharp"))
    (overview,) = blocks(group(of, "Results"), Listing)
    assert [row[1] for row in overview.rows] == [Link("3-Chest", "series-1"), Link("4-Other", "refusals"), "5-Sharp"]
    assert group(of, "Refused or failed").anchor == "refusals"
    assert group(of, "3-Chest").anchor == "series-1"


def test_many_series_have_a_page_each():
    """More than `PAGES_ABOVE`, those that are not yet done among them: the report links to the pages of the written ones."""
    assert [has_pages(PAGES_ABOVE), has_pages(PAGES_ABOVE + 1)] == [False, True]
    few = [written(f"{n}") for n in range(PAGES_ABOVE - 1)]
    assert len([s for s in built(*few, not_yet_done=["a"]).sections if s.status]) == PAGES_ABOVE - 1
    many = built(*few, unwritten(), not_yet_done=["a"])
    assert [section.heading for section in many.sections] == ["Results", "Refused or failed", "Method"]
    (overview,) = blocks(group(many, "Results"), Listing)
    assert overview.rows[3][1] == Link("3", file="report_files/3.html")
    assert overview.rows[-1][1] == Link("4-Other", "refusals")


def test_the_page_of_a_series_shows_all_of_it():
    """Its images lie beside it, it leads back to the report, and it says the same as the one page of few series."""
    panels = [Panel("Slice 1 of 4, 2 mm", "report_files/a_0001.jpg", (64, 48), b"x")]
    entries = [written("a/b", findings=[("mean_lung", -7.0, 5.0)]), *[unwritten() for _ in range(PAGES_ABOVE)]]
    content = manifest(*entries)
    files = render_report(content, [panels, *[[]] * PAGES_ABOVE])
    page = page_file(entries[0])
    assert set(files) == {"report.html", page, "report_files/a_0001.jpg"}
    assert f'<a href="{page}">a/b</a>' in files["report.html"]
    assert "a_0001.jpg" not in files["report.html"]
    html = files[page]
    assert html.count('src="a_0001.jpg"') == 6
    assert '<a href="../report.html">All series</a>' in html
    assert "Mean HU of lung changed (mean_lung)" in html
    assert "stan-ct reconstruct" in html
    assert series_page({key: content[key] for key in RUN}, entries[0], panels) == html


def test_a_report_of_a_thousand_series_stays_small():
    """Less than 1 MB."""
    content = manifest(*[written(f"{n}-Thorax-1-0-Br40d-{n:08x}", of_slices={2: [("overlap", 0.4, 0.5)]}) for n in range(1000)])
    panel = Panel("Slice 1 of 4, 2 mm", "report_files/a_0001.jpg", (64, 48))
    html = report_page(content, [[panel] * 3] * 1000)
    assert html.count("report_files/") == 1000
    assert len(html.encode()) < 1_000_000


def test_images_are_files_beside_the_page():
    """The page names them, and does not grow with them; a panel that is on disk already is not written again."""
    panels = [Panel("Slice 1 of 4, 2 mm", "report_files/a_0001.jpg", (64, 48), b"x" * 100_000)]
    panels.append(Panel("Slice 2 of 4, 4 mm", "report_files/a_0002.jpg", (64, 48)))
    files = render_report(manifest(written()), [panels])
    assert list(files) == ["report.html", "report_files/a_0001.jpg"]
    assert files["report_files/a_0001.jpg"] == b"x" * 100_000
    assert len(files["report.html"]) < 40_000
    assert [files["report.html"].count(f'src="{panel.file}"') for panel in panels] == [6, 6]
    assert "base64" not in files["report.html"]


def test_hostile_headers_stay_text():
    """Whatever a header or a path says, the page shows it, and the browser runs none of it."""
    evil = "\"><script>alert(1)</script><img src=x onerror='alert(2)'>{{ 7*7 }}&"
    series = written(evil, findings=[(evil, 1.0, 0.0)], cautions=[evil], refused=[refusal("truncated", evil, [evil])])
    series |= {"kernel": evil, "source_series_uid": evil, "treated_as": evil}
    content = manifest(series, unwritten(name=evil, found=evil), skipped={evil: 1}, not_yet_done=[evil], command=evil)
    content["models"] = [MODEL | {"name": evil, "source_kernel": evil}]
    html = report_page(content, [[Panel(evil, evil, (1, 1), b"")], []])
    assert "<script" not in html
    assert "<img src=x" not in html
    assert "onerror='" not in html
    assert "{{ 7*7 }}" in html
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 15


@pytest.mark.parametrize("file", ["https://example.org/a.jpg", "javascript:alert(1)", "//example.org/a.jpg"])
def test_no_image_is_fetched_from_elsewhere(file):
    """An address in place of a file name is quoted, or refused by the browser: nothing but own files is allowed."""
    html = report_page(manifest(written()), [[Panel("a", file, (1, 1), b"")]])
    assert "default-src 'none'; img-src 'self' file: data:" in html.replace("&#39;", "'")
    assert [word for word in ("https:", "http:", "javascript:") if f'"{word}' in html] == []


def test_docstrings():
    """The examples hold."""
    result = doctest.testmod(wording)
    assert (result.failed, result.attempted) == (0, 4)
