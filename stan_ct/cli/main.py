"""The entry point: `stan-ct COMMAND ...`, `stan-ct --help`, `stan-ct --version`."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from stan_ct.cli.cluster_flags import define_cluster_flags, scheduler_of
from stan_ct.cli.command import Command, fail
from stan_ct.cli.streams import prepare_streams, release_streams
from stan_ct.errors import StanCTError

COMMANDS = {
    "reconstruct": "standardize CT series: a DICOM tree in, the same series in the standard protocol out",
    "merge": "bring the shards of a run together: one manifest, one report",
    "evaluate": "report on standardized CT: errors of texture features, concordance, HU, regions",
    "sites": "how far scans of several sites differ, before and after: one page, with verdicts",
    "models": "list the models that ship",
    "train": "train a model on patch records",
    "make-patches": "cut patch records out of paired series",
    "simulate": "simulate paired CT, or re-filter real series to other kernels",
    "fit-kernel": "fit a site's own kernel to a pair of series",
    "adapt": "make a model of your own scans of two sites, without pairs",
    "export": "write a model's networks for other engines than TensorFlow",
    "fit-judge": "fit the judge of check 2 to a model that has none",
    "node": "a PACS node: series in by C-STORE, standardized, back by C-STORE or STOW-RS",
    "presets": "list the presets that ship",
}
"""Name -> what it does, the commonest first."""

ON_CLUSTERS = {"reconstruct", "adapt", "make-patches", "simulate", "evaluate", "sites"}
"""Commands whose workers may be those of a Dask cluster."""

STOPPED, TERMINATED = 130, 143
"""Exit codes after Ctrl-C and SIGTERM."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: Arguments without the program's name; None for those of the process.
    Returns:
        Exit code.
    """
    # Read by NumPy when it is imported. Small matrices are multiplied in threads on all cores: more threads would only wait.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    prepare_streams()
    try:
        return _main(list(sys.argv[1:] if arguments is None else arguments))
    except KeyboardInterrupt:
        return STOPPED
    finally:
        release_streams()


def _main(arguments: list[str]) -> int:
    name, *rest = arguments or ["--help"]
    if name in ("-h", "--help", "help"):
        print(_help())
        return 0
    if name in ("-V", "--version", "version"):
        from stan_ct.cli.version import version_text

        print(version_text())
        return 0
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        return fail("stan-ct", f"there is no command {name!r}{f'; did you mean {near[0]}?' if near else ''} (stan-ct --help)")
    module = import_module(f"stan_ct.cli.{name.replace('-', '_')}")
    command: Command = module.command()
    if name in ON_CLUSTERS:
        define_cluster_flags(command)
    if any(argument in ("-h", "--help", "-help", "--helpfull") for argument in rest):
        print(command.usage())
        return 0
    try:
        command.parse(rest)
        if name not in ON_CLUSTERS:
            return module.run(command)
        from stan_ct.parallel import on_cluster

        with on_cluster(scheduler_of(command)):
            return module.run(command)
    except StanCTError as error:
        return fail(name, error)


def _help() -> str:
    lines = [
        "stan-ct: makes CT images of different reconstruction kernels comparable. Research use only, not for diagnosis.",
        "",
    ]
    lines += ["stan-ct COMMAND [--flag=value ...]", ""]
    lines += [f"  {name:14} {text}" for name, text in COMMANDS.items()]
    lines += ["", "stan-ct COMMAND --help lists the flags of a command; stan-ct --version is what a bug report needs."]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
