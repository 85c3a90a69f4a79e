"""Simulated CT: one raw data set per patient, reconstructed with several kernels and slice thicknesses, as DICOM.

python data/simulate.py --patients=4 --kernels=BR40,BL64 --thicknesses=1 --output_dir=OUT

OUT/<train|validation|test>/SIM000001/<kernel>_<thickness>mm/IM0001.dcm, and SIM000001.json with the truth about the patient.
A run that was stopped is completed by running it again; patients that are there are left alone. The same seed gives the same
bytes, whatever the number of workers.

python data/simulate.py --input_dir=SHARP --input_kernel=B70f --kernels=BR40,BL57 --output_dir=OUT

re-filters real, sharp, thin series to other kernels instead: no noise is added, no detail is made, the gain is capped.

Kernel curves are estimates: see stan_ct/ct/kernels.py. Everything written says that it is simulated.

Exit codes: 0 done, 1 bad usage or nothing to do it with, 130 stopped with Ctrl-C.
"""

import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from absl import app, flags
from tqdm import tqdm

FLAGS = flags.FLAGS
flags.DEFINE_string("output_dir", None, "Where the series go.", required=True)
flags.DEFINE_list("kernels", ["BR40", "BL57", "BL64"], "Names, or NAME:f50:f10[:overshoot[:at]] with frequencies in lp/cm.")
flags.DEFINE_string("kernel_file", None, "JSON file of further kernels, as data/fit_kernel.py writes.")
flags.DEFINE_integer("patients", 1, "Training patients.", 0)
flags.DEFINE_integer("validation_patients", 0, "Validation patients; their seeds follow.", 0)
flags.DEFINE_integer("test_patients", 0, "Test patients; their seeds follow.", 0)
flags.DEFINE_integer("first_seed", 1, "Seed of the first patient.", 0, 999_999)
flags.DEFINE_list("thicknesses", ["1"], "Slice thicknesses, mm; each in every kernel.")
flags.DEFINE_integer("slices", 24, "Slices of each series.", 1)
flags.DEFINE_float("increment", 1.0, "Distance of slices, mm; a multiple of 0.5.")
flags.DEFINE_float("start", None, "Lowest slice, mm above the carina, within -170 to 130; default: drawn for each patient.")
flags.DEFINE_list("dose", ["0.5", "2"], "Range of the patients' dose, relative to 1; one number for all the same.")
flags.DEFINE_float("noise_factor", 1.0, "What an iterative reconstruction leaves of the noise; 1: filtered back-projection.", 0)
flags.DEFINE_integer("workers", 0, "Processes; 0: one per core.", 0)
flags.DEFINE_string("input_dir", None, "Real series to re-filter, instead of simulated patients.")
flags.DEFINE_string("input_kernel", None, "Their kernel, as in --kernels; default: the one that their headers name.")
flags.DEFINE_float("max_gain", 3.0, "Cap on how much re-filtering lifts any frequency.", 1)
flags.DEFINE_bool("dry_run", False, "Say what it would cost; make nothing.")


def main(argv: list[str]) -> int:
    """Runs the script."""
    if len(argv) > 1:
        return fail(f"unexpected argument {argv[1]!r}: all arguments are flags")
    from stan_ct.simulation.cohort import CohortError

    try:
        return refilter() if FLAGS.input_dir else simulate()
    except (CohortError, ValueError, OSError) as error:
        return fail(error)
    except BrokenProcessPool:
        return fail("a worker was ended, probably for lack of memory: choose fewer --workers; the same command goes on")
    except KeyboardInterrupt:
        print("simulate: stopped; run the same command again to go on", file=sys.stderr)
        return 130


