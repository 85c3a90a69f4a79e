"""Simulates CT: one raw data set per patient, reconstructed with several kernels and slice thicknesses, as DICOM.

stan-ct simulate --patients=4 --kernels=BR40,BL64 --thicknesses=1 --output_dir=OUT

OUT/<train|validation|test>/SIM000001/<kernel>_<thickness>mm/IM0001.dcm, and SIM000001.json with the truth about the patient.
A run that was stopped is completed by running it again; finished patients are kept. The same seed gives the same bytes,
whatever the number of workers.

stan-ct simulate --input_dir=SHARP --input_kernel=B70f --kernels=BR40,BL57 --output_dir=OUT

re-filters real, sharp, thin series to other kernels instead: no noise is added, no detail is made, the gain is capped. Kernel
curves are estimates, see stan_ct/ct/kernels.py. Everything written says that it is simulated.

Exit codes: 0 done, 1 bad usage or nothing to simulate or re-filter, 130 stopped with Ctrl-C.
"""

from __future__ import annotations

import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags
from tqdm import tqdm

from stan_ct.cli.command import Command, fail
from stan_ct.errors import StanCTError
from stan_ct.files import write_atomically
from stan_ct.parallel import usable_cores

if TYPE_CHECKING:
    from stan_ct.ct.kernels import Kernel
    from stan_ct.simulation.study import Scan

OF_PATIENTS = ("patients", "validation_patients", "test_patients", "thicknesses", "dose")


def command() -> Command:
    """The command and its flags."""
    made = Command("simulate", __doc__ or "")
    with made.group("What and where") as of:
        flags.DEFINE_string("output_dir", None, "Folder for the series.", required=True, flag_values=of)
        flags.DEFINE_list(
            "kernels",
            ["BR40", "BL57", "BL64"],
            "Kernels: names, or NAME:f50:f10[:overshoot[:at]] with frequencies in lp/cm.",
            flag_values=of,
        )
        flags.DEFINE_string("kernel_file", None, "JSON file of further kernels, as stan-ct fit-kernel writes.", flag_values=of)
        flags.DEFINE_list("thicknesses", ["1"], "Slice thicknesses, mm; each is made in every kernel.", flag_values=of)
        flags.DEFINE_bool("dry_run", False, "Say what the run would cost, and make nothing.", flag_values=of)
        flags.DEFINE_integer("workers", 0, "Number of processes; 0: one per core.", 0, flag_values=of)
    with made.group("Simulated patients") as of:
        flags.DEFINE_integer("patients", 1, "Training patients.", 0, flag_values=of)
        flags.DEFINE_integer(
            "validation_patients", 0, "Validation patients; their seeds follow those of training.", 0, flag_values=of
        )
        flags.DEFINE_integer("test_patients", 0, "Test patients; their seeds follow those of validation.", 0, flag_values=of)
        flags.DEFINE_integer("first_seed", 1, "Seed of the first patient.", 0, 999_999, flag_values=of)
        flags.DEFINE_integer("slices", 24, "Number of slices in each series.", 1, flag_values=of)
        flags.DEFINE_float("increment", 1.0, "Distance between slices, mm; a multiple of 0.5.", flag_values=of)
        flags.DEFINE_float(
            "start",
            None,
            "Lowest slice, mm above the carina, within -170 to 130; default: drawn for each patient.",
            flag_values=of,
        )
        flags.DEFINE_list(
            "dose", ["0.5", "2"], "Range of the patients' dose, relative to 1; one number for all the same.", flag_values=of
        )
        flags.DEFINE_float(
            "noise_factor",
            1.0,
            "What an iterative reconstruction leaves of the noise; 1: filtered back-projection.",
            0,
            flag_values=of,
        )
    with made.group("Real series, re-filtered") as of:
        flags.DEFINE_string("input_dir", None, "Real series to re-filter, instead of simulated patients.", flag_values=of)
        flags.DEFINE_string(
            "input_kernel",
            None,
            "Kernel of the real series, as in --kernels; default: the one in their headers.",
            flag_values=of,
        )
        flags.DEFINE_float("max_gain", 3.0, "Cap on how much re-filtering lifts any frequency.", 1, flag_values=of)
    return made


