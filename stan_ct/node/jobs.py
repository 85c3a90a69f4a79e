"""What becomes of a series that was standardized, or could not be: in the database, all of it or nothing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from stan_ct.node.destinations import Destination
from stan_ct.node.spool import Job, Spool

Status = Literal["standardized", "left_alone", "refused", "failed"]

MOST_CRASHES, MOST_STARTS = 3, 20
"""How often the process that standardizes may crash over a series, and how often a series may be started at all: a series at
which the whole node dies is given up too."""


@dataclass(frozen=True)
class Result:
    """What became of a series.

    Attributes:
        status: `standardized` if something was written.
        kernel: Convolution Kernel (0018,1210).
        model: Names of the models that were used.
        reason: Why something was refused; a key of :data:`~stan_ct.dicom.refusal.ADVICE`, or a word of the node.
        found: What came.
        advice: What to do.
        outputs: SOP Instance UID and path, relative to the output directory, of each derived slice.
        size: Bytes of the output directory.
    """

    status: Status
    kernel: str = ""
    model: str = ""
    reason: str = ""
    found: str = ""
    advice: str = ""
    outputs: Sequence[tuple[str, str]] = ()
    size: int = 0


def finish(spool: Spool, job: Job, result: Result, destinations: Sequence[Destination]) -> bool:
    """Enters the result of a job, and what is to be sent where; slices that went out before are not sent again.

    Returns:
        Whether it counts: False if slices came meanwhile, so that the series is standardized again with them.
    """
    now = time.time()
    with spool.database.transaction() as change:
        row = change.execute("SELECT slices, claimed FROM series WHERE key = ?", (job.key,)).fetchone()
        if row["slices"] != row["claimed"]:
            change.execute("UPDATE series SET state = 'receiving' WHERE key = ?", (job.key,))
            return False
        about = (result.status, result.kernel, result.model, result.reason, result.found[:500], result.advice, result.size)
        change.execute(
            "UPDATE series SET state = ?, kernel = ?, model = ?, reason = ?, found = ?, advice = ?, output_bytes = ?, "
            "changed = ? WHERE key = ?",
            (*about, now, job.key),
        )
        change.execute("DELETE FROM outputs WHERE series = ? AND sent IS NULL", (job.key,))
        for destination in destinations if result.outputs else ():
            change.executemany(
                "INSERT INTO outputs (series, destination, sop_uid, path) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                [(job.key, destination.name, uid, path) for uid, path in result.outputs],
            )
            unsent = "SELECT 1 FROM outputs WHERE series = ? AND destination = ? AND sent IS NULL"
            state = "pending" if change.execute(unsent, (job.key, destination.name)).fetchone() else "sent"
            change.execute(
                "INSERT INTO deliveries (series, destination, state, changed) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE "
                "SET state = excluded.state, attempts = 0, error = '', changed = excluded.changed",
                (job.key, destination.name, state, now),
            )
    return True


def crashed(spool: Spool, job: Job, found: str) -> bool:
    """Enters that the process that standardizes ended over a job.

    Returns:
        Whether the series was given up.
    """
    with spool.database.transaction() as change:
        change.execute("UPDATE series SET crashes = crashes + 1, state = 'receiving' WHERE key = ?", (job.key,))
    crashes = spool.database.number("SELECT crashes FROM series WHERE key = ?", job.key)
    return crashes >= MOST_CRASHES and give_up(spool, job, found)


def put_back(spool: Spool, job: Job) -> None:
    """Enters that a job was not done for a reason that is not the series': it is to be done again, as often as it takes."""
    with spool.database.transaction() as change:
        change.execute("UPDATE series SET state = 'receiving', starts = max(starts - 1, 0) WHERE key = ?", (job.key,))


def give_up(spool: Spool, job: Job, found: str) -> bool:
    """Enters that a series cannot be standardized, since whatever tries it ends."""
    advice = "Sent again, it is tried again. Try stan-ct reconstruct on the series, and report what it says."
    with spool.database.transaction() as change:
        change.execute("UPDATE series SET claimed = slices WHERE key = ?", (job.key,))
    return finish(spool, job, Result("failed", reason="crashed", found=found, advice=advice), ())
