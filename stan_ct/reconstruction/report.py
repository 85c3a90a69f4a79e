"""`report.html`: what became of every series, for people; of many series, with a page for each."""

from __future__ import annotations

from collections.abc import Sequence

from stan_ct.ct.protocol import Protocol
from stan_ct.reconstruction.panels import Panel
from stan_ct.reconstruction.series_section import (
    Entry,
    page_file,
    provenance_of,
    series_page,
    series_section,
    thickness,
    traffic_light,
)
from stan_ct.reconstruction.wording import counted, first_few, in_words
from stan_ct.report.blocks import Block, Facts, Group, Level, Link, Listing, Notice, Status, Tally, Text
from stan_ct.report.html import page
from stan_ct.report.sections import Report

FOLDED_ABOVE = 8
"""With more written series than this, each is folded below its name."""
PAGES_ABOVE = 20
"""With more series than this, each written one has a page of its own."""
REFUSALS = "refusals"
"""Anchor of what was refused."""


def report_page(manifest: Entry, panels: Sequence[Sequence[Panel]]) -> str:
    """The page as HTML; the images are files beside it, see :class:`~stan_ct.reconstruction.panels.Panel`.

    Args:
        manifest: Content of `manifest.json`.
        panels: Images of each series of the manifest.
    """
    return page(build_report(manifest, panels))


def has_pages(num_series: int) -> bool:
    """Whether each written series of so many, those that are not yet done among them, has a page of its own."""
    return num_series > PAGES_ABOVE


def render_report(manifest: Entry, panels: Sequence[Sequence[Panel]]) -> dict[str, str | bytes]:
    """The pages and their images: path relative to the output directory -> content.

    Args:
        manifest: Content of `manifest.json`.
        panels: Images of each series of the manifest.
    """
    images = {panel.file: panel.jpeg for of_series in panels for panel in of_series if panel.jpeg}
    pages = {
        page_file(entry): series_page(manifest, entry, shown)
        for entry, shown in zip(manifest["series"], panels, strict=True)
        if entry["status"] == "written" and has_pages(_num_series(manifest))
    }
    return {"report.html": report_page(manifest, panels), **pages, **images}


def build_report(manifest: Entry, panels: Sequence[Sequence[Panel]]) -> Report:
    """The report as data: results, refusals, each series, method.

    Args:
        manifest: Content of `manifest.json`.
        panels: Images of each series of the manifest.
    """
    all_series = manifest["series"]
    folded = sum(entry["status"] == "written" for entry in all_series) > FOLDED_ABOVE
    each = [
        series_section(_anchor(number), entry, shown, folded)
        for number, (entry, shown) in enumerate(zip(all_series, panels, strict=True), 1)
        if entry["status"] == "written" and not has_pages(_num_series(manifest))
    ]
    sections = (_results(manifest), *_refusals(manifest), *each, _method(manifest))
    note = "All numbers are in manifest.json beside this page."
    return Report("STAN-CT: standardized CT", sections, provenance_of(manifest), note)


def _num_series(manifest: Entry) -> int:
    return len(manifest["series"]) + len(manifest["not_yet_done"])


# Results


def _results(manifest: Entry) -> Group:
    series, pending = manifest["series"], manifest["not_yet_done"]
    levels = [traffic_light(entry).level for entry in series]
    words: dict[Level, str] = {"good": "without findings", "caution": "to be checked", "bad": "not written"}
    counts = [_tallied(levels.count(level), level, text) for level, text in words.items()]
    if "neutral" in levels:
        counts.append((levels.count("neutral"), Status("neutral", "left alone")))
    blocks: list[Block] = [Tally(tuple(counts))]
    if pending:
        blocks.append(Notice("neutral", f"Not yet done: {counted(len(pending), 'series', 'series')}: {first_few(pending)}."))
    if not series and not pending:
        blocks.append(Notice("bad", "No CT series was found."))
    blocks += _earlier(series)
    if series:
        rows = tuple(_overview(number, entry, has_pages(_num_series(manifest))) for number, entry in enumerate(series, 1))
        blocks.append(Listing(("Result", "Series", "Kernel", "Slice thickness", "Slices"), rows))
    if skipped := manifest["skipped"]:
        blocks.append(Text("", "Skipped files: " + ", ".join(f"{count} x {kind}" for kind, count in skipped.items()) + "."))
    return Group("Results", tuple(blocks))


