"""Flags of commands whose workers may be those of a Dask cluster."""

from __future__ import annotations

from absl import flags

from stan_ct.cli.command import Command
from stan_ct.errors import UsageError


def define_cluster_flags(command: Command) -> None:
    """Adds the flags to a command."""
    with command.group("Cluster (pip install 'stan-ct[cluster]')") as of:
        flags.DEFINE_string(
            "scheduler",
            None,
            "Address of a Dask scheduler, such as tcp://10.0.0.1:8786, whose workers see the same files; or local: --workers "
            "processes of this machine.",
            flag_values=of,
        )
        flags.DEFINE_bool(
            "slurm",
            None,
            "Start --workers as jobs of SLURM, with the resources of Dask's configuration (jobqueue.yaml).",
            flag_values=of,
        )


def scheduler_of(command: Command) -> str:
    """The cluster that is asked for, see :func:`stan_ct.parallel.on_cluster`.

    Raises:
        UsageError: If two are.
    """
    if command["slurm"] and command["scheduler"]:
        raise UsageError("--slurm and --scheduler are two clusters: choose one")
    return "slurm" if command["slurm"] else command["scheduler"] or ""
