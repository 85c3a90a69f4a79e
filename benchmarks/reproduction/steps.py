"""Steps of the experiment: each is done once, and how long the others will take is told."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from stan_ct.cli.preset_files import expand

ROOT = Path(__file__).resolve().parents[2]


class Steps:
    """Runs commands of `stan-ct`, each once: what the same command has made of the same inputs is kept.

    Args:
        folder: Where everything goes.
        plan: Name of every step to come -> its kind, such as `train unet`: steps of one kind take about the same time.
    """

    def __init__(self, folder: Path, plan: Mapping[str, str] | None = None) -> None:
        self.folder, self.plan = folder, dict(plan or {})
        self._called: set[str] = set()

    def __call__(self, name: str, command: str, *arguments: str, after: Sequence[str] = ()) -> Path:
        """Runs `stan-ct COMMAND ... --output_dir=OUT/NAME`; returns that folder.

        Args:
            name: Name of the step.
            command: Command of `stan-ct`.
            arguments: Its arguments.
            after: Names of the steps whose output it reads; if one of them is made anew, so is this.
        """
        output, note = self.folder / name, self._note(name)
        begun, told = note.with_suffix(".begun"), self._told(command, arguments, after)
        if not self.done(name, command, *arguments, after=after):
            full = [command, *arguments, f"--output_dir={output}"]
            print(f"\n== {name} ({self.left()})\nstan-ct {' '.join(full)}", flush=True)
            if begun.exists() and json.loads(begun.read_text()) != told:
                shutil.rmtree(output, ignore_errors=True)  # made by another command
            note.parent.mkdir(parents=True, exist_ok=True)
            note.unlink(missing_ok=True)
            begun.write_text(json.dumps(told))
            started = time.monotonic()
            code = subprocess.run([sys.executable, "-m", "stan_ct", *full], cwd=ROOT, check=False).returncode
            if code:
                sys.exit(code)
            made = {"made": uuid.uuid4().hex, "seconds": round(time.monotonic() - started), "kind": self.plan.get(name, name)}
            note.write_text(json.dumps(told | made))
        self._called.add(name)
        return output

    def done(self, name: str, command: str, *arguments: str, after: Sequence[str] = ()) -> bool:
        """Whether the same command, presets written out, has run on the same inputs to its end, and its output is there."""
        note, told = self._read(name), self._told(command, arguments, after)
        return {key: note.get(key) for key in told} == told and (self.folder / name).exists()

    def left(self) -> str:
        """How many planned steps are to come, and about how long they take, in words."""
        waiting = [kind for name, kind in self.plan.items() if name not in self._called and not self._read(name)]
        seconds = self._seconds()
        known = [seconds[kind] if kind in seconds else seconds.get(kind.split()[0]) for kind in waiting]
        total, unknown = sum(filter(None, known)), known.count(None)
        told = f"{len(waiting)} steps to go" + (f", {_words(total)}" if total else "")
        return told + (f" and {unknown} of unknown length" if total and unknown else "")

    def _seconds(self) -> dict[str, float]:
        """Kind of step, and first word of it -> mean seconds of those that are done."""
        found: dict[str, list[float]] = {}
        for path in sorted((self.folder / "done").glob("*.json")):
            note = json.loads(path.read_text())
            for kind in {note["kind"], note["kind"].split()[0]}:
                found.setdefault(kind, []).append(note["seconds"])
        return {kind: mean(values) for kind, values in found.items()}

    def _told(self, command: str, arguments: Sequence[str], after: Sequence[str]) -> dict[str, Any]:
        """What makes a step: its command, wherever the folder lies, and the inputs it reads."""
        inputs = {name: self._read(name).get("made", "") for name in after}
        written_out = [each.replace(str(self.folder), "OUT") for each in expand(arguments)]
        return {"command": [command, *written_out], "inputs": inputs}

    def _read(self, name: str) -> dict[str, Any]:
        note = self._note(name)
        return json.loads(note.read_text()) if note.exists() else {}

    def _note(self, name: str) -> Path:
        return self.folder / "done" / f"{name.replace('/', '-')}.json"


def _words(seconds: float) -> str:
    """A time in words.

    Example:
        >>> _words(40), _words(4000)
        ('about 1 min', 'about 1 h 07 min')
    """
    minutes = max(1, round(seconds / 60))
    return f"about {minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"about {minutes} min"
