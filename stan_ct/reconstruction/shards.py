"""Shards of a run, which jobs of a cluster standardize side by side, brought together: one manifest, one report."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from stan_ct.dicom.find import find_series
from stan_ct.dicom.identity import creation_time
from stan_ct.errors import UsageError
from stan_ct.files import write_together
from stan_ct.reconstruction.accounts import Accounts
from stan_ct.reconstruction.choosing import Choice
from stan_ct.reconstruction.cohort import Outcome
from stan_ct.reconstruction.journal import Journal
from stan_ct.reconstruction.lock import STATE, OutputError, locked
from stan_ct.reconstruction.one_series import noted_record
from stan_ct.reconstruction.preparation import ReconstructSettings, prepare_run
from stan_ct.reconstruction.rerun import INDEX, recover

REQUEST = "request.json"
"""Name of the file with what the shards were asked for, in the folder of the state."""


def save_request(settings: ReconstructSettings) -> None:
    """Keeps what a shard was asked for, so that the shards can be brought together.

    Raises:
        OutputError: If other shards of the directory were asked for something else.
        OSError: If it cannot be written.
    """
    folder, asked = settings.output_dir / STATE, _of_all_shards(settings)
    try:
        former = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        former = asked
    if former != asked and not settings.overwrite:
        differing = ", ".join(sorted(name for name in asked if former.get(name) != asked[name]))
        raise OutputError(
            f"other shards in {settings.output_dir} were asked for something else ({differing}): give all shards the same "
            "flags, choose another --output_dir, or --overwrite"
        )
    write_together(folder, {REQUEST: json.dumps(asked, indent=1) + "\n"})


def _of_all_shards(settings: ReconstructSettings) -> dict[str, Any]:
    plain = asdict(settings) | {"input_dir": str(settings.input_dir.resolve()), "output_dir": ""}
    plain |= {"models": [str(model) for model in settings.models]}
    own = ("shard", "workers", "command", "overwrite", "dry_run", "archive")
    return json.loads(json.dumps({name: value for name, value in plain.items() if name not in own}))


def read_request(output_dir: Path) -> ReconstructSettings:
    """What the shards in a directory were asked for.

    Raises:
        UsageError: If there are none.
    """
    try:
        values = json.loads((output_dir / STATE / REQUEST).read_text(encoding="utf-8"))
        paths = {"input_dir": Path(values["input_dir"]), "output_dir": output_dir}
        return ReconstructSettings(**(values | paths | {"choice": Choice(**values["choice"])}))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UsageError(
            f"{output_dir} holds no shards: expected the --output_dir of stan-ct reconstruct --shard=1/N ... N/N"
        ) from error


def merge_shards(settings: ReconstructSettings, progress: Callable = lambda paths: paths) -> tuple[Outcome, int]:
    """Accounts for all series of a run in shards: manifest, tables and report. Nothing is standardized.

    Args:
        settings: From :func:`read_request`.
        progress: Wrapper of the iteration over the files of the input.
    Returns:
        What became of the series, without those that no shard has come to, which the accounts call not yet done; and the number
        of all.
    Raises:
        OutputError: If a shard, or another run, is still at work.
        UsageError: If the input is gone.
        OSError: If the accounts cannot be written.
    """
    if not settings.input_dir.exists():
        raise UsageError(f"{settings.input_dir}, of which the shards were made, does not exist")
    output_dir = settings.output_dir
    run = prepare_run(replace(settings, command=f"stan-ct merge {output_dir}"), 1)
    with locked(output_dir):
        recover(output_dir)
        inventory = find_series(settings.input_dir, exclude=[output_dir], progress=progress, index=output_dir / INDEX)
        series, created, show = settings.choice.of(inventory.series), creation_time(), run.show_identifiers
        chosen = replace(inventory, series=series)
        accounts = Accounts(run.input_dir, output_dir, chosen, run.models, run.command, created, show)
        for files in series:
            if (record := noted_record(files, run)) is not None:
                accounts.add(record)
        accounts.write()
        outcome = Outcome(accounts.records, inventory.refusals)
        Journal(output_dir).note("merged", series=len(series), accounted=len(outcome.records))
    return outcome, len(series)
