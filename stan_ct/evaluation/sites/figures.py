"""Figures of sites side by side: noise spectra, HU of tissues, effects of covariates. For others see `stan_ct.report.plots`."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from stan_ct.ct.tissues import TISSUES
from stan_ct.evaluation.sites.comparison import FeatureComparison, SitePair, standardized_site
from stan_ct.evaluation.sites.features import AFTER, BEFORE
from stan_ct.evaluation.sites.images import ImageComparison
from stan_ct.evaluation.sites.measure import FREQUENCIES
from stan_ct.evaluation.statistics.separation import Separation
from stan_ct.report.plots import COLOURS, GRAY, STYLE, line_style, make_logarithmic

BAND = (10, 90)
"""Percentiles over patients that the band of a spectrum shows; of fewer than ten patients, smallest and largest."""

FAR = 6.0
"""Cohen's d beyond which its axis is logarithmic from 1 on."""


@matplotlib.rc_context(STYLE)
def noise_figure(images: ImageComparison) -> Figure:
    """Noise spectra of each site, one panel per state: median over patients, and a band."""
    figure = Figure(figsize=(9.8, 3.7), layout="constrained")
    axes = figure.subplots(1, len(images.states), sharey=True, squeeze=False)[0]
    for ax, state in zip(axes, images.states, strict=True):
        for number, (site, power) in enumerate(images.powers[state].items()):
            known = power[np.isfinite(power).any(axis=1)]
            if not np.isfinite(known).all(axis=0).any():
                continue
            amplitude = np.sqrt(known[:, np.isfinite(known).all(axis=0)])
            frequency = FREQUENCIES[np.isfinite(known).all(axis=0)]
            low, high = np.percentile(amplitude, BAND if len(known) >= 10 else (0, 100), axis=0)
            style = {**line_style(number), "marker": ""}
            ax.fill_between(frequency, low, high, color=style["color"], alpha=0.18, linewidth=0)
            ax.plot(frequency, np.median(amplitude, axis=0), label=f"{site} ({len(known)} patients)", **style)
        ax.set_title(state)
        ax.set_xlabel("spatial frequency [lp/cm]")
    if axes[0].lines:
        make_logarithmic(axes[0].yaxis)  # shared
    axes[0].set_ylabel("noise amplitude [HU mm]")
    if axes[0].lines:
        axes[0].legend()
    return figure


@matplotlib.rc_context(STYLE)
def tissue_figure(images: ImageComparison) -> Figure:
    """Mean HU of each tissue, one panel per tissue: each site in each state, with its interval over patients."""
    sites = list(images.tissues[BEFORE])
    shown = [t for t in TISSUES if any(not np.isnan(images.tissues[BEFORE][site][t].mean) for site in sites)]
    figure = Figure(figsize=(2.4 * max(len(shown), 1) + 0.8, 3.3), layout="constrained")
    axes = figure.subplots(1, max(len(shown), 1), squeeze=False)[0]
    for ax, tissue in zip(axes, shown, strict=False):
        for number, site in enumerate(sites):
            for place, state in enumerate(images.states):
                mean = images.tissues[state][site][tissue]
                x = place + 0.16 * (number - (len(sites) - 1) / 2)
                style = line_style(number)
                ax.plot([x, x], [mean.interval.low, mean.interval.high], color=style["color"], linewidth=1.4)
                ax.plot([x], [mean.mean], style["marker"], color=style["color"], label=site if not place else None)
        ax.set_title(tissue)
        ax.set_xticks(range(len(images.states)), [state.replace(" ", "\n", 1) for state in images.states])
        ax.set_xlim(-0.6, len(images.states) - 0.4)
    axes[0].set_ylabel("mean HU")
    if shown:
        axes[0].legend()
    return figure


