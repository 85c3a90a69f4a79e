"""What the spool can tell an operator: series and where they are, numbers, and the table of what went wrong."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from datetime import datetime

from stan_ct.files import without_formula, write_atomically
from stan_ct.node.spool import Spool

FAILURES = "failures.csv"
"""Name of the table in the spool."""
COLUMNS = ("time", "series", "series_uid", "study_uid", "sender", "slices", "what", "reason", "found", "what_to_do")
"""Its columns; `series` is the name that the status page uses."""
SHOWN = 100
"""Series that the status page shows at most."""

STATE_WORDS = {
    "receiving": "coming in",
    "standardizing": "being standardized",
    "standardized": "standardized",
    "left_alone": "left alone: it has the standard protocol",
    "refused": "refused",
    "failed": "failed",
}
"""State of a series -> words."""


@dataclass(frozen=True)
class SeriesLine:
    """A series on the status page; it names no patient.

    Attributes:
        name: Start of its key, which is a hash.
        received: Time of its first slice.
        sender: AE title.
        slices: Number of slices.
        kernel: Convolution Kernel, once it is known.
        state: In words.
        light: `good`, `caution`, `bad` or `neutral`.
        reason: What was refused, and why; empty if nothing was.
        sent: What became of it at each destination.
    """

    name: str
    received: str
    sender: str
    slices: int
    kernel: str
    state: str
    light: str
    reason: str
    sent: list[str]


def series_lines(spool: Spool, limit: int = SHOWN) -> list[SeriesLine]:
    """The series whose state changed last."""
    deliveries: dict[str, list[str]] = {}
    newest = "SELECT key FROM series ORDER BY changed DESC LIMIT ?"
    query = f"SELECT * FROM deliveries WHERE series IN ({newest}) ORDER BY destination"
    for row in spool.database.rows(query, limit):
        words = f"{row['destination']}: {row['state']}" + (f" ({row['error']})" if row["error"] else "")
        deliveries.setdefault(row["series"], []).append(words)
    return [
        SeriesLine(
            row["key"][:8],
            _time(row["received"]),
            row["sender"],
            row["slices"],
            row["kernel"],
            STATE_WORDS[row["state"]],
            _light(row["state"], row["reason"], deliveries.get(row["key"], [])),
            f"{row['reason']}: {row['found']}" if row["reason"] else "",
            deliveries.get(row["key"], []),
        )
        for row in spool.database.rows("SELECT * FROM series ORDER BY changed DESC LIMIT ?", limit)
    ]


def _light(state: str, reason: str, sent: list[str]) -> str:
    if state in ("refused", "failed") or any(": refused" in each or ": cancelled" in each for each in sent):
        return "bad"
    if state == "standardized":
        return "caution" if reason or any(": pending" in each for each in sent) else "good"
    return "neutral"


def states(spool: Spool) -> dict[str, int]:
    """State -> number of series, every state among them."""
    found = {row[0]: row[1] for row in spool.database.rows("SELECT state, count(*) FROM series GROUP BY state")}
    return {state: found.get(state, 0) for state in STATE_WORDS}


def deliveries(spool: Spool) -> dict[tuple[str, str], int]:
    """(destination, state) -> number of series."""
    query = "SELECT destination, state, count(*) FROM deliveries GROUP BY destination, state"
    return {(row[0], row[1]): row[2] for row in spool.database.rows(query)}


def write_failures(spool: Spool) -> None:
    """Writes `failures.csv`: a line for each series that was not standardized, whole, and delivered everywhere, and why.

    Raises:
        OSError: If it cannot be written.
    """
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    series = "SELECT * FROM series WHERE reason != '' AND state NOT IN ('receiving', 'standardizing') ORDER BY changed"
    for row in spool.database.rows(series):
        what = "slices refused" if row["state"] == "standardized" else row["state"]
        about = (row["series_uid"], row["study_uid"], row["sender"], row["slices"], what, row["reason"])
        writer.writerow(map(_plain, (_time(row["changed"]), row["key"][:8], *about, row["found"], row["advice"])))
    query = (
        "SELECT series.*, deliveries.* FROM deliveries JOIN series ON series.key = deliveries.series "
        "WHERE deliveries.state IN ('refused', 'cancelled') ORDER BY deliveries.changed"
    )
    for row in spool.database.rows(query):
        advice = "Look why the destination refuses it; the node tries again when it is started again."
        about = (row["series_uid"], row["study_uid"], row["sender"], row["slices"], "not delivered", row["destination"])
        writer.writerow(map(_plain, (_time(row["changed"]), row["series"][:8], *about, row["error"], advice)))
    write_atomically(spool.folder / FAILURES, table.getvalue())


def _plain(value: object) -> object:
    """A value on one line that no spreadsheet takes for a formula."""
    return without_formula(" ".join(str(value).split()))


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(sep=" ", timespec="seconds")
