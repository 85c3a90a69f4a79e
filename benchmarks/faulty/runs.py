"""Runs of `stan-ct` that can be killed: each is a process of its own, forked so that it need not import everything anew."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import cv2

import stan_ct.reconstruction.run  # noqa: F401 # so that no run spends its time on imports
from stan_ct.baselines.loading import load_baseline  # noqa: F401
from stan_ct.cli.main import main
from stan_ct.ct.filters import FrontEnd, RadialFilter
from stan_ct.models.config import ModelConfig
from stan_ct.models.folder import save_model

EPOCH = "1700000000"
"""SOURCE_DATE_EPOCH of every run, so that equal runs write equal bytes."""
ROOT = Path(__file__).resolve().parents[2]
CRASHED = 70
"""Exit code of a run that ended with a traceback."""

cv2.setNumThreads(1)  # threads would not survive a fork


class Child:
    """A command in a process group of its own.

    Args:
        action: What the process does; it returns the exit code.
    """

    def __init__(self, action: Callable[[], int]) -> None:
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 # closed by `wait`
        sys.stdout.flush()
        self.pid = os.fork()
        if not self.pid:
            self._run(action)

    def _run(self, action: Callable[[], int]) -> None:
        code = CRASHED
        try:
            os.setsid()
            for descriptor in (1, 2):
                os.dup2(self._output.fileno(), descriptor)
            sys.stdout, sys.stderr = (os.fdopen(os.dup(n), "w") for n in (1, 2))
            code = action()
        except BaseException:
            traceback.print_exc()
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(code)

    def kill(self, number: int) -> None:
        """Sends a signal."""
        os.kill(self.pid, number)

    def has_ended(self) -> bool:
        """Whether the process has ended; its end is still to be waited for."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def wait(self, faults: list[str]) -> tuple[int, str]:
        """Waits for the end: exit code (minus the signal's number) and what was said; tracebacks and orphans are faults."""
        status = os.waitpid(self.pid, 0)[1]
        with self._output as output:
            output.seek(0)
            said = output.read().decode(errors="replace")
        if "Traceback" in said:
            faults.append(f"traceback: {said[-2000:]}")
        if left := processes_left(self.pid):
            faults.append(f"processes left: {left}")
        return os.waitstatus_to_exitcode(status), said


def reconstruct(source: Path, output: Path, *switches: str, anew: bool = False) -> Child:
    """Starts `stan-ct reconstruct`, forked, or, slowly, in an interpreter started anew."""
    model = source.parent / "model"
    if not model.exists():
        save_filter(model)
    arguments = ["reconstruct", str(source), str(output), f"--model={model}", "--precision=float32", *switches]
    os.environ["SOURCE_DATE_EPOCH"] = EPOCH
    if anew:
        os.environ["PYTHONPATH"] = str(ROOT)
        return Child(lambda: os.execv(sys.executable, [sys.executable, "-m", "stan_ct", *arguments]))
    return Child(lambda: main(arguments))


def save_filter(folder: Path) -> None:
    """Writes a model that is quick: a radial filter that doubles fine detail, without a guard."""
    doubled = RadialFilter(frequency=(0.0, 2.0, 5.0, 10.0), gain=(1.0, 1.2, 2.0, 1.0))
    save_model(folder, ModelConfig("filter", "kernel_filter", "B", "L", True, front_end=FrontEnd({"B": doubled})))


def timed(start: Callable[[], Child], faults: list[str]) -> tuple[float, int, str]:
    """Seconds, exit code and words of an undisturbed run."""
    began = time.monotonic()
    code, said = start().wait(faults)
    return time.monotonic() - began, code, said


def processes_left(group: int) -> list[str]:
    """Processes of a group that are still alive a moment later."""
    for _ in range(20):
        if not (found := processes_of(group)):
            return []
        time.sleep(0.1)
    for pid in found:
        os.kill(int(pid), signal.SIGKILL)
    return found


def processes_of(group: int) -> list[str]:
    """Processes of a group that are alive."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, own = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:  # it has ended meanwhile
            continue
        if int(own) == group and state != "Z":
            found.append(stat.parent.name)
    return found
