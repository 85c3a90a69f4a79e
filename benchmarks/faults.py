"""Faults, measured: what becomes of runs that are killed, that meet, whose disk fails, and of files that are damaged.

python benchmarks/faults.py MEASUREMENT[:N] ... [--seed=0] [--source=DIR] [--work_dir=DIR]

MEASUREMENT is one of
 - files: N damaged files, in trees of 50, through the whole pipeline: no traceback, no fault of STAN-CT, every file accounted
   for, and the HU of the undamaged files in every series that is written without a finding. Series below --source are damaged,
   by default synthetic ones;
 - together: N pairs of runs at once in one directory: one is done, the other says who holds it;
 - kills: N times each SIGKILL and SIGTERM, at random moments, over fresh output, over finished output, and over output that
   --overwrite replaces: every series is whole, the manifest is true, no process is left; the rerun keeps what is whole, clears
   the rest and equals an undisturbed run;
 - decoders: the same N times where another process decodes, in an interpreter that is started anew;
 - cohort: N series, four of them bad, killed three times: the bytes of an undisturbed run, a line in series.csv for each;
 - disks: N times full disks, read-only output, broken pipes and closed streams: the right words and exit codes.

Runs are those of `stan-ct reconstruct` with a model that only filters; each is a process of its own, forked from this one.
Exit codes: 0 no fault, 1 there were some; each is printed.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/dicom")]

NUMBERS = {"files": 2500, "together": 20, "kills": 50, "decoders": 5, "cohort": 40, "disks": 1}
"""Measurement -> how often it damages, runs or kills by default."""


def main() -> int:
    """Measures, and prints what was found."""
    from faulty import disks, files, kills  # not above: processes that decode read this module again

    functions = {
        "files": files.measure_files,
        "together": kills.measure_together,
        "kills": kills.measure_kills,
        "decoders": kills.measure_decoders,
        "cohort": kills.measure_cohort,
        "disks": disks.measure_disks,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measurement", nargs="+", type=_measurement)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--source", type=Path, action="append", default=[])
    parser.add_argument("--work_dir", type=Path)
    chosen = parser.parse_args()
    faults: list[str] = []
    for name, number in chosen.measurement:
        random.seed(chosen.seed)
        began, before = time.monotonic(), len(faults)
        work = Path(tempfile.mkdtemp(prefix="faults-", dir=chosen.work_dir))
        options = {"sources": chosen.source} if name == "files" else {}
        print(functions[name](work, number, faults, **options), flush=True)
        shutil.rmtree(work)
        print(f"{name}: {len(faults) - before} faults, {time.monotonic() - began:.0f} s")
    print("\n".join(faults))
    return int(bool(faults))


def _measurement(text: str) -> tuple[str, int]:
    """A measurement and its number, from "NAME" or "NAME:NUMBER"."""
    name, _, number = text.partition(":")
    if name not in NUMBERS:
        raise argparse.ArgumentTypeError(f"{name!r}: expected one of {', '.join(NUMBERS)}")
    return name, int(number or NUMBERS[name])


if __name__ == "__main__":
    sys.exit(main())
