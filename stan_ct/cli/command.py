"""A command of `stan-ct`: flags of its own, in groups, and the words that `--help` prints."""

from __future__ import annotations

import difflib
import shlex
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from absl import flags

from stan_ct.cli.preset_files import expand
from stan_ct.errors import UsageError

WIDTH, INDENT = 100, 6
"""Characters in a line of the help, and before the help of a flag."""
REPEAT = ";\n    repeat this option"
"""What absl adds to the help of a flag that may be repeated."""


class Command:
    """Flags of one command; those of other commands, and of other programs in the process, are not touched.

    Args:
        name: Name of the command, as in `stan-ct NAME`.
        description: What it does, the docstring of its module.
        positional: Flags that arguments without a name set, in this order; several values are joined by commas.

    Example:
        >>> command = Command("greet", "Says hello.", ("name",))
        >>> with command.group("Who") as values:
        ...     _ = flags.DEFINE_string("name", "you", "Name to greet.", flag_values=values)
        >>> command.parse(["Ann"])
        >>> command["name"]
        'Ann'
    """

    def __init__(self, name: str, description: str, positional: Sequence[str] = ()) -> None:
        self.name, self.description, self.positional = name, description, positional
        self.values = flags.FlagValues()
        self.arguments: list[str] = []
        self._groups: list[tuple[str, list[str]]] = []

    @contextmanager
    def group(self, title: str) -> Iterator[flags.FlagValues]:
        """Context in which flags are defined that the help lists under a title."""
        before = set(self.values)
        yield self.values
        self._groups.append((title, [name for name in self.values if name not in before]))

    def arrange(self, groups: Mapping[str, Sequence[str]]) -> None:
        """Moves flags from the groups they were defined in to groups of their own, which the help lists first."""
        moved = {name for names in groups.values() for name in names}
        rest = [(title, [name for name in names if name not in moved]) for title, names in self._groups]
        self._groups = [*((title, list(names)) for title, names in groups.items()), *rest]

    def __getitem__(self, flag: str) -> Any:
        """Value of a flag."""
        return self.values[flag].value

    def parse(self, arguments: Sequence[str]) -> None:
        """Sets the flags.

        Raises:
            UsageError: If a flag is unknown or missing, or its value is out of its range.
        """
        self.arguments = list(arguments)
        try:
            self.values([self.name, *self._named(expand(arguments))])
        except flags.UnrecognizedFlagError as error:
            near = difflib.get_close_matches(error.flagname.removeprefix("no"), list(self.values), 1)
            meant = f"; did you mean --{near[0]}?" if near else ""
            raise UsageError(f"unknown flag --{error.flagname}{meant} (stan-ct {self.name} --help lists them all)") from error
        except flags.Error as error:
            raise UsageError(f"{_plain(error)} (see stan-ct {self.name} --help)") from error

    def _named(self, arguments: Sequence[str]) -> list[str]:
        """The arguments, with those without a name turned into flags where they stand; after `--` none has a name."""
        named: list[str] = []
        rest, places = list(arguments), iter(self.positional)
        while rest:
            argument = rest.pop(0)
            if argument == "--":
                return [*named, *(self._positional(each, places) for each in rest)]
            if not argument.startswith("-") or argument == "-":
                named.append(self._positional(argument, places))
                continue
            named.append(argument)
            if rest and self._takes(argument, rest[0]):
                named.append(rest.pop(0))
        return named

    def _positional(self, argument: str, places: Iterator[str]) -> str:
        flag = next(places, None)
        if flag is None:
            usage = " ".join(flag.upper() for flag in self.positional)
            expected = f"at most {usage} without a name" if usage else "flags alone, as in --name=value"
            raise UsageError(f"unexpected argument {argument!r}: expected {expected}")
        return f"--{flag}={argument}"

    def _takes(self, argument: str, following: str) -> bool:
        """Whether a flag has the argument that follows as its value; an unknown flag does, and is named."""
        name = argument.lstrip("-")
        if "=" in name:
            return False
        if name not in self.values and name.removeprefix("no") not in self.values:
            return not following.startswith("-")
        return name in self.values and not self.values[name].boolean

    def present(self, flag: str) -> bool:
        """Whether a flag was given."""
        return bool(self.values[flag].present)

    def command_line(self) -> str:
        """The command as it was typed."""
        return shlex.join(["stan-ct", self.name, *self.arguments])

    def effective_flags(self, *excluded: str) -> str:
        """Every flag that has a value, one a line, as `--flagfile` reads them."""
        names = [name for _, names in self._groups for name in names if name not in excluded and not self._is_alias(name)]
        lines = [self.values[name].serialize() for name in names if self[name] is not None]
        return "".join(f"{line}\n" for line in lines if line)  # a repeated flag without values has no line

    def usage(self) -> str:
        """What `--help` prints."""
        where = " ".join(f"[{flag.upper()}]" for flag in self.positional)
        lines = [f"stan-ct {self.name} {where} [--flag=value ...]".replace("  ", " "), "", self.description.strip()]
        for title, names in self._groups:
            lines += ["", f"{title}:"]
            for name in names:
                if not self._is_alias(name):
                    lines += self._flag_help(name)
        lines += ["", "Any command:"]
        lines += _entry("--flagfile=FILE", "Flags from a file, one a line; flags after it override them.")
        lines += _entry("--preset=NAME", "Flags that ship with STAN-CT: stan-ct presets lists them.")
        return "\n".join(lines)

    def _is_alias(self, name: str) -> bool:
        return self.values[name].help.startswith("Alias for --")

    def _flag_help(self, name: str) -> list[str]:
        flag = self.values[name]
        choices = getattr(flag.parser, "enum_values", None)
        if flag.boolean:
            form = f"--[no]{name} (on by default)" if flag.default else f"--{name}"
        else:
            form = f"--{name}={'|'.join(choices) if choices else _kind(flag)}"
        shown = flag.default not in (None, [], "") and not flag.boolean
        default = f" Default: {_shown(flag.default)}." if shown else ""
        words = flag.help.partition(">: ")[2] if choices else flag.help  # absl puts the choices before them
        return _entry(form, f"{words.partition(REPEAT)[0]}{default}")


def fail(name: str, error: object) -> int:
    """Says on standard error what went wrong; returns the exit code of bad usage."""
    print(f"{name}: {_printable(error)}", file=sys.stderr)
    return 1


def warn(name: str, warning: str) -> None:
    """Says on standard error what must be known about a result."""
    print(f"{name}: warning: {_printable(warning)}", file=sys.stderr)


def _printable(text: object) -> str:
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in str(text))


def _entry(form: str, text: str) -> list[str]:
    blank = " " * INDENT
    return [f"  {form}", *textwrap.wrap(text, WIDTH, initial_indent=blank, subsequent_indent=blank)]


def _kind(flag: flags.Flag) -> str:
    kinds = {"int": "N", "float": "X", "string": "TEXT", "multi string": "TEXT", "comma separated list of strings": "A,B,..."}
    return kinds.get(flag.flag_type(), "VALUE")


def _shown(default: Any) -> str:
    if isinstance(default, list):
        return ",".join(map(str, default))
    return f"{default:g}" if isinstance(default, float) else str(default)


def _plain(error: flags.Error) -> str:
    """absl's words for a flag that is missing, in fewer."""
    text = str(error)
    if "must have a value other than None" in text:
        name = text.split("Flag --")[1].split(" ")[0]
        return f"--{name} is missing"
    return text.removeprefix("flag ").rstrip(".")
