"""Rows of a study's tables: what was measured of the source, the target and every method, by name."""

from __future__ import annotations

from collections.abc import Mapping

from stan_ct.evaluation.measure.measurement import Measured

SOURCE, TARGET = "source", "target"

REFERENCE = frozenset({SOURCE})
"""Rows that do not compete for the best value."""

ZERO_TARGET = "the target's feature is 0"

Rows = Mapping[str, Measured]
"""Name -> measurements: `target`, `source` and the methods."""


def compared_rows(rows: Rows) -> dict[str, Measured]:
    """All rows but the target's."""
    return {name: row for name, row in rows.items() if name != TARGET}