@matplotlib.rc_context(STYLE)
def distance_figure(found: FeatureComparison, pair: SitePair) -> Figure:
    """Cohen's d of each feature with its interval, one panel per state, all on one scale."""
    distances, names = found.distances[pair], found.features.names
    figure = Figure(figsize=(max(9.0, 2.4 + 1.9 * len(distances)), 0.9 + 0.24 * len(names)), layout="constrained")
    axes = figure.subplots(1, len(distances), sharex=True, sharey=True, squeeze=False)[0]
    for ax, (state, distance) in zip(axes, distances.items(), strict=True):
        ax.axvline(0, color="#000000", linestyle="--", linewidth=1)
        for y, (d, interval) in enumerate(zip(distance.d, distance.intervals, strict=True)):
            colour = COLOURS[1] if interval.low > 0 or interval.high < 0 else COLOURS[0]
            ax.plot([interval.low, interval.high], [y, y], "|-", color=colour, linewidth=1.4, markersize=6)
            ax.plot([d], [y], "o", color=colour, markersize=3.6)
        ax.set_title(state.replace(" ", "\n", 1), fontsize=9)
        ax.tick_params(axis="y", length=0)
        if max(abs(end) for end in axes[0].get_xlim()) > FAR:
            ax.set_xscale("symlog", linthresh=1)
            ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes[0].set_yticks(range(len(names)), names)
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    figure.supxlabel(f"Cohen's d, {pair[0]} to {pair[1]}; orange: the interval excludes 0", fontsize=9)
    return figure


@matplotlib.rc_context(STYLE)
def separation_figure(found: dict[str, dict[str, Separation]]) -> Figure:
    """AUC of each classifier in each state, with its interval, beside 0.5.

    Args:
        found: State -> name of a classifier -> how well it tells the sites.
    """
    states, names = list(found), list(next(iter(found.values())))
    figure = Figure(figsize=(7.5, 1.3 + 0.5 * len(states)), layout="constrained")
    ax = figure.subplots()
    for number, name in enumerate(names):
        style = line_style(number)
        for row, state in enumerate(states):
            s, y = found[state][name], row + 0.24 * (number - (len(names) - 1) / 2)
            if np.isnan(s.auc):
                ax.text(0.5, y, "undefined", ha="center", va="center", color=GRAY, fontsize=8)
                continue
            ax.plot([s.low, s.high], [y, y], "|-", color=style["color"], linewidth=1.4, markersize=7)
            ax.plot([s.auc], [y], style["marker"], color=style["color"], label=name if not row else None)
    ax.axvline(0.5, color="#000000", linestyle="--", linewidth=1)
    ax.set(xlim=(-0.02, 1.02), xlabel="cross-validated AUC; 0.5: the sites cannot be told")
    ax.set_yticks(range(len(states)), states)
    ax.set_ylim(len(states) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(names))
    return figure


@matplotlib.rc_context(STYLE)
def effect_figure(found: FeatureComparison, name: str) -> Figure:
    """Effects of a covariate on each feature: within sites before, against pooled over sites in each state."""
    states = found.effects[name]
    figure = Figure(figsize=(max(9.0, 2.7 * len(states) + 0.6), 3.2), layout="constrained")
    axes = figure.subplots(1, len(states), sharey=True, squeeze=False)[0]
    reference = states[BEFORE].within
    for ax, (state, effect) in zip(axes, states.items(), strict=True):
        ax.plot([-1, 1], [-1, 1], color=GRAY, linewidth=1, linestyle="--")
        ax.plot(reference, effect.pooled, "o", color=COLOURS[0], markersize=4, alpha=0.8)
        ax.set(xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), aspect="equal", xlabel="rho within sites, before")
        ax.set_title(state, fontsize=9)
    axes[0].set_ylabel("rho pooled over sites")
    return figure


@matplotlib.rc_context(STYLE)
def rank_figure(found: FeatureComparison) -> Figure:
    """Spearman's rho of each feature with that before: one line per site and state, a mark per feature."""
    rows = [
        (site, state, s.rho)
        for state, sites in found.ranks.items()
        for site, s in sites.items()
        if state != AFTER or standardized_site(found, site)
    ]
    figure = Figure(figsize=(7.5, 1.0 + 0.38 * len(rows)), layout="constrained")
    ax = figure.subplots()
    order = list(found.features.site_names)
    for y, (site, _, rho) in enumerate(rows):
        known = np.sort(rho[np.isfinite(rho)])
        jitter = 0.5 * (np.arange(len(known)) % 5 / 4 - 0.5)  # equal values stand apart
        ax.plot(
            known,
            y + jitter,
            line_style(order.index(site))["marker"],
            color=line_style(order.index(site))["color"],
            markersize=3.5,
        )
    ax.axvline(0.95, color="#000000", linestyle="--", linewidth=1)
    ax.set(xlabel="Spearman's rho with the feature before; dashed: 0.95", xlim=(min(ax.get_xlim()[0], 0.5), 1.02))
    ax.set_yticks(range(len(rows)), [f"{site}, {state}" for site, state, _ in rows])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    return figure
