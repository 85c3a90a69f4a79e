"""Speed of what users wait for, beside peers: `make bench`, or `python benchmarks/speed.py [--rows=..] [--slices=1,21]`.

One table: ours, the peer, their ratio, and the limit. Ours and the peer are measured in turn, `--rounds` times; medians are
shown. Seconds are processor time (user and system, all threads), so that other work on the machine matters little; where series
are standardized, wall time and peak memory stand beside it, and the load of the machine above the table. Series are noise,
512 x 512, under the header of pydicom's CT; they are standardized with the model `default`, whatever the guard says. Ends with
1 if a limit is broken.

rows: `help` (start-up), `empty` (a folder without CT), `refused` (a kernel that no model knows, 100 slices), `headers` (search
of CT, per file, beside pydicom that reads the same headers), `mask`, `gaussian` (beside scipy.ndimage), `series` (per slice
from DICOM to DICOM, start-up left out, beside the network alone on as many patches in one thread).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pydicom
from scipy import ndimage

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))  # this checkout's package, whatever is installed

from stan_ct.ct.smoothing import close_and_open, gaussian  # noqa: E402
from stan_ct.dicom.find import find_series  # noqa: E402
from stan_ct.parallel import usable_cores  # noqa: E402

ROWS = ("help", "empty", "refused", "headers", "mask", "gaussian", "series")
RUN = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([code.returncode, time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
"""
NETWORK = """
import sys, time
import numpy as np
from stan_ct.models.checksums import SHIPPED
from stan_ct.reconstruction.synthesis import load_synthesizer
made = load_synthesizer(SHIPPED / "default", single_thread=True)
made.judge = None
patches = np.zeros((9, 256, 256), np.float32)
made(patches)
start = time.process_time()
for _ in range(int(sys.argv[1])):
    made(patches)
print(time.process_time() - start)
"""


class Row(NamedTuple):
    """A line of the table.

    Attributes:
        what: What is measured, with its unit.
        ours: Each round's value.
        peer: The peer's, in the same rounds; empty without a peer.
        limit: Largest value or, beside a peer, largest ratio to it.
        note: What else was seen.
    """

    what: str
    ours: list[float]
    peer: list[float]
    limit: float
    note: str = ""

    @property
    def measured(self) -> float:
        """What the limit holds for: the median, or beside a peer the median of the rounds' ratios."""
        return float(np.median(np.divide(self.ours, self.peer) if self.peer else self.ours))

    def line(self) -> str:
        """The row as Markdown."""
        peer, ratio = (f"{np.median(self.peer):.3g}", f"{self.measured:.2f}") if self.peer else ("", "")
        kept = "" if self.measured <= self.limit else " **missed**"
        return f"| {self.what} | {np.median(self.ours):.3g} | {peer} | {ratio} | {self.limit:g}{kept} | {self.note} |"


def run(*arguments: str | Path) -> tuple[float, float, float]:
    """Wall and processor time of a process, s, and its peak memory, MiB; what it refuses is no error."""
    command, environment = (
        [sys.executable, "-c", RUN, sys.executable, *map(str, arguments)],
        {**os.environ, "PYTHONPATH": str(ROOT)},
    )
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    code, wall, cpu, peak = json.loads(done.stdout)
    if code not in (0, 3):  # all good, or nothing to standardize
        raise RuntimeError(f"{' '.join(map(str, arguments))} ended with {code}")
    return wall, cpu, peak


def write_series(folder: Path, number: int) -> Path:
    """A series of noise, 512 x 512, under the header of pydicom's CT."""
    folder.mkdir()
    header, rng = pydicom.examples.ct, np.random.default_rng(0)
    header.Rows = header.Columns = 512
    header.PixelSpacing = [0.7, 0.7]
    some = [(rng.normal(40, 30, (512, 512)) - float(header.RescaleIntercept)).astype("<i2").tobytes() for _ in range(4)]
    for z in range(number):
        header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = f"2.25.{z + 1}"
        header.ImagePositionPatient = [0, 0, 2.5 * z]
        header.InstanceNumber, header.PixelData = z + 1, some[z % 4]
        header.save_as(folder / f"{z:04}.dcm")
    return folder


def thread_seconds(call: Callable, times: int) -> float:
    """Processor time of a call in this thread, s, once it is warm."""
    call()
    start = time.thread_time()
    for _ in range(times):
        call()
    return (time.thread_time() - start) / times


