"""The page of the experiment: tables as mean with 95 % interval, and what was claimed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import numpy as np

from reproduction import rows
from reproduction.claims import Claim
from reproduction.intervals import RESAMPLES
from reproduction.results import BIASES, QUANTITIES, RMSE, Results, RowResult
from stan_ct import __version__
from stan_ct.report.blocks import Group, Listing, Text
from stan_ct.report.sections import Cell, Provenance, Report, Section, Table, slug

AGREES, SEEDS = "CCC ≥ 0.85", "seeds"
SHOWN = tuple(name for name in QUANTITIES if name not in BIASES)
"""Quantities of the tables of errors."""

NO_INTERVAL = "one seed, or one patient and no seeds: no interval"

INTERVALS = (
    "Intervals are of 95 %, over seeds and patients. Every seed is tested on the same patients; patients are drawn with "
    f"replacement ({RESAMPLES:,} times), each with all its patches, and the mean over the seeds is taken. The scatter of the "
    "seeds enters as Student's t with one degree of freedom fewer than seeds. Differences are of the same patients and seeds. "
    "Where there is one patient, intervals are over seeds alone; where a row has no seeds, over patients alone. A claim is not "
    "told apart where its interval holds the limit. No correction is made for the number of claims."
)


def report(
    scale: str, results: Sequence[Results], claims: Mapping[str, Sequence[Claim]], models: Mapping[str, str], command: str
) -> Report:
    """The report of the experiment.

    Args:
        scale: `smoke`, `laptop` or `paper`.
        results: Rows of every test.
        claims: Heading -> claims.
        models: Name of a model -> SHA-256.
        command: Command line.
    """
    asked = Group(
        "What is said, and whether it is so here", tuple(_listing(name, told) for name, told in claims.items() if told)
    )
    sections: list[Section] = [Text("Intervals", INTERVALS), asked]
    for one in results:
        sections += [error_table(one), *difference_tables(one), bias_table(one)]
    provenance = Provenance(
        command=command,
        data={each.title: f"{each.num_patches:,} test patches, patients: {each.num_patients}" for each in results},
        settings={"scale": scale},
        seeds={"draws of patients": 0},
        models=models,
        versions={"stan-ct": __version__, "numpy": np.__version__},
        created=datetime.now().astimezone().isoformat(timespec="seconds"),
    )
    return Report(f"STAN-CT: the experiment, {scale}", tuple(sections), provenance)


def _listing(heading: str, claims: Sequence[Claim]) -> Listing:
    return Listing(
        (heading, "here", "numbers"), tuple((claim.said, claim.answer.strip("*"), claim.numbers) for claim in claims)
    )


def claims_text(claims: Mapping[str, Sequence[Claim]]) -> str:
    """Claims as Markdown."""
    lines: list[str] = []
    for heading, told in claims.items():
        if told:
            lines += [f"| {heading} | here | numbers |", "|---|---|---|"]
            lines += [f"| {claim.said} | {claim.answer} | {claim.numbers} |" for claim in told] + [""]
    return "\n".join(lines)


def error_table(results: Results) -> Table:
    """Errors, HU RMSE and agreement of every row: mean with 95 % interval."""
    caption = f"Errors (Eq. 8), mean with 95 % interval over seeds and patients; {_subject(results)}. 0 is equal to the target."
    cells = {name: (*_cells(row, SHOWN), *_more(row)) for name, row in results.rows.items()}
    return Table(
        f"Table 1, {results.title}",
        caption,
        (*SHOWN, AGREES, SEEDS),
        cells,
        better={**dict.fromkeys(SHOWN, "lower"), AGREES: "higher"},
        reference=frozenset({rows.SOURCE}),
        decimals={RMSE: 2, AGREES: 2, SEEDS: 0},
        key=f"errors_{slug(results.title)}",
    )


def difference_tables(results: Results) -> list[Table]:
    """Every row minus the best one without networks; empty if that is missing."""
    if rows.BASELINE not in results.rows:
        return []
    cells = {}
    for name in results.rows:
        if name not in (rows.SOURCE, rows.BASELINE):
            found = results.difference(name, rows.BASELINE)
            cells[name] = _numbers(found.mean, found.low, found.high, SHOWN)
    caption = f"Each row minus {rows.BASELINE}, mean with 95 % interval; below 0 it is better. {_subject(results)}."
    title = f"Differences, {results.title}"
    decimals = {RMSE: 2}
    return [Table(title, caption, SHOWN, cells, decimals=decimals, key=f"differences_{slug(results.title)}")]


def bias_table(results: Results) -> Table:
    """Mean difference from the target in HU, by tissue."""
    caption = f"Mean difference from the target in HU, mean with 95 % interval; {_subject(results)}."
    cells = {name: _cells(row, BIASES) for name, row in results.rows.items()}
    reference, title = frozenset({rows.SOURCE}), f"Bias, {results.title}"
    key = f"bias_{slug(results.title)}"
    return Table(title, caption, BIASES, cells, better="neither", reference=reference, decimals=1, key=key)


def _subject(results: Results) -> str:
    return f"{results.num_patches:,} test patches, patients: {results.num_patients}"


def _cells(row: RowResult, quantities: Sequence[str]) -> tuple[Cell, ...]:
    found = row.estimate()
    return _numbers(found.mean, found.low, found.high, quantities)


def _numbers(mean: np.ndarray, low: np.ndarray, high: np.ndarray, quantities: Sequence[str]) -> tuple[Cell, ...]:
    places = [QUANTITIES.index(name) for name in quantities]
    return tuple(
        Cell(float(mean[k]), low=float(low[k]), high=float(high[k]), reason=NO_INTERVAL if np.isnan(low[k]) else "")
        for k in places
    )


def _more(row: RowResult) -> tuple[Cell, Cell]:
    """Agreement, mean over seeds, and number of seeds."""
    agreement = float(row.agreeing.mean())
    return Cell(agreement, reason="the features do not vary" if np.isnan(agreement) else ""), Cell(float(len(row.seeds)))
