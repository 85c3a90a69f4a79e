"""A DICOM CT series, study or tree -> the same series in the standard protocol.

`python reconstruct.py --input_dir=IN --output_dir=OUT` writes OUT/series/<name>/*.dcm (one derived DICOM series per source
series), OUT/manifest.json (provenance) and OUT/report.html (a page for people). Source files are only read. Research use
only.

A series that the model was not made for, by its headers or by its noise, is refused unless --allow_out_of_protocol is given;
one that has the standard protocol already is left alone.

Exit codes: 0 all good; 1 bad usage; 2 some series or slices refused or failed; 3 no series has the standard protocol now;
130 stopped with Ctrl-C.
"""

import shlex
import sys
from pathlib import Path

from absl import app, flags

FLAGS = flags.FLAGS

flags.DEFINE_string("input_dir", None, "A series, a study or any tree of files.", required=True)
flags.DEFINE_string("output_dir", None, "Directory for series, manifest, table and report.", required=True)
flags.DEFINE_list("model", ["auto"], "Names of models that ship, or folders; auto: the one of all that ship which fits.")
flags.DEFINE_string("target", "", "Kernel of the standard protocol, to choose among models; default: any.")
flags.DEFINE_enum("fusion", "stan_ct", ["straightforward", "overlap", "realfake", "stan_ct"], "Method, a row of Table 2.")
flags.DEFINE_enum("patch_layout", None, ["random", "grid", "slice", "tiles"], "Where patches lie; grid, or the method's own.")
flags.DEFINE_enum("fusion_weights", None, ["hann", "mean"], "Weights of overlapping patches; hann, or the method's own.")
flags.DEFINE_enum("hu_rescale", None, ["window", "patch", "slice"], "Gray scale -> HU, Eq. 7; window, or the method's own.")
flags.DEFINE_enum("mask", None, ["whole", "air", "closed", "pixel"], "What is standardized; whole, or the method's own.")
flags.DEFINE_enum("on_unqualified", None, ["best", "source"], "Fills holes no qualified patch covers (default: best).")
flags.DEFINE_float("qc_threshold", None, "P(real) a patch needs; default: the model's; 0.99 is the paper's.")
flags.register_validator("qc_threshold", lambda p: p is None or 0 <= p <= 1, "--qc_threshold must be in [0, 1]")
flags.DEFINE_enum("precision", "auto", ["auto", "float32", "bfloat16"], "Number type of the networks' hidden layers.")
flags.DEFINE_bool("allow_out_of_protocol", False, "Go on with series that the model was not made for, and mark them.")
flags.DEFINE_integer("seed", 0, "Of the random layout and of resampling.", 0)
flags.DEFINE_bool("flat", False, "Series side by side in OUT/series, rather than in the folders of the input.")
flags.DEFINE_bool("overwrite", False, "Replace series in the output that were made with another model or other switches.")
flags.DEFINE_bool("show_identifiers", False, "Name source files and Patient IDs in manifest, report and table.")
flags.DEFINE_bool("dry_run", False, "Say what would be done with each series; write nothing, and do not load the networks.")


def main(argv: list[str]) -> int:
    """Runs the script."""
    if len(argv) > 1:
        return fail(f"unexpected argument {argv[1]!r}: all arguments are flags, as in --input_dir=DIR")
    from stan_ct.errors import UsageError
    from stan_ct.quiet import quiet_start

    with quiet_start():
        from stan_ct.reconstruction.run import ReconstructSettings, reconstruct

    switches = ("patch_layout", "fusion_weights", "hu_rescale", "mask", "on_unqualified", "qc_threshold", "seed")
    try:
        settings = ReconstructSettings(
            input_dir=Path(FLAGS.input_dir),
            output_dir=Path(FLAGS.output_dir),
            models=FLAGS.model,
            target=FLAGS.target,
            fusion=FLAGS.fusion,
            switches={name: FLAGS[name].value for name in switches},
            precision=FLAGS.precision,
            dry_run=FLAGS.dry_run,
            allow_out_of_protocol=FLAGS.allow_out_of_protocol,
            flat=FLAGS.flat,
            overwrite=FLAGS.overwrite,
            show_identifiers=FLAGS.show_identifiers,
            command=shlex.join(["python", *sys.argv]),
        )
        return reconstruct(settings)
    except UsageError as error:
        return fail(error)
    except KeyboardInterrupt:
        print("reconstruct: stopped; series already written are complete, run the same command again", file=sys.stderr)
        return 130


def fail(error: object) -> int:
    """Says what went wrong; returns the exit code of bad usage."""
    print(f"reconstruct: {error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    app.run(main)
