"""Compares source and synthesized CT with the target: errors of texture features (paper Eq. 8) and of HU.

python evaluate.py --source_dir SOURCE --synthesized_dir SYNTHESIZED --target_dir TARGET --output_dir OUT

Every slice of SOURCE is compared with the slices of the same study and place in the other two directories. OUT
receives errors.csv, errors.md and evaluate.flags (repeat with --flagfile OUT/evaluate.flags).
"""

import shlex
import sys
from functools import partial
from pathlib import Path

from absl import app, flags
from tqdm import tqdm

from stan_ct.ct.refusal import Refused
from stan_ct.evaluation.glcm import Discretization
from stan_ct.evaluation.metrics import Settings, measure
from stan_ct.evaluation.pairs import NotComparable, read_instances
from stan_ct.evaluation.tables import write_tables

FLAGS = flags.FLAGS

flags.DEFINE_string("source_dir", None, "DICOM of the source series.")
flags.DEFINE_string("synthesized_dir", None, "DICOM of the series made of it.")
flags.DEFINE_string("target_dir", None, "DICOM of the target series: the same scan in the standard protocol.")
flags.DEFINE_string("output_dir", None, "Where the tables go.")
flags.DEFINE_integer("patch_size", Settings.patch_size, "Side of a patch, pixels.")
flags.DEFINE_integer("stride", Settings.stride, "Distance of neighbouring patches, pixels.")
flags.DEFINE_float("min_soft_tissue", Settings.min_soft_tissue, "Part of a patch that must be soft tissue, 0 to 1.")
flags.DEFINE_integer("levels", 256, "Gray levels over the soft-tissue range.")
flags.DEFINE_float("bin_width", None, "Gray levels of this many HU instead (IBSI fixed bin size, such as 25).")
flags.DEFINE_string("only_instances", None, "Text file, one SOP Instance UID a line: the source slices to compare.")
flags.mark_flags_as_required(["source_dir", "synthesized_dir", "target_dir", "output_dir"])


def settings_from_flags() -> Settings:
    """The flags as settings.

    Raises:
        ValueError: If a value is out of its range.
    """
    by_size = FLAGS.bin_width is not None
    return Settings(
        source_dir=Path(FLAGS.source_dir),
        synthesized_dir=Path(FLAGS.synthesized_dir),
        target_dir=Path(FLAGS.target_dir),
        patch_size=FLAGS.patch_size,
        stride=FLAGS.stride,
        min_soft_tissue=FLAGS.min_soft_tissue,
        discretization=Discretization.fixed_size(FLAGS.bin_width) if by_size else Discretization.fixed_number(FLAGS.levels),
        only_instances=read_instances(Path(FLAGS.only_instances)) if FLAGS.only_instances else None,
    )


def main(argv: list[str]) -> int:
    """Returns 0 when the tables are written, 1 for bad usage or nothing to compare."""
    if len(argv) > 1:
        return fail(f"unexpected {argv[1]!r}: every argument is a flag, --name value; see --help")
    try:
        settings, output_dir = settings_from_flags(), Path(FLAGS.output_dir)
        output_dir.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        return fail(error)
    try:
        measurement = measure(settings, progress=partial(tqdm, disable=None))
        print(write_tables(measurement, output_dir, shlex.join(["python", *sys.argv]), effective_flags()))
    except (NotComparable, Refused, OSError) as error:
        return fail(error)
    return 0


def fail(error: object) -> int:
    """Says what went wrong and returns the exit code."""
    print(f"evaluate: {error}", file=sys.stderr)
    return 1


def effective_flags() -> str:
    """The flags of this program that are set, one a line, as `--flagfile` reads them."""
    of_this_program = FLAGS.get_key_flags_for_module(sys.modules[__name__])
    return "".join(f"{flag.serialize()}\n" for flag in of_this_program if flag.value is not None)


if __name__ == "__main__":
    app.run(main)
