"""Comparison of a run with the checkpoint that it goes on from: settings, records, and the model that it started from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from stan_ct.errors import UsageError
from stan_ct.models.folder import InvalidModel, ModelNotFound, check_model, find_model, model_hash, read_config
from stan_ct.patches.record_index import training_identity
from stan_ct.training.settings import TrainSettings

RECORDS = "records: "
"""Begins the names of what is compared of the records."""

COUNTED = {"step", "position", "seconds", "referee", "rows", "settings", "best", "best_version", "qc_threshold"}
"""What every checkpoint counts."""


def run_identity(settings: TrainSettings) -> dict[str, str]:
    """Settings and records that a resumed run must share with the run it goes on with, by name."""
    flags = {name: repr(value) for name, value in settings.fixed().items()}
    if settings.init_model:
        flags["init_model"] = model_hash(find_model(settings.init_model))
    return flags | {f"{RECORDS}{name}": value for name, value in training_identity(settings.records_dir).items()}


def check_counters(folder: Path, counters: Mapping[str, Any]) -> None:
    """Checks that a checkpoint counts all that a run goes on from.

    Raises:
        UsageError: If it does not.
    """
    if missing := sorted(COUNTED - counters.keys()):
        raise UsageError(
            f"{folder} holds a checkpoint of another version, or a damaged one, which lacks {', '.join(missing)}: choose "
            "another --output_dir"
        )


def lost_model(folder: Path) -> str:
    """What is wrong with the model in the folder of a run, of which a kill may have left a part; empty if it is whole."""
    try:
        check_model(folder)
    except (InvalidModel, ModelNotFound) as error:
        return str(error)
    return ""


def check_own_model(folder: Path, settings: TrainSettings, training: Mapping[str, Any]) -> None:
    """Refuses a folder with a model of another run, which this run would replace; a damaged model may be replaced.

    Args:
        folder: The model folder, without a checkpoint.
        settings: Settings of the run.
        training: What its model records, see :attr:`ModelConfig.training`.
    Raises:
        UsageError: If the folder holds a model that other settings, or other records, have made.
    """
    try:
        config = read_config(folder)
    except (InvalidModel, ModelNotFound):
        return
    compared = settings.fixed().keys() - {"init_model"}  # which may have been moved
    if _made_with(config.training, compared) != _made_with(training, compared):
        raise UsageError(
            f"{folder} holds the model {config.name!r}, which other settings or records have made, and this run would replace "
            "it: choose another --output_dir, or remove it"
        )


def _made_with(training: Mapping[str, Any], compared: Iterable[str]) -> dict[str, Any]:
    """Settings and data of a model, as JSON has them."""
    values = json.loads(json.dumps({"settings": training.get("settings") or {}, "data": training.get("data")}))
    return values | {"settings": {name: values["settings"].get(name) for name in compared}}


def check_same_run(folder: Path, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Compares a run with the one whose checkpoint lies in its folder.

    Args:
        folder: The model folder.
        before: :func:`run_identity` of the run that left the checkpoint.
        now: That of the run that is to go on.
    Raises:
        UsageError: If they differ, with the names of what differs.
    """
    names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    records = [name.removeprefix(RECORDS) for name in names if name.startswith(RECORDS)]
    flags = [name for name in names if not name.startswith(RECORDS)]
    if flags:
        raise UsageError(
            f"{folder} holds a run of other flags: repeat its flags, or choose another --output_dir (they differ in: "
            f"{', '.join(flags)})"
        )
    if records:
        raise UsageError(
            f"{folder} holds a run on other records: patients that it validated on may now train. Give the --records_dir "
            f"that it was trained on, or choose another --output_dir (they differ in: {', '.join(records)})"
        )