def start_up(name: str, rounds: int, folder: Path) -> Row:
    """Rows `help`, `empty` and `refused`."""
    (folder / "empty").mkdir(exist_ok=True)
    source = write_series(folder / "strange", 100) if name == "refused" else folder / "empty"
    flags = ["--help"] if name == "help" else [f"--input_dir={source}", f"--output_dir={folder / 'none'}"]
    found = [run(ROOT / "reconstruct.py", *flags) for _ in range(rounds)]
    what = {"help": "`--help`", "empty": "empty folder", "refused": "refused kernel, 100 slices"}[name]
    return Row(f"{what}, s", [cpu for _, cpu, _ in found], [], 1.0 if name == "help" else 1.5, f"{found[0][2]:.0f} MiB")


def headers(rounds: int, folder: Path, number: int = 100) -> Row:
    """Row `headers`."""
    source = write_series(folder / "headers", number)
    paths = sorted(source.iterdir())

    def peer() -> None:
        for path in paths:
            pydicom.dcmread(path, stop_before_pixels=True)

    times = [(thread_seconds(lambda: find_series(source), 1), thread_seconds(peer, 1)) for _ in range(rounds)]
    ours, theirs = (1e3 * np.array(times) / number).T.tolist()
    return Row("headers, ms a file (pydicom)", ours, theirs, 0.9)


def smoothing(name: str, rounds: int) -> Row:
    """Rows `mask` and `gaussian`."""
    image = np.random.default_rng(0).normal(0, 100, (512, 512)).astype(np.float32)
    mask, disk = image > -50, ndimage.iterate_structure(ndimage.generate_binary_structure(2, 1), 3)
    ours, peer, limit = {
        "mask": (
            lambda: close_and_open(mask, 3),
            lambda: ndimage.binary_opening(ndimage.binary_closing(mask, disk), disk),
            0.1,
        ),
        "gaussian": (lambda: gaussian(image, 2.0), lambda: ndimage.gaussian_filter(image, 2.0), 0.5),
    }[name]
    times = [(1e3 * thread_seconds(ours, 5), 1e3 * thread_seconds(peer, 5)) for _ in range(rounds)]
    return Row(f"{name}, ms a slice (scipy.ndimage)", *np.transpose(times).tolist(), limit)


def network_seconds(slices: int) -> float:
    """Processor time of the network for nine patches, s, without judging them."""
    command, environment = [sys.executable, "-c", NETWORK, str(slices)], {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return float(done.stdout.split()[-1]) / slices


def series(rounds: int, folder: Path, slices: tuple[int, int]) -> Row:
    """Row `series`: what each slice beyond a few costs."""
    few, many = slices
    sources, ours, peer, note = [write_series(folder / f"of {n}", n) for n in slices], [], [], ""
    flags = ["--model=default", "--allow_out_of_protocol", "--overwrite"]
    for _ in range(rounds):
        found = [run(ROOT / "reconstruct.py", f"--input_dir={s}", f"--output_dir={s} out", *flags) for s in sources]
        ours.append((found[1][1] - found[0][1]) / (many - few))
        alone = subprocess.run([sys.executable, "-c", NETWORK, str(many - few)], capture_output=True, text=True, check=True)
        peer.append(float(alone.stdout.split()[-1]) / (many - few))
        note = (
            f"{many} slices: wall {found[1][0]:.1f} s, {found[1][2]:.0f} MiB; {few}: {found[0][0]:.1f} s, {found[0][2]:.0f} MiB"
        )
    return Row("DICOM to DICOM, s a slice (network alone)", ours, peer, 1.15, note)


def main(arguments: list[str] | None = None) -> int:
    """Prints the table; 1 if a limit is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default=",".join(ROWS), help="rows to measure")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each")
    parser.add_argument("--slices", default="1,21", help="lengths of the two series that are standardized")
    chosen = parser.parse_args(arguments)
    few, many = map(int, chosen.slices.split(","))
    cv2.setNumThreads(1)
    print(f"{usable_cores()} cores, load {os.getloadavg()[0]:.1f} at the start\n")
    print("| what (peer) | ours | peer | ratio | limit | |\n|---|---|---|---|---|---|")
    missed = False
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name in chosen.rows.split(","):
            if name in ("help", "empty", "refused"):
                row = start_up(name, chosen.rounds, folder)
            elif name == "headers":
                row = headers(chosen.rounds, folder)
            elif name == "series":
                row = series(chosen.rounds, folder, (few, many))
            else:
                row = smoothing(name, chosen.rounds)
            print(row.line(), flush=True)
            missed |= row.measured > row.limit
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
