"""`make demo`: standardizes CT with the models that ship, and shows what the output is worth.

1. A real chest series, Philips kernel B -> L, where one is at hand.
2. A simulated chest, BR40 -> BL64: its raw data give BL64 too, so that the remaining error is measured.
3. Two sites without pairs: a model of that chest in BR40 and another chest in BL64, and what it is worth.
4. A real slice that no model was made for: it is refused, with the reason.

Exit code: 0 if the first three succeed and the last is refused.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from pydicom.data import get_testdata_file

HERE = Path(__file__).resolve().parent.parent
OUTPUT = HERE / "demo_output"
REAL_CT = HERE / ".ct"
UNPACK = HERE.parent / "shared" / "unpack-ct.sh"
SEED, SLICES = 900_000, 8
"""Seed, on which no model that ships was trained, and slices of the simulated chest."""
CHEST = OUTPUT / "simulated_chest" / "patients" / "test" / f"SIM{SEED}"
ONE_CHEST = {"patients": 0, "test_patients": 1, "slices": SLICES, "start": -20, "dose": 1}
"""Flags of `stan-ct simulate`."""
NOTHING_STANDARDIZED = 3
"""Exit code of `stan-ct reconstruct` if every series was refused."""


def stan_ct(command: str, **flags: object) -> int:
    """Prints and runs a command of `stan-ct`; returns its exit code."""
    arguments = [command, *(f"--{flag}={value}" for flag, value in flags.items())]
    print(f"$ stan-ct {shlex.join(map(_shown, arguments))}", flush=True)
    return subprocess.run([sys.executable, "-m", "stan_ct", *arguments], check=False, cwd=HERE).returncode


def real_chest() -> int:
    """A real chest in the protocol of a model, where one is at hand."""
    source, out = REAL_CT / "ct" / "pair_philips_5mm" / "kernel_B", OUTPUT / "real_chest"
    if not (REAL_CT / "ct" / ".complete").exists() and UNPACK.exists():
        subprocess.run([UNPACK, REAL_CT], check=True, stdout=subprocess.DEVNULL)
    if not source.exists():
        print("No real chest CT is at hand, so a simulated one is standardized.\n")
        return 0
    print("A real chest: Philips, 36 slices of 5 mm, kernel B (Lung-PET-CT-Dx A0001, CC BY 4.0)")
    return stan_ct("reconstruct", input_dir=source, output_dir=out) or opened(out / "report.html")


def simulated_chest() -> int:
    """A simulated chest in two kernels: standardizes one, and measures how far it is from the other."""
    patients, out, errors = (OUTPUT / "simulated_chest" / name for name in ("patients", "output", "errors"))
    print(f"A simulated chest, no real CT: {SLICES} slices of 1 mm in BR40 and, from the same raw data, in BL64")
    source, target = CHEST / "BR40_1mm", CHEST / "BL64_1mm"
    comparison = {"source_dir": source, "synthesized_dir": f"STAN-CT={out / 'series'}", "target_dir": target}
    code = (
        stan_ct("simulate", output_dir=patients, kernels="BR40,BL64", first_seed=SEED, **ONE_CHEST)
        or stan_ct("reconstruct", input_dir=source, output_dir=out)
        or stan_ct("evaluate", output_dir=errors, data="a simulated patient", **comparison)
    )
    return code or opened(out / "report.html", errors / "report.html")


def two_sites() -> int:
    """A site with BR40 and one with BL64, of different chests: makes a model of both, and measures it on the first."""
    there, model, out, errors = (OUTPUT / "two_sites" / name for name in ("site_b", "model", "output", "errors"))
    print("Two sites, no pairs: site A has the chest above in BR40, site B another chest in BL64, its standard")
    source, target = CHEST / "BR40_1mm", there / "test" / f"SIM{SEED + 1}"
    truth = {"target_dir": CHEST / "BL64_1mm", "include_training_slices": True}  # adapt saw their BR40, not their BL64
    code = (
        stan_ct("simulate", output_dir=there, kernels="BL64", first_seed=SEED + 1, **ONE_CHEST)
        or stan_ct("adapt", source_dir=source, target_dir=target, output_dir=model)
        or stan_ct("reconstruct", input_dir=source, output_dir=out, model=model)
        or stan_ct("evaluate", source_dir=source, synthesized_dir=f"adapt={out / 'series'}", output_dir=errors, **truth)
    )
    return code or opened(model / "report" / "report.html", errors / "report.html")


def unknown_scanner() -> int:
    """A real slice of a scanner and kernel that no model was made for: 0 if it is refused."""
    source = OUTPUT / "unknown_scanner" / "input"
    source.mkdir(parents=True)
    shutil.copy(get_testdata_file("CT_small.dcm"), source)
    print("A real slice that no model was made for (GE, pydicom's CT_small.dcm): STAN-CT refuses it")
    code = stan_ct("reconstruct", input_dir=source, output_dir=OUTPUT / "unknown_scanner" / "output")
    return 0 if code == NOTHING_STANDARDIZED else code or 1


def opened(*reports: Path) -> int:
    """Says which reports to open; returns 0."""
    print(f"Open in a browser: {' and '.join(map(_shown, reports))}\n", flush=True)
    return 0


def _shown(text: object) -> str:
    """A path or flag as seen from the checkout."""
    return str(text).replace(f"{HERE}/", "")


def main() -> int:
    """All demonstrations, from an empty folder; returns the exit code of the first that fails."""
    shutil.rmtree(OUTPUT, ignore_errors=True)
    return real_chest() or simulated_chest() or two_sites() or unknown_scanner()


if __name__ == "__main__":
    sys.exit(main())
