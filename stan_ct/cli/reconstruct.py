"""Standardizes CT series: a DICOM series, a study or any tree of files in, the same series in the standard protocol out.

OUTPUT_DIR gets series/ (one derived DICOM series per source series, in the folders of the input), series.csv (a line per
source series), failures.csv (those that were refused or failed), log.jsonl (what was done when), manifest.json (provenance)
and report.html (a page for people, with report_files/). Source files are only read.
A series that no model was made for, by its headers or its noise, is refused; one that has the standard protocol is left alone.
Running the same command again keeps what is finished and completes the rest. Research use only, not for diagnosis.

Exit codes: 0 all good; 1 bad usage; 2 some series or slices were refused or failed; 3 no series was standardized; 130 stopped
with Ctrl-C; 143 stopped with SIGTERM.
"""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

from absl import flags

from stan_ct.cli.command import Command
from stan_ct.errors import UsageError

SWITCHES = ("patch_layout", "fusion_weights", "hu_rescale", "mask", "on_unqualified", "qc_threshold", "seed")
STOPPED, TERMINATED = 130, 143


def command() -> Command:
    """The command and its flags."""
    made = Command("reconstruct", __doc__ or "", ("input_dir", "output_dir"))
    with made.group("What and where") as of:
        flags.DEFINE_string(
            "input_dir",
            None,
            "Series, study or any tree of files; a .zip archive; a DICOMDIR, for its folder; or NIfTI files without DICOM.",
            required=True,
            flag_values=of,
        )
        flags.DEFINE_string(
            "output_dir", None, "Directory for the output; by default beside the input, INPUT_standardized.", flag_values=of
        )
        flags.DEFINE_string(
            "kernel",
            "",
            "Reconstruction kernel of NIfTI files, which cannot say it; else of the JSON beside them.",
            flag_values=of,
        )
        flags.DEFINE_bool("nifti", False, "Write the results as NIfTI too, in OUTPUT_DIR/nifti.", flag_values=of)
        flags.DEFINE_bool("dry_run", False, "Say what would be done with each series, and write nothing.", flag_values=of)
        flags.DEFINE_bool("overwrite", False, "Replace series made with another model or other switches.", flag_values=of)
        flags.DEFINE_bool("flat", False, "Series side by side, rather than in the folders of the input.", flag_values=of)
        flags.DEFINE_bool(
            "show_identifiers", False, "Name source files and Patient IDs in manifest, report and table.", flag_values=of
        )
    with made.group("Which series") as of:
        flags.DEFINE_multi_string(
            "include",
            [],
            "Only series that meet all conditions on header fields that are joined by commas, such as "
            "ConvolutionKernel~^B,KVP>=100,KVP<=120 (=, !=, <, >, <=, >=, ~ regular expression; keyword or (gggg,eeee)); given "
            "several times: that meet all of one of them.",
            flag_values=of,
        )
        flags.DEFINE_multi_string("exclude", [], "The same, of series to leave out.", flag_values=of)
        flags.DEFINE_bool("newest", False, "Of series that were reconstructed or sent anew, only the newest.", flag_values=of)
        flags.DEFINE_integer("limit", 0, "Number of series at most; 0: all.", 0, flag_values=of)
    with made.group("Many series") as of:
        flags.DEFINE_integer(
            "workers", 1, "Processes that standardize series, among which the cores are shared out.", 1, flag_values=of
        )
        flags.DEFINE_string(
            "shard",
            "",
            "I/N, such as 3/8: standardize every N-th series from the I-th on; jobs with other I may run beside it into the "
            "same output directory. stan-ct merge OUTPUT_DIR then writes manifest and report.",
            flag_values=of,
        )
    with made.group("Model") as of:
        flags.DEFINE_list(
            "model",
            ["auto"],
            "Names of models that ship (stan-ct models), or folders. Of several, the one made for a series standardizes it; "
            "auto stands for all that ship and keep the slice thickness (with --slice_thickness: that make it).",
            flag_values=of,
        )
        flags.DEFINE_string("target", "", "Kernel of the standard protocol, to choose among models.", flag_values=of)
        flags.DEFINE_float(
            "slice_thickness",
            0.0,
            "Slice thickness to make, mm, for models that change it: the missing slices between those of the source are "
            "interpolated and written too. 0: slices stay where they are.",
            0,
            100,
            flag_values=of,
        )
        flags.DEFINE_bool(
            "allow_out_of_protocol", False, "Go on with series that no model was made for, and mark them.", flag_values=of
        )
        engines = ["auto", "tensorflow", "onnxruntime", "openvino"]
        flags.DEFINE_enum(
            "engine",
            "auto",
            engines,
            "What computes the networks: TensorFlow, or, sooner, an engine of exported models (stan-ct export).",
            flag_values=of,
        )
        choices = ["auto", "float32", "bfloat16"]
        flags.DEFINE_enum("precision", "auto", choices, "Number type of the networks' hidden layers.", flag_values=of)
    with made.group("Switches of the paper (Table 2); without one, the method's own") as of:
        methods = ["stan_ct", "realfake", "overlap", "straightforward"]
        flags.DEFINE_enum("fusion", "stan_ct", methods, "Method: all checks, checks 1 and 2, check 1, none.", flag_values=of)
        flags.DEFINE_enum("patch_layout", None, ["grid", "random", "slice", "tiles"], "Layout of the patches.", flag_values=of)
        flags.DEFINE_enum("fusion_weights", None, ["hann", "mean"], "Weights of overlapping patches.", flag_values=of)
        flags.DEFINE_enum(
            "hu_rescale", None, ["window", "patch", "slice"], "From gray scale to HU: one window, or Eq. 7.", flag_values=of
        )
        flags.DEFINE_enum(
            "mask",
            None,
            ["whole", "air", "closed", "pixel"],
            "Pixels that are standardized. whole: the slice, above 900 HU by the radial filter alone; air: every pixel up to "
            "900 HU; closed: the soft-tissue mask with noise holes closed; pixel: the paper's mask.",
            flag_values=of,
        )
        flags.DEFINE_enum(
            "on_unqualified", None, ["best", "source"], "Filling of holes that no qualified patch covers.", flag_values=of
        )
        flags.DEFINE_float(
            "qc_threshold",
            None,
            "P(real) from which a patch qualifies; by default the model's; 0.99 is the paper's.",
            0,
            1,
            flag_values=of,
        )
        flags.DEFINE_integer("seed", 0, "Seed of the random layout and of resampling.", 0, flag_values=of)
    return made


