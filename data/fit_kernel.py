"""A pair of real series of one scan -> the curve of one kernel, given that of the other.

python data/fit_kernel.py --input_dir=DICOM --known_kernel=B40f:4.07:6.8 --fit_kernel=B70f --kernel_file=kernels.json

Finds series of both kernels, pairs their slices, fits the amplitude ratio of target and source, and adds the kernel whose curve
is nearest to known curve x ratio to the JSON file, for data/simulate.py --kernel_file. Only the ratio can be had from a
pair: the result is as good as the known curve, which a wire phantom gives (stan_ct.ct.kernels.measure_mtf).

Exit codes: 0 done, 1 bad usage or no pair.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
from absl import app, flags

SLICES = 128
"""Pairs of slices that are looked at, at most."""
WORST = 0.1
"""Largest error of the fit, in units of the highest ratio, that is still a fit."""

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
    from stan_ct.ct.filters import fit_radial_filter
    from stan_ct.ct.kernels import KERNELS, Kernel, kernel_from_ratio, parse_kernel, read_kernels
    from stan_ct.dicom.find import find_series
    from stan_ct.dicom.series import load_series
    from stan_ct.patches.pairs import PairingRule, pair_series

    path = Path(FLAGS.kernel_file)
    there = read_kernels(path) if path.exists() else {}
    known = parse_kernel(FLAGS.known_kernel, KERNELS | there)
    Kernel(FLAGS.fit_kernel, known.f50, known.f10)  # refuses a bad name before the work
    if not path.absolute().parent.is_dir():
        raise ValueError(f"{path.parent} does not exist: make it, or choose another --kernel_file")
    pairs = pair_series(find_series(FLAGS.input_dir).series, PairingRule((known.name,), FLAGS.fit_kernel))
    slices, each = [], max(SLICES // len(pairs), 1)
    for pair in pairs[:SLICES]:
        source, target = load_series(pair.source), load_series(pair.target)
        chosen = pair.slices[:: max(len(pair.slices) // each, 1)]
        slices += [(source.volume[z], target.volume[t], pair.source.pixel_spacing) for z, t in chosen]
    ratio = fit_radial_filter(slices, corners=False)  # aliasing rules the corners
    found = kernel_from_ratio(FLAGS.fit_kernel, ratio, known)
    curve = found.mtf(ratio.frequency) / known.mtf(ratio.frequency)
    frequency = np.asarray(ratio.frequency)
    certain = (known.mtf(frequency) > 0.05) & (frequency < 0.8 * frequency[-1])  # what was fitted
    error = float(np.sqrt(np.mean((curve - ratio.gain)[certain] ** 2)))
    print(
        f"{len(slices)} pairs of slices, {known.name} -> {found.name}: f50 {found.f50:g}, f10 {found.f10:g} lp/cm, overshoot "
        f"{found.overshoot:g} at {found.overshoot_frequency:g} lp/cm; the measured ratio is met to {error:.3f} (rms)"
    )
    if found.f50 > ratio.frequency[-1]:
        print(
            f"f50 and f10 lie beyond the series' Nyquist frequency, {ratio.frequency[-1]:.2f} lp/cm, and are extrapolated: "
            "pixels of 0.5 mm or less would show them"
        )
    if error > WORST * max(ratio.gain):
        raise ValueError(
            f"no kernel curve comes near to {known.name} x the measured ratio, so nothing is written: give a better curve of "
            f"{known.name}, if there is one"
        )
    table = {name: asdict(kernel) for name, kernel in (there | {found.name: found}).items()}
    for numbers in table.values():
        del numbers["name"]
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(table, indent=1) + "\n")
    partial.replace(path)
    return 0


def fail(error: object) -> int:
    """Says what went wrong; returns the exit code of bad usage."""
    print(f"fit_kernel: {error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    app.run(main)
