"""Cuts patch records for training out of paired CT series (DICOM).

stan-ct make-patches --input_dir=DICOM --output_dir=RECORDS --source_kernels=BR40,BL57 --target_kernel=BL64

Finds, in each study, series of the source protocols and of the standard protocol, pairs their slices by position, keeps
validation and test apart, checks that nothing leaks, and writes TFRecord files of paired patches with a JSON index. A run
that was stopped is completed by running it again.

Exit codes: 0 done, 1 bad usage, no pairs or a worker that was killed, 130 stopped with Ctrl-C.
"""

from __future__ import annotations

import sys
from concurrent.futures.process import BrokenProcessPool

from absl import flags

from stan_ct.cli.command import Command, fail
from stan_ct.errors import StanCTError, UsageError
from stan_ct.parallel import usable_cores


def command() -> Command:
    """The command and its flags."""
    made = Command("make-patches", __doc__ or "", ("input_dir", "output_dir"))
    with made.group("What and where") as of:
        flags.DEFINE_multi_string(
            "input_dir", None, "Tree of DICOM series; give it again for more trees.", required=True, flag_values=of
        )
        flags.DEFINE_string("output_dir", None, "Where records and index go.", required=True, flag_values=of)
        flags.DEFINE_list(
            "source_kernels",
            None,
            "Convolution Kernels of the non-standard protocols, with commas.",
            required=True,
            flag_values=of,
        )
        flags.DEFINE_alias("source_kernel", "source_kernels", flag_values=of)
        flags.DEFINE_string(
            "target_kernel", None, "Convolution Kernel of the standard protocol.", required=True, flag_values=of
        )
        flags.DEFINE_integer(
            "workers",
            0,
            "Processes that read and cut; 0: one for each core. The records do not depend on it.",
            0,
            flag_values=of,
        )
    with made.group("Pairs") as of:
        flags.DEFINE_enum(
            "pairing",
            "kernel",
            ["kernel", "standard"],
            "A change of kernel at equal thickness, or any -> standard.",
            flag_values=of,
        )
        flags.DEFINE_float(
            "target_thickness", 0, "Slice thickness of the standard protocol in mm, for --pairing=standard.", 0, flag_values=of
        )
        flags.DEFINE_list(
            "thicknesses", [], "Slice thicknesses of sources to use, in mm, with commas; default: all.", flag_values=of
        )
    with made.group("Training, validation, test") as of:
        flags.DEFINE_enum(
            "split",
            "patient",
            ["patient", "folders", "blocks", "halves"],
            "Whole patients; folders train, validation, test; blocks of slices: every third held back, or every second tests.",
            flag_values=of,
        )
        flags.DEFINE_float(
            "validation_fraction", 0.2, "Share of patients that validate, for --split=patient.", 0, 1, flag_values=of
        )
        flags.DEFINE_float("test_fraction", 0, "Share of patients that test, for --split=patient.", 0, 1, flag_values=of)
        flags.DEFINE_integer("block", 4, "Slices in a block of --split=blocks and --split=halves.", 1, flag_values=of)
    with made.group("Patches") as of:
        flags.DEFINE_integer(
            "patches_per_slice", 40, "Random patches cut from each slice, where no total is given.", 1, flag_values=of
        )
        flags.DEFINE_integer(
            "train_patches", 0, "Training patches in all, shared out evenly; 0: --patches_per_slice.", 0, flag_values=of
        )
        flags.DEFINE_integer(
            "validation_patches", 0, "Validation patches for each source kernel; 0: --patches_per_slice.", 0, flag_values=of
        )
        flags.DEFINE_integer(
            "test_patches", 0, "Test patches for each source kernel; 0: --patches_per_slice.", 0, flag_values=of
        )
        flags.DEFINE_integer(
            "margin", 16, "Pixels around training patches, within which augmentation shifts them.", 0, flag_values=of
        )
        flags.DEFINE_enum(
            "front_end",
            "none",
            ["none", "amplitude", "wiener"],
            "Radial filter to fit and apply to source slices.",
            flag_values=of,
        )
        flags.DEFINE_bool(
            "resized",
            False,
            "Sides of 100..256 pixels resized to 256 (the paper) instead of 256 at native scale.",
            flag_values=of,
        )
        flags.DEFINE_integer("seed", 0, "Chooses patches and patients.", flag_values=of)
    return made


def run(command: Command) -> int:
    """Cuts patches, and returns the exit code."""
    from stan_ct.patches.plan import PatchSettings
    from stan_ct.patches.records import make_patches

    values = {name: command[name] for name in PatchSettings.__dataclass_fields__}
    values["thicknesses"] = _millimetres(values["thicknesses"])
    try:
        settings = PatchSettings(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})
        index = make_patches(settings, command["workers"] or usable_cores())
    except (StanCTError, OSError) as error:
        return fail("make-patches", error)
    except BrokenProcessPool:
        return fail(
            "make-patches", "a worker was killed, for lack of memory perhaps: try fewer --workers; the same command goes on"
        )
    except KeyboardInterrupt:
        print("make-patches: stopped; run the same command to complete the records", file=sys.stderr)
        return 130
    print(_summary(settings.output_dir, index))
    return 0


def _millimetres(texts: list[str]) -> list[float]:
    try:
        return [float(text) for text in texts]
    except ValueError:
        raise UsageError(f"--thicknesses expects millimetres with commas, such as 1,3, not {','.join(texts)!r}") from None


def _summary(folder: str, index: dict) -> str:
    """What was made, by part and protocol."""
    lines = [f"{folder}: " + ", ".join(f"{count} {part} patches" for part, count in index["patches"].items())]
    for part, protocols in index["protocols"].items():
        for name, counts in protocols.items():
            numbers = f"{counts['pairs']:4} pairs of series {counts['slices']:6} slices {counts['patches']:7} patches"
            lines.append(f"  {part:10} {name:30} {numbers}")
        if index["patches"][part] < index["asked"][part]:
            missing = index["asked"][part] - index["patches"][part]
            lines.append(f"  {part:10} {missing} patches fewer than asked for: slices without enough soft tissue")
    return "\n".join(lines)