def run(command: Command) -> int:
    """Simulates or re-filters, and returns the exit code."""
    try:
        return _refilter(command) if command["input_dir"] else _simulate(command)
    except (StanCTError, ValueError, OSError) as error:
        return fail("simulate", error)
    except BrokenProcessPool:
        return fail(
            "simulate", "a worker was killed, probably for lack of memory: choose fewer --workers; the same command goes on"
        )
    except KeyboardInterrupt:
        print("simulate: stopped; run the same command again to go on", file=sys.stderr)
        return 130


def _simulate(command: Command) -> int:
    """Patients from seeds."""
    from stan_ct.simulation import cohort as cohorts

    cohort = cohorts.Cohort(
        _scan(command),
        Path(command["output_dir"]),
        (command["patients"], command["validation_patients"], command["test_patients"]),
        command["first_seed"],
        command["workers"] or usable_cores(),
    )
    cohorts.check(cohort)
    cost = cohorts.cost(cohort)
    minutes = max(cost.seconds / 60, 0.1)
    there = sum(cohort.patients) - cost.patients
    print(
        f"{cost.patients} patients to make{f', {there} there' if there else ''}: {cost.images} images in "
        f"{cost.patients * len(cohort.scan.series)} series, {cost.gigabytes:.2f} GB, about {minutes:.1f} minutes with "
        f"{cohort.workers} workers"
    )
    if command["dry_run"]:
        return 0
    Path(command["output_dir"]).mkdir(parents=True, exist_ok=True)
    write_atomically(Path(command["output_dir"]) / "simulate.flags", command.effective_flags("dry_run"))
    with tqdm(total=cost.images, unit="image", disable=None) as bar:
        cohorts.simulate(cohort, bar.update)
    print(f"{command['output_dir']}: {sum(cohort.patients)} simulated patients; the truth about each is in SIM*.json beside it")
    return 0


def _refilter(command: Command) -> int:
    """Real series in other kernels."""
    from stan_ct.simulation.refilter import refilter_tree

    unused = [name for name in OF_PATIENTS if command.present(name)]
    if unused:
        raise ValueError(f"--{unused[0]} is for simulated patients: leave it out, or leave out --input_dir")
    table = _kernel_table(command)
    source = _kernel(command["input_kernel"], table) if command["input_kernel"] else None
    chosen = [_kernel(name, table) for name in command["kernels"]]
    folders = refilter_tree(
        Path(command["input_dir"]),
        Path(command["output_dir"]),
        chosen,
        source,
        table,
        command["max_gain"],
        print,
        command["dry_run"],
    )
    print(f"{command['output_dir']}: {len(folders)} re-filtered series")
    return 0 if folders else 1


def _scan(command: Command) -> Scan:
    """What to make of each patient."""
    from stan_ct.simulation.acquisition import Scanner
    from stan_ct.simulation.study import Scan

    table = _kernel_table(command)
    dose = _numbers(command, "dose")
    if len(dose) not in (1, 2):
        raise ValueError(f"--dose: expected one number or a range of two, got {command['dose']}")
    return Scan(
        kernels=tuple(_kernel(name, table) for name in command["kernels"]),
        thicknesses=_numbers(command, "thicknesses"),
        slices=command["slices"],
        increment=command["increment"],
        dose=(dose[0], dose[-1]),
        start=command["start"],
        scanner=Scanner(noise_factor=command["noise_factor"]),
    )


def _kernel_table(command: Command) -> dict[str, Kernel]:
    """The kernels known by name."""
    from stan_ct.ct.kernels import KERNELS, read_kernels

    return KERNELS | (read_kernels(command["kernel_file"]) if command["kernel_file"] else {})


def _kernel(text: str, table: dict[str, Kernel]) -> Kernel:
    """One kernel from a flag."""
    from stan_ct.ct.kernels import parse_kernel

    return parse_kernel(text.strip(), table)


def _numbers(command: Command, flag: str) -> tuple[float, ...]:
    """A flag that is a list of numbers."""
    try:
        return tuple(float(text) for text in command[flag])
    except ValueError as error:
        raise ValueError(f"--{flag}: expected numbers, got {','.join(command[flag])!r}") from error
