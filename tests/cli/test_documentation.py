"""The commands in the documentation can be typed as they are printed."""

from __future__ import annotations

import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest

from stan_ct.cli.main import COMMANDS
from stan_ct.cli.preset_files import preset_names, summary

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "data" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SCRIPT = re.compile(r"^python (?:data/)?(\w+)\.py\b")


def commands() -> list[tuple[str, str]]:
    """Page and text of each command in a code block, and of each such line in a preset's comment."""
    found = []
    for page in PAGES:
        for block in re.findall(r"^```\w*\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
            found += [(page.name, line) for line in block.replace("\\\n", " ").splitlines()]
    for name in preset_names():
        text = (ROOT / "stan_ct" / "cli" / "presets" / f"{name}.flags").read_text(encoding="utf-8")
        found += [(name, line.lstrip("# ")) for line in text.splitlines() if line.startswith("#")]
    return [(page, SCRIPT.sub(lambda m: f"stan-ct {m[1].replace('_', '-')}", line.strip())) for page, line in found]


TYPED = [(page, line) for page, line in commands() if line.startswith("stan-ct ") and line.split()[1] in COMMANDS]


def test_commands_are_found():
    """README shows each step from patches to a report."""
    shown = {line.split()[1] for page, line in TYPED if page == "README.md"}
    assert shown >= {"make-patches", "train", "reconstruct", "evaluate", "simulate"}


@pytest.mark.parametrize(("page", "line"), TYPED)
def test_command_parses(page, line):
    """Each command has flags that exist, with values in their range."""
    _, name, *arguments = shlex.split(line, comments=True)
    import_module(f"stan_ct.cli.{name.replace('-', '_')}").command().parse(arguments)


@pytest.mark.parametrize("name", preset_names())
def test_presets_are_described(name):
    """`stan-ct presets` has a line for each preset, short enough for a terminal."""
    assert 10 <= len(summary(name)) <= 100
