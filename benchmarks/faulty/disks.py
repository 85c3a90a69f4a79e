"""Disks that are full or read-only, and streams that nobody reads: words, exit codes, and what is written nevertheless."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from synthetic import random_stored, write_ct

from faulty.outputs import by_series, check_clean, check_manifest, slices_of
from faulty.runs import EPOCH, save_filter

SIZES = {1: 40, 2: 300, 3: 40}
"""Number of a series -> side of its slices, pixels: the second one is large."""
SMALL_DISK, LARGEST_FILE = "900k", 120_000
"""Size of a disk, and of files, bytes, that have no room for the large series."""
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class _Case:
    """A run with something wrong: what must be said, the exit code, and the number of series that are written."""

    name: str
    words: str
    code: int
    written: int
    streams: Callable[[], None] | None = None


def _broken(*descriptors: int) -> Callable[[], None]:
    """Streams that lead into a pipe that nobody reads."""

    def arrange() -> None:
        reader, writer = os.pipe()
        os.close(reader)
        for descriptor in descriptors:
            os.dup2(writer, descriptor)

    return arrange


def _closed(*descriptors: int) -> Callable[[], None]:
    return lambda: [os.close(descriptor) for descriptor in descriptors] and None


def _full() -> None:
    os.dup2(os.open("/dev/full", os.O_WRONLY), 1)


def _limited() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, LARGEST_FILE))


STREAMS = (
    _Case("broken pipe", "", 0, 3, _broken(1)),
    _Case("broken pipe for errors", "3 of 3 series written", 0, 3, _broken(2)),
    _Case("two broken pipes", "", 0, 3, _broken(1, 2)),
    _Case("closed output", "", 0, 3, _closed(1)),
    _Case("closed stderr", "3 of 3 series written", 0, 3, _closed(2)),
    _Case("all streams closed", "", 0, 3, _closed(0, 1, 2)),
    _Case("output onto a full disk", "", 0, 3, _full),
    _Case("files of limited size", "unwritable: File too large", 2, 2, _limited),
)
"""Streams that nobody reads do not stop a run; a file that is too large concerns its series."""


def measure_disks(work: Path, number: int, faults: list[str]) -> str:
    """Runs with broken streams and full and read-only disks, each `number` times."""
    save_filter(work / "model")
    for series, side in SIZES.items():
        write_ct(work / "in" / str(series), random_stored((4, side, side), seed=series) // 16 + 1000, series=series)
    told = []
    for turn in range(number):
        for case in STREAMS:
            told.append(_check(case, work, work / f"{case.name} {turn}", faults))
        told += _measure_small_disk(work, faults) if os.geteuid() == 0 else ["no small disk: only the superuser mounts one"]
        (work / "file").write_text("something")
        told.append(_check(_Case("a file in its place", "is a file: choose a directory", 1, 0), work, work / "file", faults))
    return "\n".join(told)


def _measure_small_disk(work: Path, faults: list[str]) -> list[str]:
    told = []
    with _mounted(work / "disk", "40k") as disk:
        case = _Case("a disk without room", "the output could not be written", 1, 0)
        told.append(_check(case, work, disk / "out", faults))
    with _mounted(work / "disk", SMALL_DISK) as disk:
        case = _Case("a disk with room for two", "unwritable: No space left on device", 2, 2)
        told.append(_check(case, work, disk / "out", faults))
        _mount(disk, "remount,size=10M")
        told.append(_check(_Case("the same with more room", "2 of them kept", 0, 3), work, disk / "out", faults))
        before = slices_of(disk / "out")
        _mount(disk, "remount,ro")
        for name, output in (("a read-only disk", "new"), ("read-only output", "out")):
            case = _Case(name, "Read-only file system", 1, 3 if output == "out" else 0)
            told.append(_check(case, work, disk / output, faults))
        if slices_of(disk / "out") != before:
            faults.append("a read-only disk has changed")
    return told


@contextmanager
def _mounted(folder: Path, size: str) -> Iterator[Path]:
    """A file system of this size."""
    folder.mkdir(exist_ok=True)
    _mount(folder, f"size={size}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def _mount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], check=True, capture_output=True)


def _check(case: _Case, work: Path, output: Path, faults: list[str]) -> str:
    """Runs the command, and compares what it says, its exit code and what is written."""
    done = _run(work, output, case.streams)
    said = done.stdout + done.stderr
    found = f"{case.name}: exit code {done.returncode}, {len(by_series(slices_of(output)))} series written"
    if done.returncode != case.code or f"{case.written} series" not in found or case.words not in said or "Traceback" in said:
        faults.append(f"{found}, expected {case.code}, {case.written} and {case.words!r}: {said[-2000:]}")
    if output.is_dir() and case.code != 1:
        check_manifest(output, faults)
        check_clean(output, faults)
    return found


def _run(work: Path, output: Path, arrange: Callable[[], None] | None) -> subprocess.CompletedProcess[str]:
    command: Sequence[object] = (sys.executable, "-m", "stan_ct", "reconstruct", work / "in", output)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SOURCE_DATE_EPOCH": EPOCH}
    return subprocess.run(
        [*map(str, command), f"--model={work / 'model'}", "--precision=float32"],
        capture_output=True,
        text=True,
        env=environment,
        preexec_fn=arrange,
        check=False,
    )
