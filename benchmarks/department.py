"""A department in fast motion, measured: scanners that send at random, a node that is killed, a PACS that is away.

python benchmarks/department.py [--series=500] [--kills=50] [--away=10] [--bad=5] [--ahead=12] [--seed=0] [--work_dir=DIR]
python benchmarks/department.py --fuzz=500

Several scanners send --series series of three slices of 64 x 64 pixels at random; --bad of them cannot be standardized.
Meanwhile the node is killed (SIGKILL) --kills times at random moments, so while it receives, standardizes and sends, and
started again on its spool; the PACS is away --away times. Scanners send again what was not taken. In the end every series must
be in the PACS once, whole, with the bytes of an undisturbed run, or be named in failures.csv; slices that were received twice
are counted. Scanners are at most --ahead series ahead of the PACS, so that something comes in all the time; 0: no limit.

--fuzz sends that many damaged conversations (random bytes, PDUs cut short, huge lengths, flipped bits, requests that do not
wait) to a node; it must live, stay small, raise nothing, and serve its next sender.

Exit codes: 0 no fault, 1 there were some; each is printed.
"""

from __future__ import annotations

import argparse
import csv
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/dicom")]

SCANNERS, QUIET = 3, 1.5
"""Scanners that send at once, and seconds without a slice after which a series is complete."""
PATIENCE = 600.0
"""Longest time without any progress before the rest is called lost, s."""