def run(command: Command) -> int:
    """Standardizes, and returns the exit code."""
    from stan_ct.dicom.archive import folder_of_medium
    from stan_ct.reconstruction.choosing import Choice
    from stan_ct.reconstruction.preparation import ReconstructSettings
    from stan_ct.reconstruction.run import reconstruct

    input_dir = Path(command["input_dir"])
    settings = ReconstructSettings(
        input_dir=input_dir,
        output_dir=Path(command["output_dir"] or beside(folder_of_medium(input_dir))),
        models=command["model"],
        target=command["target"],
        slice_thickness=command["slice_thickness"],
        fusion=command["fusion"],
        switches={name: command[name] for name in SWITCHES},
        engine=command["engine"],
        precision=command["precision"],
        allow_out_of_protocol=command["allow_out_of_protocol"],
        flat=command["flat"],
        overwrite=command["overwrite"],
        show_identifiers=command["show_identifiers"],
        dry_run=command["dry_run"],
        command=command.command_line(),
        workers=command["workers"],
        kernel=command["kernel"],
        nifti=command["nifti"],
        choice=Choice(command["include"], command["exclude"], command["newest"], command["limit"]),
        shard=check_shard(command["shard"]),
    )
    former = signal.signal(signal.SIGTERM, _terminate)
    try:
        return reconstruct(settings)
    except KeyboardInterrupt:
        return _stopped("stopped", STOPPED)
    except Terminated:
        return _stopped("terminated", TERMINATED)
    finally:
        signal.signal(signal.SIGTERM, former)


def check_shard(text: str) -> str:
    """A shard as it was given.

    Raises:
        UsageError: If it is none.
    """
    first, _, count = text.partition("/")
    if text and not (first.isdecimal() and count.isdecimal() and 1 <= int(first) <= int(count)):
        raise UsageError(f"--shard expects I/N with 1 <= I <= N, such as 3/8, not {text!r}")
    return text and f"{int(first)}/{int(count)}"


def beside(input_dir: Path) -> Path:
    """The output directory beside the input's name."""
    absolute = input_dir.resolve()
    name = re.sub(r"\.(zip|nii|nii\.gz)$", "", absolute.name, flags=re.IGNORECASE)
    return absolute.with_name(f"{name}_standardized")


class Terminated(BaseException):
    """SIGTERM was received."""


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


def _stopped(word: str, exit_code: int) -> int:
    print(f"reconstruct: {word}; finished series are kept, run the same command again for the rest", file=sys.stderr)
    return exit_code
