"""Lists the presets that ship with STAN-CT: flags that belong together, for --preset=NAME."""

from __future__ import annotations

from stan_ct.cli.command import Command
from stan_ct.cli.preset_files import preset_names, summary


def command() -> Command:
    """The command and its flags."""
    return Command("presets", __doc__ or "")


def run(command: Command) -> int:
    """Prints a line for each preset."""
    names = preset_names()
    width = max(map(len, names))
    for name in names:
        print(f"{name:{width}}  {summary(name)}")
    return 0
