"""Fits the curve of one reconstruction kernel to a pair of real series of one scan, given the curve of the other kernel.

stan-ct fit-kernel DICOM --known_kernel=B40f:4.07:6.8 --fit_kernel=B70f --kernel_file=kernels.json

Finds series of both kernels, pairs their slices, fits the amplitude ratio of target and source, and adds the kernel whose curve
is nearest to known curve x ratio to the JSON file, for stan-ct simulate --kernel_file. A pair gives only the ratio: the result
is as good as the known curve, which a wire phantom gives (stan_ct.ct.mtf.measure_mtf).

Exit codes: 0 done, 1 bad usage or no pair.
"""

from __future__ import annotations

from pathlib import Path

from absl import flags

from stan_ct.cli.command import Command, fail
from stan_ct.errors import StanCTError


def command() -> Command:
    """The command and its flags."""
    made = Command("fit-kernel", __doc__ or "", ("input_dir",))
    with made.group("Flags") as of:
        flags.DEFINE_string("input_dir", None, "Tree of DICOM that holds both series.", required=True, flag_values=of)
        flags.DEFINE_string(
            "known_kernel",
            None,
            "Name of a kernel in the table, or NAME:f50:f10[:overshoot[:at]] in lp/cm.",
            required=True,
            flag_values=of,
        )
        flags.DEFINE_string("fit_kernel", None, "Convolution Kernel of the other series.", required=True, flag_values=of)
        flags.DEFINE_enum(
            "pair_by",
            "study",
            ["study", "position"],
            "position: also series at the same positions that were de-identified apart.",
            flag_values=of,
        )
        flags.DEFINE_multi_string(
            "source_where",
            [],
            "Conditions on header fields of the series of the known kernel, such as Exposure>100,PatientPosition=FFS.",
            flag_values=of,
        )
        flags.DEFINE_multi_string(
            "target_where", [], "Conditions on header fields of the series of the other kernel.", flag_values=of
        )
        flags.DEFINE_string("kernel_file", None, "JSON file that the kernel is added to.", required=True, flag_values=of)
    return made


def run(command: Command) -> int:
    """Fits, prints and writes."""
    try:
        return _fit(command, Path(command["kernel_file"]))
    except (StanCTError, ValueError, OSError) as error:
        return fail("fit-kernel", error)


def _fit(command: Command, path: Path) -> int:
    from stan_ct.ct.kernels import KERNELS, Kernel, parse_kernel, read_kernels, write_kernels
    from stan_ct.dicom.find import find_series
    from stan_ct.patches.kernel_fit import fit_kernel_to_series
    from stan_ct.patches.where import parse_conditions

    table = read_kernels(path) if path.exists() else {}
    known, name = parse_kernel(command["known_kernel"], KERNELS | table), command["fit_kernel"]
    where = {side: parse_conditions(command[side], side) for side in ("source_where", "target_where")}
    Kernel(name, known.f50, known.f10)  # refuses a bad name before the work
    if not path.absolute().parent.is_dir():
        raise ValueError(f"{path.parent} does not exist: make it, or choose another --kernel_file")
    series = find_series(Path(command["input_dir"])).series
    found = fit_kernel_to_series(series, known, name, command["pair_by"], **where)
    kernel = found.kernel
    for refusal in found.refusals:
        print(f"refused: {', '.join(path.name for path in refusal.paths)}: {refusal.reason}: {refusal.found}. {refusal.advice}")
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
