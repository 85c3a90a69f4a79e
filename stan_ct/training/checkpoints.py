"""Everything a run needs to go on as if it had not stopped: networks, optimizers, the phase's start, counters."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import keras
import numpy as np

from stan_ct.files import replace_folder
from stan_ct.training.competition import Competition

State = list[np.ndarray]


def variables_of(network: keras.Model, optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
    """Weights and optimizer slots of one copy: what trains, and what goes back in a rollback."""
    return [*network.weights, *optimizer.variables]


def take(variables: Iterable[keras.Variable]) -> State:
    """Values of variables."""
    return [np.array(variable.numpy()) for variable in variables]  # a copy; np.array(variable) warns on replicas


def put(variables: Iterable[keras.Variable], state: State) -> None:
    """Gives variables their values back.

    Raises:
        ValueError: If the state is one of other networks.
    """
    variables = list(variables)
    if len(variables) != len(state) or any(v.shape != s.shape for v, s in zip(variables, state, strict=True)):
        raise ValueError(f"a state of {len(state)} arrays does not fit {len(variables)} variables: it is of other networks")
    for variable, value in zip(variables, state, strict=True):
        variable.assign(value)


class Players:
    """The copies of both sides, by phase and number."""

    def __init__(self, model: Competition) -> None:
        self._sides = {
            "d": list(zip(model.discriminators, model.d_optimizers, strict=True)),
            "g": list(zip(model.generators, model.g_optimizers, strict=True)),
        }

    def variables(self, side: str, copy: int) -> list[keras.Variable]:
        """Of one copy."""
        return variables_of(*self._sides[side][copy])

    def all(self) -> dict[str, list[keras.Variable]]:
        """Name -> variables of every copy."""
        return {f"{side}{copy}": self.variables(side, copy) for side in "dg" for copy in range(len(self._sides[side]))}


def save(folder: Path, players: Players, snapshots: dict[str, State], counters: dict) -> None:
    """Writes a checkpoint; `folder` is replaced when it is complete.

    Args:
        folder: Of this checkpoint.
        players: The copies.
        snapshots: Name -> state kept for a rollback.
        counters: JSON-able: position in the stream, the referee's state, and the like.
    Raises:
        ValueError: If a weight or an optimizer slot is not finite; the last checkpoint stays.
    """
    taken = {name: take(variables) for name, variables in players.all().items()}
    broken = [name for name, state in taken.items() if not all(np.isfinite(values).all() for values in state)]
    if broken:
        raise ValueError(f"weights of {', '.join(broken)} are not finite: the last checkpoint is left as it was")
    states = {f"player-{name}": state for name, state in taken.items()}
    states |= {f"snapshot-{name}": state for name, state in snapshots.items()}
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, state in states.items():
        np.savez(partial / f"{name}.npz", *state)
    (partial / "counters.json").write_text(json.dumps(counters))
    replace_folder(partial, folder, _old(folder))


def read_counters(folder: Path) -> dict | None:
    """Counters of a checkpoint; None if there is none."""
    complete = _complete(folder)
    return json.loads((complete / "counters.json").read_text()) if complete else None


def restore(folder: Path, players: Players) -> dict[str, State]:
    """Gives the copies what a checkpoint holds.

    Returns:
        Snapshots.
    Raises:
        FileNotFoundError: If there is none, or it lacks a copy.
        ValueError: If it is one of other networks.
    """
    complete = _complete(folder) or folder
    for name, variables in players.all().items():
        put(variables, _read(complete / f"player-{name}.npz"))
    return {path.stem.removeprefix("snapshot-"): _read(path) for path in sorted(complete.glob("snapshot-*.npz"))}


def _complete(folder: Path) -> Path | None:
    """Where the last complete checkpoint lies: a run may have been stopped between two renames."""
    return next((place for place in (folder, _old(folder)) if place.exists()), None)


def _old(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.old")


def _read(path: Path) -> State:
    with np.load(path) as stored:
        return [stored[f"arr_{i}"] for i in range(len(stored.files))]
