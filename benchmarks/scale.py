"""What a million series would take, from measurements of a few: the table of docs/SCALE.md.

python benchmarks/scale.py [--series=1000000] [--slices=200] [--trees=1000] [--cores=1000] [--core_hour=0.04] [--tb_month=20]

Measured, on this machine: processor time of a slice from DICOM to DICOM with the model `default` (series of 1 and of 41
slices, 512 x 512), and of a series beside its slices; bytes of a slice, of its derived slice and of its entry in the manifest;
processor time, memory and index of the search of a file, the first time and again. All else is arithmetic; prices are
assumptions, to be given as flags. Nothing is measured on a GPU.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import tracemalloc
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/dicom"), str(ROOT / "benchmarks")]

import numpy as np  # noqa: E402
from speed import chest, run  # noqa: E402
from synthetic import write_ct  # noqa: E402

from stan_ct.dicom.find import find_series  # noqa: E402

LONG, SEARCHED, IN_SERIES = 41, 5000, 50
"""Slices of the longer series; files that are searched, and of these in a series."""


@dataclass(frozen=True)
class Costs:
    """What one slice, file or series takes.

    Attributes:
        slice_seconds: Processor time of a slice, s.
        series_seconds: Of a series beside its slices, with the start of a process, s.
        memory: Peak of a process, GB.
        read: Bytes of a slice.
        written: Bytes of a derived slice.
        noted: Bytes of a slice's entry in the manifest.
        search_seconds: Processor time of the first search of a file, s.
        again_seconds: Of the next one, s.
        search_memory: Bytes of memory of a file found.
        index: Bytes of a file in the index.
    """

    slice_seconds: float
    series_seconds: float
    memory: float
    read: float
    written: float
    noted: float
    search_seconds: float
    again_seconds: float
    search_memory: float
    index: float


def measure(folder: Path) -> Costs:
    """Measures all of it, in a minute or two."""
    found = {}
    for number in (1, LONG):
        source, output = chest(folder, number), folder / f"out {number}"
        flags = [f"--input_dir={source}", "--model=default", "--allow_out_of_protocol", f"--output_dir={output}"]
        _, seconds, peak = run(ROOT / "reconstruct.py", *flags)
        slices = list(output.glob("series/**/*.dcm"))
        if len(slices) != number:  # refused, or cut short
            raise RuntimeError(f"{output}: expected {number} slices, found {len(slices)}")
        bytes_of = [np.mean([path.stat().st_size for path in paths]) for paths in (list(source.iterdir()), slices)]
        found[number] = seconds, peak, *bytes_of, (output / "manifest.json").stat().st_size
    (few, *_, short), (many, peak, read, written, long) = found[1], found[LONG]
    a_slice = (many - few) / (LONG - 1)
    return Costs(a_slice, few - a_slice, peak / 1024, read, written, (long - short) / (LONG - 1), *search(folder))


def search(folder: Path) -> tuple[float, float, float, float]:
    """Processor time of the search of a file, the first time and again, its memory, and its bytes in the index."""
    tree, index = folder / "tree", folder / "index"
    for number in range(1, SEARCHED // IN_SERIES + 1):
        write_ct(tree / str(number), np.full((IN_SERIES, 16, 16), 1024), series=number)
    seconds = []
    for _ in range(2):
        start = time.process_time()
        find_series(tree, index=index)
        seconds.append((time.process_time() - start) / SEARCHED)
    tracemalloc.start()
    inventory = find_series(tree, index=index)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(inventory.series) == SEARCHED // IN_SERIES
    return *seconds, held / SEARCHED, os.path.getsize(index) / SEARCHED


def table(costs: Costs, series: float, slices: float, trees: float, cores: float, core_hour: float, tb_month: float) -> str:
    """The table, in Markdown."""
    files = series * slices
    hours = (files * costs.slice_seconds + series * costs.series_seconds) / 3600
    read, written = (files * each / 1e12 for each in (costs.read, costs.written))
    rate = (read + written) * 1e3 / (hours / cores * 3600)
    rows = [
        ("slices", f"{files:.3g}", f"{slices:g} a series (assumption)"),
        (
            "standardize",
            f"{hours:,.0f} core hours",
            f"{costs.slice_seconds:.3f} s a slice, {costs.series_seconds:.1f} s a series",
        ),
        (f"on {cores:g} cores", f"{hours / cores:,.1f} hours", "series are independent of each other"),
        ("memory of a process", f"{costs.memory:.2g} GB", f"peak of a series of {LONG} slices; flat in slices"),
        ("read", f"{read:,.0f} TB", f"{costs.read / 1e6:.2f} MB a slice, uncompressed"),
        ("written", f"{written:,.0f} TB", f"{costs.written / 1e6:.2f} MB a slice"),
        (f"storage must give {cores:g} cores", f"{rate:.2g} GB/s", "read and written"),
        (
            "first search",
            f"{files * costs.search_seconds / 3600:,.0f} core hours",
            f"{1e3 * costs.search_seconds:.2f} ms a file",
        ),
        ("next search", f"{files * costs.again_seconds / 3600:,.0f} core hours", f"{1e3 * costs.again_seconds:.2f} ms a file"),
        (
            "memory of the search of one tree",
            f"{files * costs.search_memory / 1e9:,.0f} GB",
            f"{costs.search_memory:.0f} bytes a file",
        ),
        ("index", f"{files * costs.index / 1e9:,.0f} GB", f"{costs.index:.0f} bytes a file"),
        ("manifest of one run", f"{files * costs.noted / 1e9:,.0f} GB", f"{costs.noted:.0f} bytes a slice"),
        (f"in {trees:g} trees: search", f"{files / trees * costs.search_seconds / 60:.1f} minutes each", "one process"),
        (f"in {trees:g} trees: memory of the search", f"{files / trees * costs.search_memory / 1e9:.2f} GB each", ""),
        (f"in {trees:g} trees: manifest", f"{files / trees * costs.noted / 1e6:.0f} MB each", ""),
        ("computing", f"{hours * core_hour:,.0f} $", f"{core_hour:g} $ a core hour (assumption)"),
        ("keeping what was written", f"{written * tb_month:,.0f} $ a month", f"{tb_month:g} $ a TB and month (assumption)"),
    ]
    return "\n".join(["| | | |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)])


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (
        ("series", 1e6),
        ("slices", 200),
        ("trees", 1000),
        ("cores", 1000),
        ("core_hour", 0.04),
        ("tb_month", 20),
    ):
        parser.add_argument(f"--{name}", type=float, default=value)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(table(measure(Path(folder)), **vars(chosen)))


if __name__ == "__main__":
    main()