def main() -> int:
    """Measures, and prints what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag, default in {"series": 500, "kills": 50, "away": 10, "bad": 5, "ahead": 12, "seed": 0, "fuzz": 0}.items():
        parser.add_argument(f"--{flag}", type=int, default=default)
    parser.add_argument("--work_dir", type=Path)
    chosen = parser.parse_args()
    from faulty.runs import save_filter  # not above: processes read this module again

    random.seed(chosen.seed)
    work = Path(tempfile.mkdtemp(prefix="department-", dir=chosen.work_dir))
    save_filter(work / "model")
    began, faults = time.monotonic(), []
    if chosen.fuzz:
        from pacs.fuzz import measure_fuzz

        print(measure_fuzz(work, chosen.fuzz, faults))
    else:
        print(measure_department(work, chosen, faults))
    print(f"{len(faults)} faults, {time.monotonic() - began:.0f} s")
    print("\n".join(faults))
    shutil.rmtree(work)
    return int(bool(faults))


def measure_department(work: Path, chosen: argparse.Namespace, faults: list[str]) -> str:
    """Sends everything, with kills and an archive that is away; then compares with what must have come."""
    from pacs.archive import Archive
    from pacs.nodes import NodeProcess

    series, expected = _write(work, chosen.series, chosen.bad)
    archive = Archive()
    archive.open()
    node = NodeProcess(work / "spool", work / "model", f"--send_to={archive.destination}", f"--quiet_time={QUIET}")
    node.start()
    waiting = list(series.values())
    random.shuffle(waiting)
    lock = threading.Lock()

    def may_send() -> bool:
        return not chosen.ahead or len(series) - len(waiting) - len(archive.series) < chosen.ahead + chosen.bad

    scanners = [threading.Thread(target=_scan, args=(waiting, lock, node.port, may_send)) for _ in range(SCANNERS)]
    for each in scanners:
        each.start()
    moments = Counter[str]()
    breaks = ["kill"] * chosen.kills + ["away"] * chosen.away
    random.shuffle(breaks)
    for number, what in enumerate(breaks, 1):
        _wait_for_share(len(expected) * (number - 0.5) / (len(breaks) + 1), archive, 15.0)
        if what == "away":
            archive.close()
            time.sleep(random.uniform(0.5, 4))
            archive.open()
            continue
        time.sleep(random.uniform(0, 3))
        states = node.states()
        moments["slices coming in"] += any(each.is_alive() for each in scanners) and bool(states["receiving"])
        moments["a series being standardized"] += bool(states["standardizing"])
        moments["slices to be sent"] += _pending(node)
        node.end(signal.SIGKILL)
        node.start()
    for each in scanners:
        each.join()
    last, before = time.monotonic(), -1
    while time.monotonic() - last < PATIENCE:
        states = node.states()
        under_way = states["receiving"] + states["standardizing"]
        if not under_way and len(archive.received) >= sum(map(len, expected.values())) and not _pending(node):
            break
        if (progress := sum(archive.received.values()) + states["refused"]) != before:
            last, before = time.monotonic(), progress
        time.sleep(0.5)
    time.sleep(2)
    states = node.states()
    code, _ = node.end()
    archive.close()
    _compare(work, archive, expected, series, chosen.bad, code, faults)
    twice = sum(archive.received.values()) - len(archive.received)
    told = ", ".join(f"{count} with {moment}" for moment, count in moments.items())
    return (
        f"{len(series)} series ({sum(map(len, series.values()))} slices), {chosen.kills} kills ({told}), "
        f"PACS away {chosen.away} times: {len(archive.series)} in the PACS, {states['refused'] + states['failed']} named in "
        f"failures.csv; {twice} slices were received twice, with the same bytes"
    )


def _write(work: Path, number: int, bad: int) -> tuple[dict[str, list[Path]], dict[str, dict[str, str]]]:
    """Series by UID, and by UID of the derived series the digests of its slices in an undisturbed run."""
    import os

    from faulty.kills import write_series
    from pacs.expected import digests

    from stan_ct.cli.main import main as stan_ct

    def without_rescale(dataset, z):  # type: ignore[no-untyped-def]
        del dataset.RescaleSlope

    series = {}
    for n in range(1, number + 1):
        options = {"edit": without_rescale} if n <= bad else {}
        paths = write_series(work / "in", n, **options)
        series[f"{n}"] = paths
    os.environ["SOURCE_DATE_EPOCH"] = "1700000000"
    out = work / "alone"
    code = stan_ct(["reconstruct", str(work / "in"), str(out), f"--model={work / 'model'}"])
    if code != (2 if bad else 0):
        raise RuntimeError(f"the undisturbed run ended with {code}")
    return series, digests(out)


def _scan(waiting: list[list[Path]], lock: threading.Lock, port: int, may_send: Callable[[], bool]) -> None:
    """A scanner: takes the next series, and sends it until all of it was taken."""
    from pacs.senders import send

    while True:
        with lock:
            if not waiting:
                return
            left = waiting.pop() if may_send() else []
        if not left:
            time.sleep(0.2)
            continue
        while left:
            left = send(left, port)
            time.sleep(random.uniform(0.05, 0.5) if left else random.uniform(0, 0.3))


def _wait_for_share(share: float, archive, seconds: float) -> None:  # type: ignore[no-untyped-def]
    """Waits until the archive has so many series, but no longer than some seconds."""
    last = time.monotonic() + seconds
    while len(archive.series) < share and time.monotonic() < last:
        time.sleep(0.1)


def _pending(node) -> bool:  # type: ignore[no-untyped-def]
    return 'state="pending"' in node.get("/metrics")[1]


def _compare(work, archive, expected, series, bad, code, faults) -> None:  # type: ignore[no-untyped-def]
    """Names what is missing, foreign, changed, or not accounted for."""
    if code:
        faults.append(f"the node ended with {code}")
    for uid, slices in expected.items():
        found = {sop: archive.contents.get(sop, set()) for sop in slices}
        for sop, contents in found.items():
            if contents != {slices[sop]}:
                faults.append(f"slice {sop} of {uid}: {'lost' if not contents else f'{len(contents)} contents, or others'}")
    if foreign := set(archive.series) - set(expected):
        faults.append(f"series that no undisturbed run makes: {foreign}")
    with (work / "spool" / "failures.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    if len(rows) != bad or {row["reason"] for row in rows} - {"no_rescale"}:
        faults.append(f"failures.csv names {len(rows)} series instead of {bad}: {rows[:3]}")
    if len(expected) + len(rows) != len(series):
        faults.append(f"{len(series)} series were sent, {len(expected)} expected and {len(rows)} named")


if __name__ == "__main__":
    sys.exit(main())
