"""The report of an adaptation: the filters with their intervals, the noise before and after, and what the data allow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from stan_ct import __version__
from stan_ct.adaptation.fit import SURE, AdaptedFilter
from stan_ct.adaptation.matching import VALIDATING
from stan_ct.adaptation.training import SURE as SURE_OF_G
from stan_ct.adaptation.training import Trial
from stan_ct.ct.slice_spectra import FREQUENCY
from stan_ct.models.config import ModelConfig
from stan_ct.report.blocks import Facts, Group, Notice, Text
from stan_ct.report.sections import FigureSection, Provenance, Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from stan_ct.ct.fingerprint import Fingerprint

DOSES = (0.8, 1.25)
"""Ratios of noise between which doses count as the same."""
RATIO = 1.5
"""Ratio of slice thicknesses from which they are called different."""


def verdict(kernel: str, target: str, fitted: AdaptedFilter) -> str:
    """How sure a filter is, and what would make it surer, in one or two sentences."""
    source, standard = fitted.patients
    known = f"{kernel} to {target}: the gain is known to {100 * fitted.uncertainty:.1f} % (95 % interval, over {fitted.over})"
    of = f"{source} source and {standard} target patient{'' if standard == 1 else 's'}"
    if fitted.over != "patients":
        missing = fitted.missing_patients
        return f"{known}, from {of}. How much patients differ cannot be seen: {missing} more on the side of one would tell."
    if more := fitted.missing_patients:
        return f"{known}, from {of}. For {100 * SURE:.0f} %, {more} more patient{'' if more == 1 else 's'} a side are needed."
    return f"{known}, from {of}. These are enough."


def worth(trial: Trial) -> str:
    """What training was worth, and whether G is part of the model."""
    if not trial.before:
        return (
            f"G was not trained, the filters stand alone: it takes {2 * VALIDATING} patients of each kernel, half of whom "
            f"validate, since like patches differ by up to a fifth from patient to patient; there are {trial.patients}."
        )
    before, after = (100 * float(np.mean(values)) for values in (trial.before, trial.after))
    compared = (
        f"mean features of {trial.patches[1]} validation patches differ from those of like target patches by {before:.1f} % "
        f"after the filters and by {after:.1f} % after G; by less after G in {100 * trial.share:.0f} % of resamplings of the "
        f"{trial.patients} patients"
    )
    if trial.kept:
        return f"G is part of the model: {compared}."
    rule = f"G is kept from {100 * SURE_OF_G:.0f} %"
    return f"G was trained and is not part of the model, which is the filters alone: {compared}; {rule}."


def cautions(config: ModelConfig, filters: Mapping[str, AdaptedFilter]) -> list[str]:
    """What a user has to know about both sides: doses and thicknesses that differ, which no filter changes."""
    found = []
    for source in config.sources:
        fitted = filters[source.kernel]
        if not DOSES[0] <= fitted.dose <= DOSES[1]:
            more = "more" if fitted.dose > 1 else "less"
            found.append(
                f"{config.target_kernel} has {fitted.dose:.2g} times the noise of {source.kernel} beyond what kernels make: "
                f"its patients had {more} of it, by dose, size or thickness. The filter changes the kernel and leaves that."
            )
        if config.standard and (words := _thicknesses(source, config.standard)):
            found.append(words)
    return found


def _thicknesses(source: Fingerprint, standard: Fingerprint) -> str:
    ends = [np.mean(each.slice_thickness) for each in (source, standard)]
    if min(ends) <= 0 or max(ends) / min(ends) < RATIO:
        return ""
    return (
        f"Slices of {source.kernel} are {_range(source.slice_thickness)} mm thick, those of {standard.kernel} "
        f"{_range(standard.slice_thickness)} mm: the filter changes texture within slices, not their thickness."
    )


def _range(ends: tuple[float, float]) -> str:
    low, high = ends
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def adaptation_report(
    config: ModelConfig,
    filters: Mapping[str, AdaptedFilter],
    left_out: Sequence[str] = (),
    command: str = "",
    trial: Trial | None = None,
) -> Report:
    """The report; equal models give equal bytes.

    Args:
        config: The model.
        filters: Source kernel -> its filter.
        left_out: Patients that could not be measured.
        command: Command line.
        trial: What training was worth, if there was any.
    """
    said: list[Notice] = []
    for kernel, fitted in filters.items():
        level = "caution" if fitted.missing_patients else "good"
        said.append(Notice(level, verdict(kernel, config.target_kernel, fitted)))  # type: ignore[arg-type]
    said += [Notice("caution", text) for text in cautions(config, filters)]
    if trial:
        said.append(Notice("good" if trial.kept else "caution", worth(trial)))
    if left_out:
        said.append(Notice("caution", f"Left out, since no slice could be measured: {'; '.join(left_out)}."))
    groups = [Group("What the scans allow", tuple(said))]
    sides = [*config.sources, *([config.standard] if config.standard else [])]
    groups += [
        Group(f"Kernel {each.kernel}{' (standard)' if each is config.standard else ''}", (Facts(_facts(each)),))
        for each in sides
    ]
    figures = [
        FigureSection(
            f"filter {kernel}",
            f"{kernel} to {config.target_kernel}. Left: gain with its 95 % interval over {fitted.over}. Right: noise of "
            "uniform tissue, geometric mean over the patients, of the sources, of the filtered sources, and of the targets at "
            "their own dose: where the kernel is right, the last two are parallel.",
            _figure(kernel, config.target_kernel, fitted),
        )
        for kernel, fitted in filters.items()
    ]
    note = Text(
        "What this model is",
        "A radial filter of whole slices for each source kernel, fitted to scans of different patients. It makes the spectrum "
        "of noise and edges that of the standard kernel and keeps mean HU. It does not change dose or slice thickness. "
        "Research use only, not for diagnosis.",
    )
    provenance = Provenance(
        command or "stan_ct.adapt",
        {},
        {"name": config.name},
        {"bootstrap": 0},
        {},
        {"stan_ct": __version__},
        "not recorded, so that the same scans give the same page",
    )
    return Report(f"{config.source_kernel} to {config.target_kernel}, without pairs", (*groups, *figures, note), provenance)


def _facts(side: Fingerprint) -> dict[str, str]:
    low, high = np.exp(side.level)
    return {
        "Slice thickness": f"{_range(side.slice_thickness)} mm",
        "Pixel spacing": f"{_range(side.pixel_spacing)} mm",
        "Noise of its series": f"{low:.2g} to {high:.2g} HU mm, mean of 3.5 to 7 lp/cm",
    }


def _figure(kernel: str, target: str, fitted: AdaptedFilter) -> Figure:
    import matplotlib
    from matplotlib.figure import Figure

    from stan_ct.report.plots import COLOURS, STYLE, make_logarithmic

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        used = fitted.filter.frequency[-1] >= FREQUENCY
        f = FREQUENCY[used]
        gain = np.interp(f, fitted.filter.frequency, fitted.filter.gain)
        left.fill_between(f, fitted.low[used], fitted.high[used], color=COLOURS[0], alpha=0.25, linewidth=0)
        left.plot(f, gain, color=COLOURS[0])
        left.set_title(f"Gain, {kernel} to {target}")
        for name, style, label in (
            ("before", "-", kernel),
            ("after", "--", f"{kernel}, filtered"),
            ("target", "-", target),
        ):
            values = getattr(fitted, name)[used]
            known = np.isfinite(values) & (f >= 0.5)
            colour = COLOURS[("before", "after", "target").index(name)]
            right.plot(f[known], values[known], style, color=colour, label=label)
        right.set_title("Noise of uniform tissue, HU mm")
        right.legend()
        for ax in (left, right):
            make_logarithmic(ax.yaxis)
            ax.axvline(fitted.nyquist, color="#9aa3ad", linewidth=0.8)
            ax.set_xlabel("spatial frequency, lp/cm (line: Nyquist)")
    return figure
