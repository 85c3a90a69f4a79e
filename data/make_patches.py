"""Paired CT series (DICOM) -> patch records for train.py.

Finds, in each study, the series of two reconstruction kernels, pairs their slices by position, keeps validation apart
and writes TFRecord files of paired patches with a JSON index.

Exit codes: 0 done, 1 bad usage or no pairs.
"""

import sys

from absl import app, flags

flags.DEFINE_string("input_dir", None, "Tree of DICOM series that holds both kernels.", required=True)
flags.DEFINE_string("output_dir", None, "Where records and index go.", required=True)
flags.DEFINE_string("source_kernel", None, "Convolution Kernel of the non-standard protocol.", required=True)
flags.DEFINE_string("target_kernel", None, "Convolution Kernel of the standard protocol.", required=True)
flags.DEFINE_enum("split", "patient", ["patient", "blocks"], "Keep whole patients apart, or every third block of slices.")
flags.DEFINE_float("validation_fraction", 0.2, "Share of patients held back.", 0, 1)
flags.DEFINE_integer("block", 4, "Slices in a block of --split=blocks.", 1)
flags.DEFINE_integer("patches_per_slice", 40, "Random patches cut from each slice.", 1)
flags.DEFINE_bool("resized", False, "Sides of 100..256 pixels resized to 256 (the paper) instead of 256 at native scale.")
flags.DEFINE_enum("front_end", "none", ["none", "amplitude", "wiener"], "Radial filter to fit and apply to source slices.")
flags.DEFINE_integer("seed", 0, "Chooses patches and patients.")


def main(argv: list[str]) -> int:
    """Runs the script."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}: all arguments are flags")
    from stan_ct.networks.quiet import quiet_start
    from stan_ct.patches.pairs import PairingError

    with quiet_start():
        from stan_ct.patches.dataset import PatchSettings, make_patches

    settings = PatchSettings(**{name: flags.FLAGS[name].value for name in PatchSettings.__dataclass_fields__})
    try:
        index = make_patches(settings)
    except (PairingError, OSError) as error:
        print(f"make_patches: {error}", file=sys.stderr)
        return 1
    print(
        f"{settings.output_dir}: {index['patches']['train']} training and {index['patches']['validation']} validation patches"
    )
    return 0


if __name__ == "__main__":
    app.run(main)
