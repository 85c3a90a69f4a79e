"""Nodes as processes of their own, which can be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pacs.ports import free_port
from stan_ct.node.jobs import Job, Result
from stan_ct.node.log import close_log, open_log
from stan_ct.node.run import Node
from stan_ct.node.settings import NodeSettings, check_settings
from stan_ct.node.standardizer import prepare, standardize
from stan_ct.node.worker import Worker

ROOT = Path(__file__).resolve().parents[2]


class Watched:
    """What can be seen of a node on loopback.

    Args:
        spool: Its spool.
        port: Port of DICOM.
        http: Port of its status.
    """

    def __init__(self, spool: Path, port: int, http: int) -> None:
        self.spool, self.port, self.http = spool, port, http

    def get(self, path: str) -> tuple[int, str]:
        """HTTP status and text of a page."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}", timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def number(self, metric: str) -> float:
        """Value of a metric, named with its labels; 0 where there is none."""
        lines = self.get("/metrics")[1].splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.rpartition(" ")[0] == metric), 0.0)

    def states(self) -> dict[str, int]:
        """State -> number of series."""
        names = ("receiving", "standardizing", "standardized", "left_alone", "refused", "failed")
        return {name: int(self.number(f'stan_ct_node_series{{state="{name}"}}')) for name in names}

    def log(self) -> str:
        """The log."""
        return (self.spool / "node.log").read_text()

    @staticmethod
    def until(condition: Callable[[], bool], seconds: float) -> bool:
        """Whether a condition comes true in time."""
        last = time.monotonic() + seconds
        while time.monotonic() < last:
            if condition():
                return True
            time.sleep(0.05)
        return bool(condition())


class NodeProcess(Watched):
    """A node that is a process of its own.

    Args:
        spool: Its spool.
        model: Model folder.
        flags: Further flags, which may repeat those that are set here.
    """

    def __init__(self, spool: Path, model: Path, *flags: str) -> None:
        super().__init__(spool, free_port(), free_port())
        self.command = [sys.executable, "-m", "stan_ct", "node", str(spool), "--calling=SCANNER", f"--model={model}"]
        self.command += [f"--port={self.port}", f"--http_port={self.http}", "--quiet_time=0.5", "--min_free_gb=0.05", *flags]
        self._process: subprocess.Popen | None = None

    def start(self, wait: bool = True) -> None:
        """Starts it; waits until it listens."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "SOURCE_DATE_EPOCH": "1700000000"}
        self._process = subprocess.Popen(
            self.command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
        )
        if wait and not self.until(self._answers, 60):
            code, said = self.end(signal.SIGKILL)
            raise RuntimeError(f"the node does not start ({code}): {said}")

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Sends a signal; exit code and what was said on standard error."""
        if self._process is None:
            raise RuntimeError("the node was not started")
        self._process.send_signal(number)
        said = self._process.communicate(timeout=60)[1]
        code, self._process = self._process.returncode, None
        return code, said

    @property
    def pid(self) -> int:
        """Process."""
        return self._process.pid if self._process else 0

    def _answers(self) -> bool:
        try:
            return self.get("/health")[0] in (200, 503)
        except OSError:
            return self._process is not None and self._process.poll() is not None and self._failed()

    def _failed(self) -> bool:
        code, said = self.end(0)
        raise RuntimeError(f"the node ended with {code}: {said}")


class LocalNode(Watched):
    """A node in this process, which standardizes here too: quick to start.

    Args:
        spool: Its spool.
        model: Model folder.
        changed: Settings that differ from those of :class:`NodeProcess`.
    """

    def __init__(self, spool: Path, model: Path, **changed: Any) -> None:
        settings = {"calling": ("SCANNER",), "port": 0, "http_port": 0, "quiet_time": 0.5, "min_free_gb": 0.05, **changed}
        self.settings = NodeSettings(str(spool), model=(str(model),), **settings)
        check_settings(self.settings)
        spool.mkdir(parents=True, exist_ok=True)
        open_log(spool)
        self.node = Node(self.settings, _Here(self.settings))
        super().__init__(spool, self.node.receiver.port, self.node.status.port if self.node.status else 0)
        self.node.start()

    def end(self) -> None:
        """Stops it."""
        self.node.stop()
        close_log()


class _Here(Worker):
    """Standardizes in this process."""

    def start(self) -> None:
        self._models = prepare(self._settings)

    def standardize(self, job: Job) -> Result:
        return standardize(job, self._models, self._settings.allow_out_of_protocol)
