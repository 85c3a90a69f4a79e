"""Brings the shards of a run together: writes manifest.json, series.csv, failures.csv and report.html of all series.

OUTPUT_DIR is that of stan-ct reconstruct --shard=1/N ... --shard=N/N, which may run side by side, as jobs of a SLURM array do.
Nothing is standardized. Exit codes are those of reconstruct; 2 says too that some series are not yet done.
"""

from __future__ import annotations

from pathlib import Path

from absl import flags

from stan_ct.cli.command import Command


def command() -> Command:
    """The command and its flags."""
    made = Command("merge", __doc__ or "", ("output_dir",))
    with made.group("What and where") as of:
        flags.DEFINE_string("output_dir", None, "Output directory of the shards.", required=True, flag_values=of)
    return made


def run(command: Command) -> int:
    """Writes the accounts, and returns the exit code."""
    from stan_ct.reconstruction.run import merge

    return merge(Path(command["output_dir"]))
