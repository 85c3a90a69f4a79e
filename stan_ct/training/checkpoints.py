"""Checkpoints for exact resume: networks, optimizers, states kept for a rollback, and counters."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import keras
import numpy as np

from stan_ct.arrays import DamagedArrays, read_arrays
from stan_ct.errors import UsageError
from stan_ct.files import replace_folder
from stan_ct.training.competition import Competition

State = list[np.ndarray]

COUNTERS = "counters.json"


def variables_of(network: keras.Model, optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
    """Weights and optimizer slots of one copy, which train, and roll back, together."""
    return [*network.weights, *optimizer.variables]


def take(variables: Iterable[keras.Variable]) -> State:
    """Copies of the values of variables."""
    return [np.array(variable.numpy()) for variable in variables]  # a copy; np.array(variable) warns on replicas


def put(variables: Iterable[keras.Variable], state: State) -> None:
    """Assigns a state to the variables it was taken from.

    Raises:
        UsageError: If it was taken from other networks.
    """
    variables = list(variables)
    if len(variables) != len(state) or any(v.shape != s.shape for v, s in zip(variables, state, strict=True)):
        raise UsageError(f"a state of {len(state)} arrays does not fit {len(variables)} variables: it is of other networks")
    for variable, value in zip(variables, state, strict=True):
        variable.assign(value)


class Players:
    """The copies of a competition, by side and number."""

    def __init__(self, model: Competition) -> None:
        self._sides = {
            "d": list(zip(model.discriminators, model.d_optimizers, strict=True)),
            "g": list(zip(model.generators, model.g_optimizers, strict=True)),
        }

    def variables(self, side: str, copy: int) -> list[keras.Variable]:
        """Weights and optimizer slots of one copy."""
        return variables_of(*self._sides[side][copy])

    def all(self) -> dict[str, list[keras.Variable]]:
        """Variables of every copy, by name: `d0`, `g1`."""
        return {f"{side}{copy}": self.variables(side, copy) for side in "dg" for copy in range(len(self._sides[side]))}


def save(folder: Path, players: Players, snapshots: dict[str, State], counters: dict) -> None:
    """Writes a checkpoint; `folder` is replaced when it is complete.

    Args:
        folder: Destination.
        players: Copies of the competition.
        snapshots: States kept for a rollback, by name.
        counters: Position in the stream, state of the referee and so on; JSON-able.
    Raises:
        UsageError: If a weight or an optimizer slot is not finite; the last checkpoint stays.
    """
    taken = {name: take(variables) for name, variables in players.all().items()}
    broken = [name for name, state in taken.items() if not all(np.isfinite(values).all() for values in state)]
    if broken:
        raise UsageError(f"weights of {', '.join(broken)} are not finite: the last checkpoint is left as it was")
    states = {f"player-{name}": state for name, state in taken.items()}
    states |= {f"snapshot-{name}": state for name, state in snapshots.items()}
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, state in states.items():
        np.savez(partial / f"{name}.npz", *state)
    (partial / COUNTERS).write_text(json.dumps(counters))
    replace_folder(partial, folder, _old(folder))


def read_counters(folder: Path) -> dict | None:
    """Counters of a checkpoint; None if there is none.

    Raises:
        UsageError: If it is damaged.
    """
    complete = _complete(folder)
    if complete is None:
        return None
    try:
        counters = json.loads((complete / COUNTERS).read_text(encoding="utf-8"))
        if not isinstance(counters, dict):
            raise TypeError("it is no object")
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise _damaged(complete / COUNTERS, error) from error
    return counters


def restore(folder: Path, players: Players) -> dict[str, State]:
    """Restores the copies from a checkpoint.

    Returns:
        States kept for a rollback, by name.
    Raises:
        FileNotFoundError: If there is no checkpoint, or it lacks a copy.
        UsageError: If it is one of other networks, or damaged.
    """
    complete = _complete(folder) or folder
    for name, variables in players.all().items():
        put(variables, _read(complete / f"player-{name}.npz"))
    return {path.stem.removeprefix("snapshot-"): _read(path) for path in sorted(complete.glob("snapshot-*.npz"))}


def _complete(folder: Path) -> Path | None:
    """Folder of the last complete checkpoint, also after a kill between two renames; None without any."""
    return next((place for place in (folder, _old(folder)) if place.exists()), None)


def _old(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.old")


def _read(path: Path) -> State:
    try:
        arrays = read_arrays(path)
        return [arrays[f"arr_{i}"] for i in range(len(arrays))]
    except (DamagedArrays, KeyError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> UsageError:
    return UsageError(
        f"the checkpoint file {path} is damaged ({error}): choose another --output_dir, or remove {path.parent} to start anew"
    )
