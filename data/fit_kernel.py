"""A pair of real series of one scan -> the curve of one kernel, given that of the other.

python data/fit_kernel.py --input_dir=DICOM --known_kernel=B40f:4.07:6.8 --fit_kernel=B70f --kernel_file=kernels.json

Finds series of both kernels, pairs their slices, fits the amplitude ratio of target and source, and adds the kernel whose curve
is nearest to known curve x ratio to the JSON file, for data/simulate.py --kernel_file. Only the ratio can be had from a
pair: the result is as good as the known curve, which a wire phantom gives (stan_ct.ct.kernels.measure_mtf).

Exit codes: 0 done, 1 bad usage or no pair.
"""

import sys
from pathlib import Path

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_string("input_dir", None, "Tree of DICOM that holds both series.", required=True)
flags.DEFINE_string("known_kernel", None, "A name of the table, or NAME:f50:f10[:overshoot[:at]] in lp/cm.", required=True)
flags.DEFINE_string("fit_kernel", None, "Convolution Kernel of the other series.", required=True)
flags.DEFINE_string("kernel_file", None, "JSON file that the kernel is added to.", required=True)


def main(argv: list[str]) -> int:
    """Runs the script."""
    if len(argv) > 1:
        return fail(f"unexpected argument {argv[1]!r}: all arguments are flags")
    from stan_ct.dicom.refusal import Refused
    from stan_ct.patches.pairs import PairingError

    try:
        return fit()
    except (PairingError, Refused, ValueError, OSError) as error:
        return fail(error)


def fit() -> int:
    """Fits, prints and writes."""
    from stan_ct.ct.kernels import KERNELS, Kernel, parse_kernel, read_kernels, write_kernels
    from stan_ct.dicom.find import find_series
    from stan_ct.patches.kernel_fit import fit_kernel_to_series

    path = Path(FLAGS.kernel_file)
    table = read_kernels(path) if path.exists() else {}
    known = parse_kernel(FLAGS.known_kernel, KERNELS | table)
    Kernel(FLAGS.fit_kernel, known.f50, known.f10)  # refuses a bad name before the work
    if not path.absolute().parent.is_dir():
        raise ValueError(f"{path.parent} does not exist: make it, or choose another --kernel_file")
    found = fit_kernel_to_series(find_series(FLAGS.input_dir).series, known, FLAGS.fit_kernel)
    kernel = found.kernel
    print(
        f"{found.num_slices} pairs of slices, {known.name} -> {kernel.name}: f50 {kernel.f50:g}, f10 {kernel.f10:g} lp/cm, "
        f"overshoot {kernel.overshoot:g} at {kernel.overshoot_frequency:g} lp/cm; the measured ratio is met to "
        f"{found.error:.3f} (rms)"
    )
    if found.extrapolated:
        print(
            f"f50 and f10 lie beyond the series' Nyquist frequency, {found.ratio.frequency[-1]:.2f} lp/cm, and are "
            "extrapolated: pixels of 0.5 mm or less would show them"
        )
    if not found.acceptable:
        raise ValueError(
            f"no kernel curve comes near to {known.name} x the measured ratio, so nothing is written: give a better curve of "
            f"{known.name}, if there is one"
        )
    write_kernels(path, table | {kernel.name: kernel})
    return 0


def fail(error: object) -> int:
    """Says what went wrong; returns the exit code of bad usage."""
    print(f"fit_kernel: {error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    app.run(main)
