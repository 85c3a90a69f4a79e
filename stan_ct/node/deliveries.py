"""What is still to be sent to each destination, and what has arrived there."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stan_ct.node.destinations import Destination
from stan_ct.node.spool import STANDARDIZED, Spool

MOST_REFUSALS = 5
"""How often a destination may refuse slices of a series before the series is given up there."""


@dataclass(frozen=True)
class Parcel:
    """Derived slices of one series that a destination does not have yet.

    Attributes:
        key: Key of the series.
        files: SOP Instance UID -> file.
        attempts: How often slices of it were refused.
    """

    key: str
    files: dict[str, Path]
    attempts: int


def pending(spool: Spool, destination: Destination) -> list[str]:
    """Keys of the series that are to be sent to a destination, those refused least often first."""
    query = (
        "SELECT series FROM deliveries JOIN series ON series.key = deliveries.series WHERE destination = ? AND "
        "deliveries.state = 'pending' AND series.state = 'standardized' ORDER BY attempts, deliveries.changed"
    )
    return [row[0] for row in spool.database.rows(query, destination.name)]


def parcel(spool: Spool, destination: Destination, key: str) -> Parcel:
    """What a destination lacks of a series."""
    query = "SELECT sop_uid, path FROM outputs WHERE series = ? AND destination = ? AND sent IS NULL ORDER BY path"
    folder = spool.folder / STANDARDIZED / key
    files = {row["sop_uid"]: folder / row["path"] for row in spool.database.rows(query, key, destination.name)}
    attempts = spool.database.number(
        "SELECT attempts FROM deliveries WHERE series = ? AND destination = ?", key, destination.name
    )
    return Parcel(key, files, int(attempts))


def arrived(spool: Spool, destination: Destination, key: str, sop_uid: str) -> None:
    """Enters that a destination has a slice, and, with its last one, the series."""
    now, place = time.time(), (key, destination.name)
    with spool.database.transaction() as change:
        change.execute(
            "UPDATE outputs SET sent = ? WHERE series = ? AND destination = ? AND sop_uid = ?", (now, *place, sop_uid)
        )
        unsent = "SELECT 1 FROM outputs WHERE series = ? AND destination = ? AND sent IS NULL"
        if not change.execute(unsent, place).fetchone():
            change.execute(
                "UPDATE deliveries SET state = 'sent', error = '', changed = ? WHERE series = ? AND destination = ?",
                (now, *place),
            )
            change.execute("UPDATE series SET changed = ? WHERE key = ?", (now, key))


def refused(spool: Spool, destination: Destination, key: str, error: str) -> bool:
    """Enters that a destination refused slices of a series.

    Returns:
        Whether the series is given up there.
    """
    now, place = time.time(), (key, destination.name)
    with spool.database.transaction() as change:
        change.execute(
            "UPDATE deliveries SET attempts = attempts + 1, error = ?, changed = ? WHERE series = ? AND destination = ?",
            (error[:500], now, *place),
        )
        change.execute(
            "UPDATE deliveries SET state = 'refused' WHERE series = ? AND destination = ? AND attempts >= ?",
            (*place, MOST_REFUSALS),
        )
    state = "SELECT 1 FROM deliveries WHERE series = ? AND destination = ? AND state = 'refused'"
    return bool(spool.database.rows(state, *place))


def cancel_others(spool: Spool, destinations: Sequence[Destination]) -> int:
    """Gives up what was to be sent to destinations that are no more; returns the number of deliveries."""
    names = [each.name for each in destinations]
    marks = ", ".join("?" * len(names))
    with spool.database.transaction() as change:
        done = change.execute(
            "UPDATE deliveries SET state = 'cancelled', error = 'no destination any more', changed = ? "
            f"WHERE state = 'pending' AND destination NOT IN ({marks})",
            (time.time(), *names),
        )
    return done.rowcount


def retry_refused(spool: Spool) -> None:
    """Has what destinations refused sent once more, where the images are still there."""
    with spool.database.transaction() as change:
        change.execute(
            "UPDATE deliveries SET state = 'pending', attempts = 0 WHERE state = 'refused' AND series IN "
            "(SELECT key FROM series WHERE stored)"
        )
