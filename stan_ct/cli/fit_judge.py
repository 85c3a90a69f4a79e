"""Fits the judge of check 2 to a model that has none, or one of an earlier version, with the validation patches of records.

stan-ct fit-judge MODEL RECORDS --output_dir=MODEL_WITH_JUDGE

The judge says of every synthesized patch whether it differs from its source as patches of the standard protocol do; stan-ct
train fits one at its end. Take the records that trained the model: their validation patches did not train it, and their
sources passed its filter.

Exit codes: 0 done, 1 bad usage, no such model or records.
"""

from __future__ import annotations

from pathlib import Path

from absl import flags

from stan_ct.cli.command import Command, fail
from stan_ct.errors import StanCTError


def command() -> Command:
    """The command and its flags."""
    made = Command("fit-judge", __doc__ or "", ("model", "records_dir"))
    with made.group("Flags") as of:
        flags.DEFINE_string("model", None, "Model folder, or name of a model that ships.", required=True, flag_values=of)
        flags.DEFINE_string("records_dir", None, "Folder of patch records.", required=True, flag_values=of)
        flags.DEFINE_string(
            "output_dir", None, "Folder of the model with its judge; by default the model's own.", flag_values=of
        )
        flags.DEFINE_integer(
            "validation_patches", 200, "Number of validation patches at most; 0 for all.", lower_bound=0, flag_values=of
        )
    return made


def run(command: Command) -> int:
    """Fits, writes and prints."""
    from stan_ct.models.checksums import SHIPPED
    from stan_ct.models.folder import find_model, read_config, write_judge
    from stan_ct.quiet import quiet_start

    try:
        folder = find_model(command["model"])
        output_dir = Path(command["output_dir"] or folder)
        if output_dir.resolve().parent == SHIPPED:
            return fail("fit-judge", f"{folder} ships with STAN-CT and stays as it is: give an --output_dir")
        config = read_config(folder)
        with quiet_start():
            from stan_ct.training.judging import fit_judge
        judge, passed = fit_judge(folder, config, command["records_dir"], command["validation_patches"])
        write_judge(folder, output_dir, config, judge)
    except (StanCTError, FileNotFoundError) as error:
        return fail("fit-judge", error)
    shares = " and ".join(f"{share:.1%} of the {name}" for name, share in passed.items())
    print(f"{output_dir}: judge fitted; of the validation patches it lets {shares} pass")
    return 0
