"""`make demo`: standardizes the real CT slice that pydicom carries and, where it is at hand, a real chest series.

Exit code: that of reconstruct.py.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from pydicom.data import get_testdata_file

HERE = Path(__file__).resolve().parent.parent
OUTPUT = HERE / "demo_output"
UNPACK = HERE.parent / "shared" / "unpack-ct.sh"


def collect(folder: Path) -> None:
    """Puts the demo's input into an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "ge_slice").mkdir(parents=True)
    shutil.copy(get_testdata_file("CT_small.dcm"), folder / "ge_slice")
    print("Input: a GE slice, 128 x 128 (pydicom's CT_small.dcm)")
    if UNPACK.exists():
        real = HERE / ".ct"
        subprocess.run([UNPACK, real], check=True, stdout=subprocess.DEVNULL)
        (folder / "philips_chest").symlink_to(real / "ct" / "pair_philips_5mm" / "kernel_B")
        print("Input: a Philips chest, 36 slices of 5 mm, kernel B (Lung-PET-CT-Dx A0001, CC BY 4.0)")


def main() -> int:
    """Collects the input and runs reconstruct.py on it."""
    collect(OUTPUT / "input")
    shutil.rmtree(OUTPUT / "output", ignore_errors=True)
    flags = [f"--input_dir={OUTPUT / 'input'}", f"--output_dir={OUTPUT / 'output'}"]
    code = subprocess.run([sys.executable, HERE / "reconstruct.py", *flags], check=False).returncode
    print(f"Open {OUTPUT / 'output' / 'report.html'} in a browser; the DICOM is in {OUTPUT / 'output' / 'series'}")
    return code


if __name__ == "__main__":
    sys.exit(main())
