"""Table of differences from the target in HU."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stan_ct.evaluation.measure.measurement import PLACES
from stan_ct.evaluation.tables.rows import REFERENCE, Rows, compared_rows
from stan_ct.report.sections import Cell, Table, slug

NO_PIXELS = "no pixel of this tissue"


def hu_table(subject: str, rows: Rows) -> Table:
    """Differences from the target in HU: bias by tissue, mean magnitude and root mean square over soft tissue."""
    columns = (*(f"bias, {place}" for place in PLACES[1:]), "MAE", "RMSE")
    cells = {name: _hu_cells(row.hu.sum(axis=0)) for name, row in compared_rows(rows).items()}
    caption = (
        "Differences to the target in HU: mean by tissue (the smoothed target says which is which), and mean magnitude and "
        "root mean square wherever the source is in the soft-tissue range."
    )
    better = {"MAE": "lower", "RMSE": "lower"}
    title, key = f"HU, {subject}", f"hu_{slug(subject)}"
    return Table(title, caption, columns, cells, better=better, reference=REFERENCE, decimals=1, key=key)


def _hu_cells(sums: np.ndarray) -> tuple[Cell, ...]:
    """Cells from pixels and sums of all places, (len(PLACES), 4)."""

    def ratio(numerator: float, pixels: float) -> Cell:
        value = numerator / pixels if pixels else np.nan
        return Cell(float(value), n=int(pixels), reason="" if pixels else NO_PIXELS)

    pixels, _, magnitudes, squares = sums[0]
    biases = [ratio(difference, number) for number, difference, _, _ in sums[1:]]
    square = ratio(squares, pixels)
    return (*biases, ratio(magnitudes, pixels), replace(square, mean=square.mean**0.5))
