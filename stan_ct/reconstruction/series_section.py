"""One series in the report: its traffic light, findings, measures and images; and the page of its own that it may have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from stan_ct.reconstruction.fidelity import LOW_PASS_LIMIT, MARGIN, STRUCTURE_LIMIT, TISSUE_LIMITS
from stan_ct.reconstruction.finding_texts import FINDINGS, finding_text, worst_value
from stan_ct.reconstruction.panels import (
    COLOURS,
    COLUMNS,
    DIFFERENCE,
    FOLDER,
    LABELS,
    NOT_JUDGED,
    UNEXPLAINED,
    Panel,
    file_name,
)
from stan_ct.reconstruction.wording import counted, in_words, number_ranges, with_minus
from stan_ct.report.blocks import Block, ColourBar, Facts, Group, Legend, Link, Listing, Notice, Status, Tiles
from stan_ct.report.html import page
from stan_ct.report.sections import Provenance, Report

Entry = Mapping[str, Any]
"""A series, or a refusal, as in `manifest.json`."""


def traffic_light(entry: Entry) -> Status:
    """Whether the output of a series can be trusted.

    Green: written, every check passed. Amber: written, with findings, refused slices, or out of the model's protocol. Red:
    not written. Gray: nothing to do.

    Raises:
        ValueError: If the status of the entry is unknown.
    """
    status = entry["status"]
    if status == "left_alone":
        return Status("neutral", "left alone: it has the standard protocol")
    if status in ("refused", "failed"):
        reason = entry["refusal"]["reason"]
        stays = ", an earlier output stays" if "earlier_result" in entry else ""
        return Status("bad", (status if reason == status else f"{status}: {in_words(reason)}") + stays)
    if status != "written":
        raise ValueError(f"expected the status written, refused, failed or left_alone, got {status!r}")
    reasons = ["out of protocol"] if entry["out_of_protocol"] else []
    if count := len(_findings(entry)):
        reasons.append(counted(count, "finding"))
    if count := len(entry["refused_slices"]):
        reasons.append(counted(count, "refused slice"))
    words = ", ".join(reasons) or "no findings"
    return Status("caution" if reasons else "good", words + (", kept from an earlier run" if entry.get("kept") else ""))


def page_file(entry: Entry) -> str:
    """Path of the page of a series, relative to the output directory."""
    return f"{FOLDER}/{file_name(entry['name'])}.html"


def series_page(run: Entry, entry: Entry, panels: Sequence[Panel]) -> str:
    """The page of one written series as HTML; its images are files beside it.

    Args:
        run: Head of `manifest.json`: command, models, versions, without the series.
        entry: Series.
        panels: Images of the series, with paths relative to the output directory.
    """
    beside = [replace(panel, file=panel.file.removeprefix(f"{FOLDER}/")) for panel in panels]
    section = replace(series_section("series", entry, beside, folded=False), heading="Result")
    back = Link("All series", file="../report.html")
    title = f"STAN-CT: {entry['name']}"
    return page(Report(title, (section,), provenance_of(run), "All numbers are in manifest.json, one folder up.", back))


def series_section(anchor: str, entry: Entry, panels: Sequence[Panel], folded: bool) -> Group:
    """Section of a written series.

    Args:
        anchor: Name that links lead to.
        entry: Series.
        panels: Images of the series, with paths relative to the page.
        folded: Whether it is hidden until its name is clicked.
    """
    blocks = (*_written(entry, panels), Facts(_facts(entry)))
    return Group(entry["name"], blocks, traffic_light(entry), anchor, folded, listed=False)


def _written(entry: Entry, panels: Sequence[Panel]) -> list[Block]:
    blocks: list[Block] = []
    if cautions := entry["out_of_protocol"]:
        advice = "The model was not made for this series, so passed checks prove little: compare the output with the source."
        blocks.append(Notice("caution", f"Out of protocol: {'; '.join(cautions)}.\n\n{advice}"))
    if refused := entry["refused_slices"]:
        reasons = ", ".join(dict.fromkeys(in_words(refusal["reason"]) for refusal in refused))
        blocks.append(Notice("caution", f"{counted(len(refused), 'slice')} refused and not written: {reasons}."))
    if findings := _findings(entry):
        blocks.append(_finding_table(findings))
    else:
        blocks.append(Notice("neutral" if blocks else "good", "Quality control: no findings."))
    blocks += _rejected(entry)
    blocks += [Tiles(panel.file, panel.caption, LABELS, COLUMNS, panel.shape) for panel in panels]
    return [*blocks, *([_legend()] if panels else []), _measures(entry)]


def _rejected(entry: Entry) -> list[Listing]:
    """Patches that check 2 rejected, by what was wrong with them: how many, and in which slices."""
    slices: dict[str, list[int]] = {}
    for number, checked in enumerate(entry["slices"], 1):
        for patch in checked.get("rejected", ()):  # kept from an earlier run, it may have none
            slices.setdefault(patch["reason"] or "P(real) too low", []).append(number)
    rows = sorted(((reason, str(len(found)), number_ranges(found)) for reason, found in slices.items()), key=_most)
    return [Listing(("Rejected patches, what is farthest off", "Number", "Slices"), tuple(rows))] if rows else []


def _most(row: tuple[str, str, str]) -> tuple[int, str]:
    return -int(row[1]), row[0]


def _findings(entry: Entry) -> list[tuple[int | None, Entry]]:
    """Number of the slice, None for the series, and finding."""
    of_slices = [(number, f) for number, s in enumerate(entry["slices"], 1) for f in s["findings"]]
    return [*((None, f) for f in entry["series_findings"]), *of_slices]


def _finding_table(findings: Sequence[tuple[int | None, Entry]]) -> Listing:
    """One row per name of a finding: where, the worst value, its limit, meaning and advice."""
    rows = []
    for name in dict.fromkeys(finding["name"] for _, finding in findings):
        text = finding_text(name)
        named = [(number, finding) for number, finding in findings if finding["name"] == name]
        worst = worst_value(name, (finding["value"] for _, finding in named))
        numbers = [number for number, _ in named if number is not None]
        place = f"{'slice' if len(set(numbers)) == 1 else 'slices'} {number_ranges(numbers)}" if numbers else "whole series"
        limit = text.printed_limit(named[0][1]["limit"])
        rows.append((f"{text.title} ({name})", place, text.printed(worst), limit, f"{text.meaning} {text.advice}"))
    return Listing(("Finding", "Where", "Worst value", "Limit", "What it means, what to do"), tuple(rows))


def _measures(entry: Entry) -> Listing:
    """What was measured, and the limits, whether or not they are kept."""
    rows = []
    for tissue, change in entry["tissue_hu_change"].items():
        text = FINDINGS[f"mean_{tissue.replace(' ', '_')}"]
        rows.append((f"Change of mean HU, {tissue}", text.printed(change), text.printed_limit(TISSUE_LIMITS[tissue])))
    coarse, added = FINDINGS["low_pass_difference"], FINDINGS["new_structure"]
    label = "Not explained by a change of kernel, at the scale of a nodule"
    rows += [
        (f"{label}, root mean square", coarse.printed(entry["structure_hu"]), coarse.printed_limit(LOW_PASS_LIMIT)),
        (f"{label}, strongest structure", added.printed(entry["strongest_structure"]), added.printed_limit(STRUCTURE_LIMIT)),
        *(_lattice_rows(entry["lattice"]) if "lattice" in entry else ()),  # kept from an earlier run, it may have none
        ("Change of soft tissue, mean", with_minus(f"{entry['mean_hu_change']:+.1f} HU"), "none"),
        ("Change of soft tissue, root mean square", f"{entry['rms_hu_change']:.1f} HU", "none: noise is meant to change"),
    ]
    return Listing(("Measured", "Value", "Limit"), tuple(rows))


def _lattice_rows(lattice: Entry) -> list[tuple[str, str, str]]:
    """What was measured of regular patterns."""
    power, mean = FINDINGS["lattice"], FINDINGS["lattice_mean"]
    rows = [
        (f"{power.title}, period {period} px", power.printed(found["ratio"]), power.printed_limit(found["limit"]))
        for period, found in lattice["periods"].items()
    ]
    return [*rows, (f"{mean.title}, mean", mean.printed(lattice["mean"]), mean.printed_limit(lattice["mean_limit"]))]


def _legend() -> Legend:
    colours = tuple(map(_css, COLOURS))
    bars = [
        ColourBar("output \N{MINUS SIGN} source, HU", _ticks(DIFFERENCE), colours),
        ColourBar("not explained by a change of kernel, HU", _ticks(UNEXPLAINED), colours),
    ]
    not_judged = f"not judged: outside the body; air, dense bone, metal and padding, and what is within {MARGIN:g} mm of them"
    return Legend(tuple(bars), {not_judged: _css(NOT_JUDGED)})


def _ticks(limit: float) -> tuple[str, ...]:
    return tuple(with_minus(f"{value:+g}") if value else "0" for value in (-limit, -limit / 2, 0.0, limit / 2, limit))


def _css(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _facts(entry: Entry) -> dict[str, str]:
    kept = f"{entry['kept_fraction']:.1%} qualified" if entry["kept_fraction"] is not None else "no soft tissue"
    shape = " \N{MULTIPLICATION SIGN} ".join(map(str, entry["shape"]))
    return {
        "Source": f"kernel {entry['kernel']}, slice thickness {thickness(entry)}, {shape} pixels",
        "Source series": entry["source_series_uid"],
        "Treated as": f"kernel {entry['treated_as']}",
        "Derived series": entry["derived_series_uid"],
        "Series number": str(entry["series_number"]),
        "Patches": f"{entry['patches']}, {kept}; soft tissue not covered: {entry['uncovered']:.2%}",
        "Time": f"{entry['seconds']:.1f} s",
    }


def provenance_of(run: Entry) -> Provenance:
    """How a run was made.

    Args:
        run: Head of `manifest.json`.
    """
    return Provenance(
        command=run["command"],
        data={},
        settings=run["settings"],
        seeds={},
        models={model["name"]: model["sha256"] for model in run["models"]},
        versions={"STAN-CT": run["stan_ct"], **run["versions"], "platform": run["platform"]},
        created=run["created"],
    )


def thickness(entry: Entry) -> str:
    """Slice thickness in words."""
    return f"{entry['slice_thickness']:g} mm" if entry["slice_thickness"] is not None else "not stated"
