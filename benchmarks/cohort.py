"""A cohort, measured: many small series, some of them bad, in several processes, killed on the way, and on a Dask cluster.

python benchmarks/cohort.py [--series=200] [--kills=20] [--rounds=3] [--seed=0] [--work_dir=DIR]

 - alone: one command standardizes all series but four, which it names;
 - workers: throughput of two processes as a multiple of that of one, each in turn;
 - kills: two processes, all of them killed at random moments and started again: the bytes of an undisturbed run;
 - dask: a LocalCluster on loopback, one of whose two workers is killed: the same bytes.

Runs are those of `stan-ct reconstruct` with a model that only filters, each an interpreter of its own. Exit codes: 0 no fault,
1 there were some; each is printed.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/dicom")]

from faulty.kills import write_cohort  # noqa: E402
from faulty.outputs import Files, check_clean, check_manifest, rows, slices_of, verdicts  # noqa: E402
from faulty.runs import Child, processes_of, reconstruct  # noqa: E402

BAD = 4
"""Number of series that are bad."""
SOME_REFUSED = 2
"""Exit code of a run that names bad series."""
POLLING = 0.02
"""Seconds between two looks at the output of a run that is to be killed."""


def main() -> int:
    """Measures, and prints what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=200)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work_dir", type=Path)
    chosen = parser.parse_args()
    random.seed(chosen.seed)
    work = Path(tempfile.mkdtemp(prefix="cohort-", dir=chosen.work_dir))
    faults: list[str] = []
    write_cohort(work / "in", chosen.series)
    expected = measure_alone(work, chosen.series, faults)
    measure_workers(work, chosen.rounds, expected, faults)
    measure_kills(work, chosen.kills, expected, faults)
    measure_dask(work, expected, faults)
    shutil.rmtree(work)
    print(f"{len(faults)} faults", *faults, sep="\n")
    return int(bool(faults))


def measure_alone(work: Path, number: int, faults: list[str]) -> Files:
    """One process, undisturbed: the slices that it writes."""
    seconds, said = run(work, "alone", faults)
    bad = {row["source_folder"] for row in rows(work / "alone", "failures.csv")}
    expected = slices_of(work / "alone")
    good = len({os.path.dirname(name) for name in expected})
    if len(bad) != BAD or not number - BAD <= good <= number:
        faults.append(f"{good} series written, {sorted(bad)} named: {said[-500:]}")
    print(f"alone: {number} series in {seconds:.0f} s, {number - len(bad)} without fault, {len(bad)} named", flush=True)
    return expected


def measure_workers(work: Path, rounds: int, expected: Files, faults: list[str]) -> None:
    """One process and two, in turn."""
    ratios = []
    for _ in range(rounds):
        one, two = (series_seconds(work, flag, expected, faults) for flag in ("--workers=1", "--workers=2"))
        ratios.append(one / two)
    if ratios:
        told = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"workers: two have {median(ratios):.2f} x the throughput of one ({told})", flush=True)


def series_seconds(work: Path, flag: str, expected: Files, faults: list[str]) -> float:
    """Seconds of a run of some workers, start-up included."""
    seconds, _ = run(work, "workers", faults, flag)
    if slices_of(work / "workers") != expected:
        faults.append(f"{flag}: other bytes than those of one process")
    shutil.rmtree(work / "workers")
    return seconds


def measure_kills(work: Path, kills: int, expected: Files, faults: list[str]) -> None:
    """Two processes, killed with all that they started, again and again; then the rest."""
    output, series = work / "killed", len({os.path.dirname(name) for name in expected})
    whole = []
    for kill in range(kills):
        child = reconstruct(work / "in", output, "--workers=2", anew=True)
        goal = random.uniform(kill, kill + 1) / (kills + 1) * series
        while count_series(output) < goal and not child.has_ended():
            time.sleep(POLLING)
        for process in processes_of(child.pid):
            with suppress(ProcessLookupError):
                os.kill(int(process), signal.SIGKILL)
        child.wait(faults)
        whole.append(count_series(output))
        check_manifest(output, faults)
    seconds, _ = run(work, "killed", faults, "--workers=2")
    if slices_of(output) != expected:
        faults.append("killed: other bytes than those of an undisturbed run")
    if verdicts(output) != verdicts(work / "alone"):
        faults.append("killed: series.csv tells something else than that of an undisturbed run")
    check_clean(output, faults)
    print(f"kills: {kills}, after {whole} of {series} series; the rest took {seconds:.0f} s; the bytes of an undisturbed run")


def measure_dask(work: Path, expected: Files, faults: list[str]) -> None:
    """A LocalCluster, one of whose workers is killed when a third of the series is written."""
    output, series = work / "dask", len({os.path.dirname(name) for name in expected})
    child = reconstruct(work / "in", output, "--workers=2", "--scheduler=local", anew=True)
    while count_series(output) < series / 3 and not child.has_ended():
        time.sleep(POLLING)
    workers = [process for process in processes_of(child.pid) if is_worker(process)]
    if workers:
        os.kill(int(random.choice(workers)), signal.SIGKILL)
    else:
        faults.append("dask: no worker was found to kill")
    code, said = child.wait(faults)
    if code != SOME_REFUSED or slices_of(output) != expected:
        faults.append(f"dask: exit code {code}, or other bytes than those of an undisturbed run: {said[-1000:]}")
    if verdicts(output) != verdicts(work / "alone"):
        faults.append("dask: series.csv tells something else than that of an undisturbed run")
    check_clean(output, faults)
    print(f"dask: one of {len(workers)} workers killed; {series} series, the bytes of an undisturbed run", flush=True)


def run(work: Path, name: str, faults: list[str], *flags: str) -> tuple[float, str]:
    """Seconds and words of a run that nobody disturbs."""
    began = time.monotonic()
    child: Child = reconstruct(work / "in", work / name, *flags, anew=True)
    code, said = child.wait(faults)
    if code != SOME_REFUSED:
        faults.append(f"{name} {' '.join(flags)}: exit code {code}: {said[-1000:]}")
    return time.monotonic() - began, said


def count_series(output: Path) -> int:
    """Number of series that lie in an output directory."""
    return sum(1 for _ in (output / "series").glob("*/*")) if output.exists() else 0


def is_worker(process: str) -> bool:
    """Whether a process is one that another one has started to work for it."""
    try:
        return b"spawn_main" in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:  # it has ended meanwhile
        return False


if __name__ == "__main__":
    sys.exit(main())