def _tallied(count: int, level: Level, words: str) -> tuple[int, Status]:
    """A count and its light, which is gray for none."""
    return count, Status(level if count else "neutral", words)


def _earlier(series: Sequence[Entry]) -> list[Block]:
    """What is of earlier runs: what was kept, and outputs whose source is refused now."""
    blocks: list[Block] = []
    if number := sum(bool(entry.get("kept")) for entry in series):
        blocks.append(
            Notice("neutral", f"Kept from an earlier run with the same settings: {counted(number, 'series', 'series')}.")
        )
    if folders := [entry["earlier_result"] for entry in series if "earlier_result" in entry]:
        found = f"{counted(len(folders), 'output')} of an earlier run stayed, although the source is refused or failed now"
        advice = "They were made of the source as it was then: see below what to do about it."
        blocks.append(Notice("caution", f"{found}: {first_few(folders)}.\n\n{advice}"))
    return blocks


def _overview(number: int, entry: Entry, pages: bool) -> tuple[str | Status | Link, ...]:
    name: str | Link = entry["name"]
    if entry["status"] == "written":
        name = Link(entry["name"], file=page_file(entry)) if pages else Link(entry["name"], _anchor(number))
    elif "refusal" in entry:
        name = Link(entry["name"], REFUSALS)
    return traffic_light(entry), name, entry["kernel"], thickness(entry), str(entry["shape"][0])


def _refusals(manifest: Entry) -> list[Group]:
    """What was refused and what failed, one row per reason."""
    groups: dict[str, list[tuple[Entry, Sequence[str]]]] = {}
    for refusal in manifest["refusals"]:
        groups.setdefault(refusal["reason"], []).append((refusal, _places(refusal)))
    for entry in manifest["series"]:
        if "refusal" in entry:
            groups.setdefault(entry["refusal"]["reason"], []).append((entry["refusal"], [entry["name"]]))
        for refusal in entry.get("refused_slices", []):
            groups.setdefault(refusal["reason"], []).append((refusal, _places(refusal)))
    if not groups:
        return []
    rows = tuple(_refusal_row(reason, refusals) for reason, refusals in groups.items())
    table = Listing(("Reason", "Count", "What came", "What to do", "Where"), rows)
    return [Group("Refused or failed", (table,), anchor=REFUSALS)]


def _places(refusal: Entry) -> list[str]:
    """Names of the files of a refusal, where they may be shown, or how many there are."""
    return list(refusal.get("files", [])) or [counted(refusal["num_files"], "file")]


def _refusal_row(reason: str, refusals: Sequence[tuple[Entry, Sequence[str]]]) -> tuple[str, ...]:
    found = dict.fromkeys(refusal["found"] for refusal, _ in refusals)
    places = [place for _, named in refusals for place in named]
    count, advice = str(len(refusals)), refusals[0][0]["advice"]
    return in_words(reason).capitalize(), count, first_few(list(found), "; "), advice, first_few(places)


def _anchor(number: int) -> str:
    return f"series-{number}"


# Method


def _method(manifest: Entry) -> Group:
    models, settings = manifest["models"], manifest["settings"]
    lights = (
        "The lights: **green**, written and every check passed; **amber**, written, but with findings, with refused slices, or "
        "out of the protocols that the model was made for; **red**, not written; **gray**, left alone because the series has "
        "the standard protocol already."
    )
    facts = {
        "Models": "; ".join(_model(model) for model in models),
        "Fusion": f"{settings['fusion']}, weights {settings['fusion_weights']}",
        "Patches": f"layout {settings['patch_layout']}, holes filled from the {settings['on_unqualified']} patch or slice",
        "HU": f"rescaled by {settings['hu_rescale']}, mask {settings['mask']}",
        "Precision": settings["precision"],
    }
    return Group("Method", (Text("", lights), Facts(facts)))


def _model(model: Entry) -> str:
    target = Protocol(model["target_kernel"], model.get("target_thickness", 0.0))
    kernels = f"kernel {model['source_kernel']} \N{RIGHTWARDS ARROW} {target}"
    return f"{model['name']} ({model['sha256'][:8]}), {kernels}, patches qualified from P(real) = {model['qc_threshold']:.3g}"