def simulate() -> int:
    """Patients from seeds."""
    from stan_ct.simulation import cohort as cohorts

    cohort = cohorts.Cohort(scan(), Path(FLAGS.output_dir), patients(), FLAGS.first_seed, workers())
    cohorts.check(cohort)
    cost = cohorts.cost(cohort)
    minutes = max(cost.seconds / 60, 0.1)
    there = sum(cohort.patients) - cost.patients
    print(
        f"{cost.patients} patients to make{f', {there} there' if there else ''}: {cost.images} images in "
        f"{cost.patients * len(cohort.scan.series)} series, {cost.gigabytes:.2f} GB, about {minutes:.1f} minutes with "
        f"{cohort.workers} workers"
    )
    if FLAGS.dry_run:
        return 0
    Path(FLAGS.output_dir).mkdir(parents=True, exist_ok=True)
    effective = FLAGS.get_key_flags_for_module(sys.modules[__name__])
    lines = [f.serialize() for f in effective if f.value is not None and f.name != "dry_run"]
    (Path(FLAGS.output_dir) / "simulate.flags").write_text("\n".join(lines) + "\n")
    with tqdm(total=cost.images, unit="image", disable=None) as bar:
        cohorts.simulate(cohort, bar.update)
    print(f"{FLAGS.output_dir}: {sum(cohort.patients)} simulated patients; the truth about each is in SIM*.json beside it")
    return 0


def refilter() -> int:
    """Real series in other kernels."""
    from stan_ct.simulation.refilter import refilter_tree

    unused = [
        name for name in ("patients", "validation_patients", "test_patients", "thicknesses", "dose") if FLAGS[name].present
    ]
    if unused:
        raise ValueError(f"--{unused[0]} is for simulated patients: leave it out, or leave out --input_dir")
    table = kernel_table()
    source = kernel(FLAGS.input_kernel, table) if FLAGS.input_kernel else None
    chosen = [kernel(name, table) for name in FLAGS.kernels]
    folders = refilter_tree(
        Path(FLAGS.input_dir), Path(FLAGS.output_dir), chosen, source, table, FLAGS.max_gain, print, FLAGS.dry_run
    )
    print(f"{FLAGS.output_dir}: {len(folders)} re-filtered series")
    return 0 if folders else 1


def scan() -> object:
    """What to make of each patient."""
    from stan_ct.simulation.acquisition import Scanner
    from stan_ct.simulation.study import Scan

    table = kernel_table()
    dose = numbers("dose")
    if len(dose) not in (1, 2):
        raise ValueError(f"--dose: expected one number or a range of two, got {FLAGS.dose}")
    return Scan(
        kernels=tuple(kernel(name, table) for name in FLAGS.kernels),
        thicknesses=numbers("thicknesses"),
        slices=FLAGS.slices,
        increment=FLAGS.increment,
        dose=(dose[0], dose[-1]),
        start=FLAGS.start,
        scanner=Scanner(noise_factor=FLAGS.noise_factor),
    )


def kernel_table() -> dict:
    """The kernels known by name."""
    from stan_ct.ct.kernels import KERNELS, read_kernels

    return KERNELS | (read_kernels(FLAGS.kernel_file) if FLAGS.kernel_file else {})


def kernel(text: str, table: dict) -> object:
    """One kernel from a flag."""
    from stan_ct.ct.kernels import parse_kernel

    return parse_kernel(text.strip(), table)


def numbers(flag: str) -> tuple[float, ...]:
    """A flag that is a list of numbers."""
    try:
        return tuple(float(text) for text in FLAGS[flag].value)
    except ValueError as error:
        raise ValueError(f"--{flag}: expected numbers, got {','.join(FLAGS[flag].value)!r}") from error


def patients() -> tuple[int, int, int]:
    """How many for training, validation and test."""
    return FLAGS.patients, FLAGS.validation_patients, FLAGS.test_patients


def workers() -> int:
    """As asked for, or as many as this process may use cores."""
    from stan_ct.parallel import usable_cores

    return FLAGS.workers or usable_cores()


def fail(error: object) -> int:
    """Says what went wrong; returns the exit code of bad usage."""
    print(f"simulate: {error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    app.run(main)
