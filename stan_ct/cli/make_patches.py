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
from stan_ct.cli.settings_flags import define_flags, settings_from_flags
from stan_ct.errors import StanCTError
from stan_ct.parallel import usable_cores

GROUPS = {
    "What and where": ("input_dir", "output_dir", "source_kernels", "target_kernel", "workers"),
    "Pairs": ("pairing", "pair_by", "target_thickness", "thicknesses", "source_where", "target_where"),
    "Training, validation, test": ("split", "validation_fraction", "test_fraction", "block"),
    "Patches": ("patches_per_slice", "train_patches", "validation_patches", "test_patches", "margin", "front_end", "seed"),
}
"""Title -> flags, the commonest first; the switch of the paper comes after them."""

SHOWN = 3
"""Number of refused files that the summary names."""


def command() -> Command:
    """The command and its flags."""
    from stan_ct.patches.plan import PatchSettings

    made = Command("make-patches", __doc__ or "", ("input_dir", "output_dir"))
    with made.group("The paper's switch") as of:
        define_flags(PatchSettings, of)
        flags.DEFINE_alias("source_kernel", "source_kernels", flag_values=of)
        flags.DEFINE_integer(
            "workers", 0, "Processes that read and cut; 0: one per core. The records do not depend on it.", 0, flag_values=of
        )
    made.arrange(GROUPS)
    return made


def run(command: Command) -> int:
    """Cuts patches, and returns the exit code."""
    from stan_ct.patches.plan import PatchSettings
    from stan_ct.patches.records import make_patches

    try:
        settings = settings_from_flags(PatchSettings, command.values)
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
    if refused := index["refused"]:
        more = f" and {len(refused) - SHOWN} more, see index.json" if len(refused) > SHOWN else ""
        lines.append(f"  refused    {len(refused)} files: {'; '.join(refused[:SHOWN])}{more}")
    return "\n".join(lines)
