"""Two runs at once, and runs that are killed at random moments."""

from __future__ import annotations

import random
import re
import shutil
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pydicom
from synthetic import random_stored, write_ct

from faulty.bases import compress_jpeg
from faulty.outputs import Files, by_series, check_clean, check_manifest, count_whole, rows, slices_of, verdicts
from faulty.runs import Child, reconstruct, timed

OTHER = ("--patch_layout=random", "--seed=1", "--mask=air")
"""Other switches, hence other bytes."""
SERIES, SLICES, SIDE = 8, 3, 64
"""Number of series, their slices and the side of these, pixels."""
BAD = ("cut", "garbled", "no rescale", "empty")
"""What is wrong with four series of the large cohort."""
DECODED = 3
"""Number of series that another process decodes."""
KILLS = 3
"""How often the large cohort is killed."""
TOGETHER = 0.8
"""Share of the time of an undisturbed run after which the second one starts at the latest."""
LATEST = 1.1
"""Multiple of the time of an undisturbed run after which a run is killed at the latest."""
TERMINATED = 143
"""Exit code after SIGTERM."""


@dataclass(frozen=True)
class _Start:
    """What a run that is killed starts from.

    Attributes:
        source: Its input.
        copied: Output that it finds; None for a fresh one.
        switches: Its switches.
        old: The slices that it finds.
        new: The slices that it writes when it is left alone.
        seconds: How long that takes, s.
        anew: Whether it is an interpreter of its own, whose end ends the processes that it started.
    """

    source: Path
    copied: Path | None
    switches: Sequence[str]
    old: Files
    new: Files
    seconds: float
    anew: bool = False


def write_series(source: Path, number: int, **options: object) -> list[Path]:
    """Writes a series into a folder of its own."""
    stored = random_stored((SLICES, SIDE, SIDE), seed=number) // 16 + 1000
    return write_ct(source / f"p{number}", stored, series=number, **options)  # type: ignore[arg-type]


def measure_together(work: Path, number: int, faults: list[str]) -> str:
    """Two runs at once into one directory; every second pair has equal switches."""
    source, output = work / "in", work / "together"
    for series in range(1, SERIES + 1):
        write_series(source, series)
    seconds, one = _undisturbed(source, work / "one", (), faults)
    expected = [one, _undisturbed(source, work / "other", OTHER, faults)[1]]
    refused = named = 0
    for pair in range(number):
        children = [reconstruct(source, output)]
        time.sleep(random.uniform(0, TOGETHER * seconds))
        children.append(reconstruct(source, output, *(OTHER if pair % 2 else ())))
        ends = [child.wait(faults) for child in children]
        if sorted(code for code, _ in ends) not in ([0, 1], [0, 0]):
            faults.append(f"two runs ended with {ends}")
        for (code, said), other in zip(ends, reversed(children), strict=True):
            refused += code == 1
            named += f"is in use by process {other.pid} on " in said
            if code == 1 and "is in use by" not in said and "was made with" not in said:
                faults.append(f"a run was refused with {said[-300:]}")
        if slices_of(output) not in expected:
            faults.append(f"pair {pair}: the output is of neither run")
        check_manifest(output, faults)
        check_clean(output, faults)
        shutil.rmtree(output)
    return f"{number} pairs of runs: {refused} refused, {named} of them say who holds the directory"


def measure_kills(work: Path, number: int, faults: list[str]) -> str:
    """SIGKILL and SIGTERM over fresh, finished and replaced output, each followed by a rerun."""
    for series in range(1, min(SERIES, number + 2) + 1):
        write_series(work / "in", series)
    fresh, other = _undisturbed(work / "in", work / "one", (), faults), _undisturbed(work / "in", work / "other", OTHER, faults)
    again = timed(lambda: reconstruct(work / "in", work / "one"), faults)[0]
    starts = {
        "fresh": _Start(work / "in", None, (), {}, fresh[1], fresh[0]),
        "finished": _Start(work / "in", work / "one", (), fresh[1], fresh[1], again),
        "replaced": _Start(work / "in", work / "one", (*OTHER, "--overwrite"), fresh[1], other[1], other[0]),
    }
    return "\n".join(_kill_often(name, start, work / "killed", number, faults) for name, start in starts.items())


def measure_decoders(work: Path, number: int, faults: list[str]) -> str:
    """SIGKILL and SIGTERM while another process decodes, which must not outlive the run."""
    for series in range(1, DECODED + 1):
        for path in write_series(work / "in", series):
            compress_jpeg(path)
    seconds, new = _undisturbed(work / "in", work / "one", (), faults, anew=True)
    start = _Start(work / "in", None, (), {}, new, seconds, anew=True)
    return _kill_often("fresh", start, work / "killed", number, faults)


def _kill_often(name: str, start: _Start, output: Path, number: int, faults: list[str]) -> str:
    told = []
    for signal_number in (signal.SIGKILL, signal.SIGTERM):
        whole = []
        for _ in range(number):
            if start.copied is not None:
                shutil.copytree(start.copied, output)
            whole.append(_kill_and_rerun(start, output, signal_number, faults))
            shutil.rmtree(output)
        spread = f"{min(whole)} to {max(whole)} of {len(by_series(start.new))} series whole at that moment"
        told.append(f"{signal.Signals(signal_number).name} over {name} output, {number} times: {spread}")
    return "\n".join(told)


