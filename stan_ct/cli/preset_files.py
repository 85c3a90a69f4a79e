"""Presets: flag files that ship with STAN-CT, found by name from any folder; and flag files within flag files."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path

from stan_ct.errors import UsageError

FOLDER = Path(__file__).parent / "presets"
CHECKOUT = "data/flags/"
"""Where a checkout shows the presets: a flag file of there is found elsewhere too."""
DEEPEST = 10
"""Flag files within flag files are followed so far."""


def preset_names() -> list[str]:
    """Names of the presets that ship, such as "paper" and "reproduce/laptop_train"."""
    return sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.flags"))


def summary(name: str) -> str:
    """First sentence of the comment at the start of a preset."""
    lines = (FOLDER / f"{name}.flags").read_text(encoding="utf-8").splitlines()
    comment = " ".join(line.removeprefix("#").strip() for line in lines if line.startswith("#"))
    return comment.split(". ")[0].rstrip(".")


def expand(arguments: Sequence[str]) -> list[str]:
    """Arguments in which `--preset=NAME` and `--flagfile=PATH` are replaced by the flags of these files.

    Raises:
        UsageError: If there is no such preset or file, or files lead to each other without end.
    """
    return list(_expanded(list(arguments), 0))


def _expanded(arguments: list[str], depth: int) -> Iterator[str]:
    if depth > DEEPEST:
        raise UsageError(f"flag files lead to each other more than {DEEPEST} deep: one of them leads back to itself")
    while arguments:
        argument = arguments.pop(0)
        name, equals, value = argument.partition("=")
        kind = name.lstrip("-")
        if not name.startswith("-") or kind not in ("preset", "flagfile"):
            yield argument
            continue
        if not equals and not arguments:
            raise UsageError(f"--{kind} needs a {'name' if kind == 'preset' else 'file'}")
        value = value if equals else arguments.pop(0)
        yield from _expanded(_read(_preset(value) if kind == "preset" else _file(value)), depth + 1)


def _preset(name: str) -> Path:
    path = FOLDER / f"{name}.flags"
    if name not in preset_names():
        near = difflib.get_close_matches(name, preset_names(), 1)
        raise UsageError(
            f"there is no preset {name!r}; {f'did you mean {near[0]}? ' if near else ''}known: {', '.join(preset_names())}"
        )
    return path


def _file(path: str) -> Path:
    text = Path(path).as_posix()
    shipped = FOLDER / text[text.rfind(CHECKOUT) + len(CHECKOUT) :] if CHECKOUT in text else None
    if Path(path).is_file():
        return Path(path)
    if shipped is not None and shipped.is_file():
        return shipped
    raise UsageError(f"--flagfile: {path} is not a file; --preset=NAME finds the flags that ship with STAN-CT")


def _read(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--flagfile: {path} cannot be read: {error}") from error
    found = [line.strip() for line in lines if line.strip() and not line.strip().startswith(("#", "//"))]
    for line in found:
        if not line.startswith("-"):
            raise UsageError(f"--flagfile: {path} holds {line!r}: expected --name=value on each line, or a # comment")
    return found
