"""The flags that made a table, stored beside it, and whether they are still those of the repository."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from reproduction.data_sets import DataSet, data_sets
from reproduction.rows import ROWS, Row, effective_flags, flags_text, read_flags
from stan_ct import __version__
from stan_ct.cli.preset_files import expand

NOTE = "made_with.json"
OFF = ("0", "0.0", "1", "false", "none", "")
"""Values of a flag that did not exist when a table was made, and changes nothing: no weight, every step, no."""


def flag_files(scale: str, rows: Iterable[Row], data: Iterable[DataSet]) -> dict[str, str]:
    """File name -> text of the flags of every row and data set, and the note that says which scale and version they are of."""
    rows = list(rows)
    about = {"scale": scale, "version": __version__, "rows": {row.folder: row.name for row in rows}}
    files = {f"{row.folder}.flags": flags_text(effective_flags(row.flags(scale))) for row in rows}
    for each in data:
        files |= {f"{each.name}_{command}.flags": _lines(flags) for command, flags in _of_data(scale, each).items()}
    return files | {NOTE: json.dumps(about, indent=1) + "\n"}


def differences(folder: Path) -> dict[str, dict[str, tuple[str | None, str | None]]]:
    """What differs between the flags in a folder and those of the repository.

    Args:
        folder: Folder that holds what `flag_files` made.
    Returns:
        File name -> flag -> value that made the table and value now, None where there is none; empty if nothing differs.
    """
    note = json.loads((folder / NOTE).read_text())
    known, sets = {row.folder: row for row in ROWS.values()}, data_sets(note["scale"])
    found = {}
    for path in sorted(folder.glob("*.flags")):
        then = read_flags(path.read_text())
        name, _, command = path.stem.rpartition("_")
        if path.stem in known:
            now = effective_flags(known[path.stem].flags(note["scale"]))
        elif name in sets:
            now = read_flags(_lines(_of_data(note["scale"], sets[name])[command]))
        else:
            now = {}
        found[path.name] = _differing(then, now)
    return {name: values for name, values in found.items() if values}


def _of_data(scale: str, data: DataSet) -> dict[str, tuple[str, ...]]:
    """Kind of file -> flags that made the data set."""
    patients = {} if data.real else {"patients": (f"--preset=reproduce/{scale}_patients", *data.patients)}
    return {**patients, "patches": data.patches}


def _lines(flags: tuple[str, ...]) -> str:
    return "".join(f"{flag}\n" for flag in expand(flags))


def _differing(then: Mapping[str, str], now: Mapping[str, str]) -> dict[str, tuple[str | None, str | None]]:
    """What differs; a flag that did not exist then may be off now."""
    both = {name: (then.get(name), now.get(name)) for name in sorted({*then, *now})}
    return {name: (old, new) for name, (old, new) in both.items() if old != new and not (old is None and new in OFF)}
