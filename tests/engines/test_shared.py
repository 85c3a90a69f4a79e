"""Engines that several threads call at a time."""

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from stan_ct.engines import onnxruntime
from stan_ct.models.checksums import GRAPH, SHIPPED

TOGETHER = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
import numpy as np
from stan_ct.engines.engine import load_exported
sys.setswitchinterval(1e-9)  # threads take turns wherever they may
engine, start = load_exported(sys.argv[1], Path(sys.argv[2]), shared=True), Barrier(8)
def call(number):
    start.wait()
    return engine(np.full((1, 256, 256, 1), number / 8, np.float32))[0].mean()
print(*ThreadPoolExecutor(8).map(call, range(8)))
"""


class Session:
    """Counts how many threads are served at a time."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self._lock = threading.Lock()

    def run(self, names, inputs):
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.02)
        with self._lock:
            self.now -= 1
        return [inputs["gray"]]


@pytest.mark.parametrize(("cores", "served"), [(1, 1), (2, 1), (4, 2)])
def test_onnxruntime_serves_half_as_many_threads_as_there_are_cores(monkeypatch, cores, served):
    monkeypatch.setattr(onnxruntime, "usable_cores", lambda: cores)
    engine = onnxruntime.OnnxRuntimeNetworks(SHIPPED / "default" / GRAPH, shared=True)
    engine._session = session = Session()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(engine, [np.zeros((1, 256, 256, 1), np.float32)] * 16))
    assert session.most == served


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_threads_that_are_first_to_call_do_not_wait_for_each_other(name):
    """In OpenVINO they did, for ever."""
    command = [sys.executable, "-c", TOGETHER, name, str(SHIPPED / "default" / GRAPH)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    means = [float(value) for value in done.stdout.split()]
    assert means == sorted(means)
    assert len(set(means)) == 8