def measure_cohort(work: Path, number: int, faults: list[str]) -> str:
    """A cohort of many series, some of them bad, killed several times and run again."""
    source, output = work / "in", work / "out"
    write_cohort(source, number)
    seconds, expected = _undisturbed(source, work / "alone", (), faults, code=2)
    whole = []
    for _ in range(KILLS):
        child = reconstruct(source, output)
        _end(child, signal.SIGKILL, random.uniform(0.2, 0.8) * seconds, faults)
        whole.append(count_whole(output, {}, expected, faults))
        check_manifest(output, faults)
    code, said = reconstruct(source, output).wait(faults)
    if code != 2 or slices_of(output) != expected or _kept(said) != whole[-1]:
        faults.append(f"the cohort differs from an undisturbed run: exit code {code}, {_kept(said)} kept of {whole[-1]}")
    check_clean(output, faults)
    _check_table(output, work / "alone", number, faults)
    series, again = len(by_series(expected)), reconstruct(source, output).wait(faults)[1]
    if _kept(again) != series:
        faults.append(f"the last rerun does not keep {series} series: {again[-500:]}")
    return f"a cohort of {number} killed after {whole} series: the same bytes of {series} series, all in series.csv"


def _undisturbed(
    source: Path, output: Path, switches: Sequence[str], faults: list[str], code: int = 0, anew: bool = False
) -> tuple[float, Files]:
    """Seconds and slices of an undisturbed run."""
    seconds, came, said = timed(lambda: reconstruct(source, output, *switches, anew=anew), faults)
    if came != code:
        raise RuntimeError(f"an undisturbed run ended with {came}: {said}")
    return seconds, slices_of(output)


def _kill_and_rerun(start: _Start, output: Path, number: int, faults: list[str]) -> int:
    """Kills a run, looks, and runs it again; returns the number of series that were whole when it was killed."""
    seconds = random.uniform(0, LATEST * start.seconds)
    _end(reconstruct(start.source, output, *start.switches, anew=start.anew), number, seconds, faults)
    whole = count_whole(output, start.old, start.new, faults)
    check_manifest(output, faults)
    code, said = reconstruct(start.source, output, *start.switches, anew=start.anew).wait(faults)
    if code != 0 or slices_of(output) != start.new:
        faults.append(f"the rerun differs from an undisturbed run, exit code {code}: {said[-1000:]}")
    if _kept(said) != whole:
        faults.append(f"{whole} series were whole, {_kept(said)} were kept: {said[-1000:]}")
    check_manifest(output, faults)
    check_clean(output, faults)
    return whole


def _end(child: Child, number: int, seconds: float, faults: list[str]) -> None:
    """Ends a run after some seconds, unless it has ended by then."""
    time.sleep(seconds)
    child.kill(number)
    code, said = child.wait(faults)
    if code not in (-number, 0, 2) and not (number == signal.SIGTERM and code == TERMINATED):
        faults.append(f"killed with {number}, the exit code is {code}: {said[-1000:]}")
    if code == TERMINATED and "terminated; finished series are kept" not in said:
        faults.append(f"SIGTERM without a word: {said[-300:]}")


def _kept(said: str) -> int:
    found = re.search(r"(\d+) of them kept", said)
    return int(found[1]) if found else 0


def write_cohort(source: Path, number: int) -> None:
    """Series, four of them bad: cut short, undecodable, without a rescale, with an empty file."""
    fates = {number * (2 * i + 1) // (2 * len(BAD)): fate for i, fate in enumerate(BAD)}

    def without_rescale(dataset: pydicom.Dataset, z: int) -> None:
        del dataset.RescaleSlope

    for series in range(1, number + 1):
        bad = fates.get(series)
        options = {"edit": without_rescale} if bad == "no rescale" else {"syntax": "JPEG 2000"} if bad == "garbled" else {}
        paths = write_series(source, series, **options)
        if bad == "cut":
            for path in paths:
                path.write_bytes(path.read_bytes()[:-1000])
        elif bad == "garbled":
            data = paths[1].read_bytes()
            start = data.find(b"\xff\x4f\xff\x51")
            paths[1].write_bytes(data[:start] + bytes(60) + data[start + 60 :])
        elif bad == "empty":
            paths[1].write_bytes(b"")


def _check_table(output: Path, alone: Path, number: int, faults: list[str]) -> None:
    told = [verdicts(folder) for folder in (output, alone)]
    if told[0] != told[1] or len({folder for folder, _ in told[0]}) != number:
        faults.append(f"series.csv tells {told[0]}, of an undisturbed run {told[1]}")
    for row in rows(output):
        if row["output_folder"] and not (output / row["output_folder"]).is_dir():
            faults.append(f"series.csv names {row['output_folder']}, which is not there")
