"""Ten minutes of damaged input, seeded: the whole pipeline and the node's side of the network.

python benchmarks/fuzz.py [--minutes=10] [--inputs=2500] [--seed=0] [--work_dir=DIR]

Of --inputs, 40 % are DICOM files through `stan-ct reconstruct`, 16 % conversations with a node (department.py, beside the
others), 20 % .zip archives, 12 % NIfTI files through `stan-ct reconstruct`, and 12 % model folders. They are tried in rounds,
until all were, or the time is over; what has begun is ended. Equal seeds damage equally. Nothing may raise, be lost, be written
elsewhere, or grow without end. Exit codes: 0 no fault, 1 there were some; the first 20 are printed.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/dicom")]

SHARES = {"files": 0.4, "archives": 0.2, "NIfTI": 0.12, "models": 0.12}
CONVERSATIONS = 0.16
"""Kind of input -> its share, and that of conversations."""
ROUNDS = 4
"""Rounds at most; each has 100 inputs at least."""
MEMORY = 500.0
"""Most that this process may grow by, MB."""


def main() -> int:
    """Damages, and prints what was found."""
    from faulty.files import measure_files  # not above: processes that decode read this module again
    from faulty.inputs import measure_archives, measure_models, measure_nifti, memory

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag, default in {"inputs": 2500, "seed": 0}.items():
        parser.add_argument(f"--{flag}", type=int, default=default)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--work_dir", type=Path)
    chosen = parser.parse_args()
    functions = {
        "files": lambda *of: measure_files(*of, sources=[]),
        "archives": measure_archives,
        "NIfTI": measure_nifti,
        "models": measure_models,
    }
    began, before, faults, done = time.monotonic(), memory(), [], 0
    talks = _part(CONVERSATIONS * chosen.inputs, 0, 1)
    command = [sys.executable, ROOT / "benchmarks/department.py", f"--fuzz={talks}", f"--seed={chosen.seed}"]
    command += [f"--work_dir={chosen.work_dir}"] if chosen.work_dir else []
    department = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) if talks else None
    rounds = min(ROUNDS, max(chosen.inputs // 100, 1))
    for number in range(rounds):
        for name, share in SHARES.items():
            if time.monotonic() - began > 60 * chosen.minutes:
                continue
            size = _part(share * chosen.inputs, number, rounds)
            random.seed(f"{chosen.seed} {number} {name}")
            work = Path(tempfile.mkdtemp(prefix="fuzz-", dir=chosen.work_dir))
            found = functions[name](work, size, faults) if size else ""
            print(f"{time.monotonic() - began:4.0f} s  {found}", flush=True)
            shutil.rmtree(work)
            done += size
    if department is not None:
        said = department.communicate()[0]
        print(f"{time.monotonic() - began:4.0f} s  {said}", flush=True)
        done += talks
        faults += [f"conversations: {said}"] if department.returncode else []
    grown = memory() - before
    if grown > MEMORY:
        faults.append(f"this process grew by {grown:.0f} MB")
    told = "" if done == chosen.inputs else f" of {chosen.inputs}: the time was over"
    print(f"fuzz: {done} inputs{told}, seed {chosen.seed}, {time.monotonic() - began:.0f} s, {len(faults)} faults")
    print("\n".join(fault[-1500:] for fault in faults[:20]))
    return int(bool(faults))


def _part(total: float, number: int, rounds: int) -> int:
    """Inputs of a round, so that all rounds have the total."""
    return round(total * (number + 1) / rounds) - round(total * number / rounds)


if __name__ == "__main__":
    sys.exit(main())
