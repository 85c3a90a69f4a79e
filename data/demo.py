"""`make demo`: standardizes real CT, and a simulated patient of whom the truth is known.

1. The real CT slice that pydicom carries. The model that ships was not made for its kernel and says so; it is allowed to go on.
2. Where it is at hand, a real chest series, Philips kernel B -> L, with the model that was made for it.
3. A simulated patient, BR40 -> BL64: since the same raw data give BL64 too, the errors are printed.

Exit code: that of the first script that fails.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from pydicom.data import get_testdata_file

HERE = Path(__file__).resolve().parent.parent
OUTPUT = HERE / "demo_output"
UNPACK = HERE.parent / "shared" / "unpack-ct.sh"
SEED, SLICES = 900_000, 8
"""Of the simulated patient; no model that ships was trained on this seed."""


def script(name: str, **flags: object) -> int:
    """Runs a script of this repository with flags; returns its exit code."""
    arguments = [f"--{flag}={value}" for flag, value in flags.items()]
    return subprocess.run([sys.executable, HERE / name, *arguments], check=False).returncode


def ge_slice() -> int:
    """A real slice of another scanner than the model was made for."""
    source, out = OUTPUT / "ge_slice", OUTPUT / "ge_output"
    source.mkdir(parents=True)
    shutil.copy(get_testdata_file("CT_small.dcm"), source)
    print("A real GE slice, 128 x 128 (pydicom's CT_small.dcm); the model was made for other kernels")
    code = script("reconstruct.py", input_dir=source, output_dir=out, allow_out_of_protocol=True)
    return code or opened(out)


def philips_chest() -> int:
    """A real chest, Philips kernel B -> L, where it is at hand."""
    if not UNPACK.exists():
        return 0
    ct, out = HERE / ".ct", OUTPUT / "philips_output"
    subprocess.run([UNPACK, ct], check=True, stdout=subprocess.DEVNULL)
    print("A real Philips chest, 36 slices of 5 mm, kernel B (Lung-PET-CT-Dx A0001, CC BY 4.0)")
    source = ct / "ct" / "pair_philips_5mm" / "kernel_B"
    code = script("reconstruct.py", input_dir=source, output_dir=out, model="philips_b_l")
    return code or opened(out)


def opened(out: Path) -> int:
    """Says where the report and the DICOM are."""
    print(f"Open {out / 'report.html'} in a browser; the DICOM is in {out / 'series'}\n")
    return 0


def simulated() -> int:
    """A simulated patient, BR40 -> BL64, and what is left of the difference."""
    out = OUTPUT / "simulated"
    print(f"A simulated patient (no real CT): {SLICES} slices of 1 mm, in BR40 and in BL64, from the same raw data")
    made = {"patients": 0, "test_patients": 1, "first_seed": SEED, "slices": SLICES, "start": -20, "dose": 1}
    patient = out / "patients" / "test" / f"SIM{SEED}"
    source, target = patient / "BR40_1mm", patient / "BL64_1mm"
    code = (
        script("data/simulate.py", output_dir=out / "patients", kernels="BR40,BL64", **made)
        or script("reconstruct.py", input_dir=source, output_dir=out / "output")
        or script(
            "evaluate.py",
            source_dir=source,
            synthesized_dir=f"STAN-CT={out / 'output' / 'series'}",
            data="a simulated patient",
            target_dir=target,
            output_dir=out / "errors",
        )
    )
    print(f"Open {out / 'output' / 'report.html'} and {out / 'errors' / 'report.html'} in a browser")
    return code


def main() -> int:
    """All demonstrations, from an empty folder."""
    shutil.rmtree(OUTPUT, ignore_errors=True)
    return ge_slice() or philips_chest() or simulated()


if __name__ == "__main__":
    sys.exit(main())
