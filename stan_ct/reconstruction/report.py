"""`report.html`: what became of every series, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stan_ct.reconstruction.fidelity import LOW_PASS_LIMIT, MARGIN, STRUCTURE_LIMIT, TISSUE_LIMITS
from stan_ct.reconstruction.finding_texts import FINDINGS, finding_text
from stan_ct.reconstruction.panels import COLOURS, COLUMNS, DIFFERENCE, LABELS, NOT_JUDGED, UNEXPLAINED, Panel
from stan_ct.reconstruction.wording import counted, first_few, in_words, number_ranges, with_minus
from stan_ct.report.blocks import (
    Block,
    ColourBar,
    Facts,
    Group,
    Legend,
    Level,
    Link,
    Listing,
    Notice,
    Status,
    Tally,
    Text,
    Tiles,
)
from stan_ct.report.html import page
from stan_ct.report.sections import Provenance, Report

FOLDED_ABOVE = 8
"""With more written series than this, each is folded below its name."""
Entry = Mapping[str, Any]
"""A series, or a refusal, as in `manifest.json`."""


def report_page(manifest: Entry, panels: Sequence[Sequence[Panel]]) -> str:
    """The page as HTML; the images are files beside it, see :class:`~stan_ct.reconstruction.panels.Panel`.

    Args:
        manifest: Content of `manifest.json`.
        panels: Images of each series of the manifest.
    """
    return page(build_report(manifest, panels))


def render_report(manifest: Entry, panels: Sequence[Sequence[Panel]]) -> dict[str, str | bytes]:
    """The page and its images: path relative to the output directory -> content.

    Args:
        manifest: Content of `manifest.json`.
        panels: Images of each series of the manifest.
    """
    images = {panel.file: panel.jpeg for of_series in panels for panel in of_series if panel.jpeg}
    return {"report.html": report_page(manifest, panels), **images}


def build_report(manifest: Entry, panels: Sequence[Sequence[Panel]]) -> Report:
    """The report as data: results, refusals, each series, method.

    Args:
        manifest: Content of `manifest.json`.
        panels: Images of each series of the manifest.
    """
    all_series = manifest["series"]
    folded = sum(entry["status"] == "written" for entry in all_series) > FOLDED_ABOVE
    numbered = [(number, *both) for number, both in enumerate(zip(all_series, panels, strict=True), 1)]
    provenance = Provenance(
        command=manifest["command"],
        data={},
        settings=manifest["settings"],
        seeds={},
        models={model["name"]: model["sha256"] for model in manifest["models"]},
        versions={"STAN-CT": manifest["stan_ct"], **manifest["versions"], "platform": manifest["platform"]},
        created=manifest["created"],
    )
    sections = (
        _results(manifest),
        *_refusals(manifest),
        *(_series(number, entry, shown, folded) for number, entry, shown in numbered if entry["status"] == "written"),
        _method(manifest),
    )
    return Report("STAN-CT: standardized CT", sections, provenance, "All numbers are in manifest.json beside this page.")


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
        return Status("bad", status if reason == status else f"{status}: {in_words(reason)}")
    if status != "written":
        raise ValueError(f"expected the status written, refused, failed or left_alone, got {status!r}")
    reasons = ["out of protocol"] if entry["out_of_protocol"] else []
    if count := len(_findings(entry)):
        reasons.append(counted(count, "finding"))
    if count := len(entry["refused_slices"]):
        reasons.append(counted(count, "refused slice"))
    return Status("caution", ", ".join(reasons)) if reasons else Status("good", "no findings")


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
    if series:
        rows = tuple(_overview(number, entry) for number, entry in enumerate(series, 1))
        blocks.append(Listing(("Result", "Series", "Kernel", "Slice thickness", "Slices"), rows))
    if skipped := manifest["skipped"]:
        blocks.append(Text("", "Skipped files: " + ", ".join(f"{count} x {kind}" for kind, count in skipped.items()) + "."))
    return Group("Results", tuple(blocks))


def _tallied(count: int, level: Level, words: str) -> tuple[int, Status]:
    """A count and its light, which is gray for none."""
    return count, Status(level if count else "neutral", words)


def _overview(number: int, entry: Entry) -> tuple[str | Status | Link, ...]:
    name = Link(entry["name"], _anchor(number)) if entry["status"] == "written" else entry["name"]
    return traffic_light(entry), name, entry["kernel"], _thickness(entry), str(entry["shape"][0])


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
    return [Group("Refused or failed", (Listing(("Reason", "Count", "What came", "What to do", "Where"), rows),))]


def _places(refusal: Entry) -> list[str]:
    """Names of the files of a refusal, where they may be shown, or how many there are."""
    return list(refusal.get("files", [])) or [counted(refusal["num_files"], "file")]


def _refusal_row(reason: str, refusals: Sequence[tuple[Entry, Sequence[str]]]) -> tuple[str, ...]:
    found = dict.fromkeys(refusal["found"] for refusal, _ in refusals)
    places = [place for _, named in refusals for place in named]
    count, advice = str(len(refusals)), refusals[0][0]["advice"]
    return in_words(reason).capitalize(), count, first_few(list(found), "; "), advice, first_few(places)


# One series


def _series(number: int, entry: Entry, panels: Sequence[Panel], folded: bool) -> Group:
    blocks = (*_written(entry, panels), Facts(_facts(entry)))
    return Group(entry["name"], blocks, traffic_light(entry), _anchor(number), folded, listed=False)


def _anchor(number: int) -> str:
    return f"series-{number}"


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
    blocks += [Tiles(panel.file, panel.caption, LABELS, COLUMNS, panel.shape) for panel in panels]
    return [*blocks, *([_legend()] if panels else []), _measures(entry)]


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
        values = [finding["value"] for _, finding in named if finding["value"] is not None]
        worst = (min(values) if text.lower else max(values, key=abs)) if values else None
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
        ("Change of soft tissue, mean", with_minus(f"{entry['mean_hu_change']:+.1f} HU"), "none"),
        ("Change of soft tissue, root mean square", f"{entry['rms_hu_change']:.1f} HU", "none: noise is meant to change"),
    ]
    return Listing(("Measured", "Value", "Limit"), tuple(rows))


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
        "Source": f"kernel {entry['kernel']}, slice thickness {_thickness(entry)}, {shape} pixels",
        "Source series": entry["source_series_uid"],
        "Treated as": f"kernel {entry['treated_as']}",
        "Derived series": entry["derived_series_uid"],
        "Series number": str(entry["series_number"]),
        "Patches": f"{entry['patches']}, {kept}; soft tissue not covered: {entry['uncovered']:.2%}",
        "Time": f"{entry['seconds']:.1f} s",
    }


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
    kernels = f"kernel {model['source_kernel']} \N{RIGHTWARDS ARROW} {model['target_kernel']}"
    return f"{model['name']} ({model['sha256'][:8]}), {kernels}, patches qualified from P(real) = {model['qc_threshold']:.3g}"


def _thickness(entry: Entry) -> str:
    return f"{entry['slice_thickness']:g} mm" if entry["slice_thickness"] is not None else "not stated"
