"""train.py as processes: started, killed, stopped, on two replicas and on two workers."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import commands
import pytest
from runs import assert_same_run, counters, table

from stan_ct.models.folder import read_config
from stan_ct.training import checkpoints

ROOT = Path(__file__).parents[2]


def run(*flags, **variables):
    """Starts train.py, without a GPU, quietly."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "", **variables}
    return subprocess.Popen(
        [sys.executable, ROOT / "train.py", *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def test_script(records, tmp_path):
    """train.py ends with 0 and names the model; without records it ends with 1 and one line that says what to run."""
    good = run(f"--records_dir={records}", f"--output_dir={tmp_path / 'm'}", "--method=kernel_filter", "--name=curve")
    out, err = good.communicate(timeout=300)
    assert good.returncode == 0, err
    assert out == f"{tmp_path / 'm'}: model 'curve', SOFT -> SHARP\n"
    assert read_config(tmp_path / "m").training["settings"]["learning_rate"] == 3e-4
    assert "--method=kernel_filter\n" in (tmp_path / "m/train.flags").read_text()
    bad = commands.run("train", f"--records_dir={tmp_path / 'nowhere'}", f"--output_dir={tmp_path / 'n'}")
    assert bad.returncode == 1
    assert bad.stderr == (
        f"train: {tmp_path / 'nowhere/index.json'} does not exist: make patch records with stan-ct make-patches first\n"
    )
    assert (bad.stdout, (tmp_path / "n").exists()) == ("", False)


TINY = (
    *(
        "--base_filters=1",
        "--num_copies=2",
        "--batch_size=2",
        "--precision=float32",
        "--deterministic",
        "--averaging_batches=1",
    ),
    *("--d_phase_steps=2", "--g_phase_steps=2", "--max_rollbacks=1", "--checkpoint_minutes=0", "--ema=0", "--noresidual"),
)


def ended(process, code=0):
    """What it wrote to stderr, once it has ended with this code."""
    _, err = process.communicate(timeout=300)
    assert process.returncode == code, err
    return err


def wait_for(folder, position, process):
    """Until a run's checkpoint has come so far."""
    until = time.monotonic() + 300
    while time.monotonic() < until:
        assert process.poll() is None, process.communicate()
        try:
            if counters(folder)["position"] >= position:
                return
        except FileNotFoundError:  # not yet, or just being replaced
            pass
        time.sleep(0.05)
    raise AssertionError(f"not at batch {position} in five minutes")


@pytest.mark.slow
def test_killed_stopped_and_resumed(records, tmp_path):
    """kill -9, then SIGTERM (exit 143), then the effective flags file: the run of train.py that was never disturbed."""
    where = [f"--records_dir={records}", "--max_epochs=12"]
    process = run(*where, *TINY, f"--output_dir={tmp_path / 'whole'}")
    ended(process)
    parts = tmp_path / "parts"
    process = run(*where, *TINY, f"--output_dir={parts}")
    wait_for(parts, 3, process)
    process.kill()
    ended(process, -signal.SIGKILL)
    process = run(*where, *TINY, f"--output_dir={parts}")
    wait_for(parts, checkpoints.read_counters(parts / "checkpoints/last")["position"] + 5, process)
    process.terminate()
    assert "train: stopped; run the same command to go on from the last checkpoint\n" in ended(process, 143)
    stopped_at = counters(parts)["position"]
    process = run(f"--flagfile={parts / 'train.flags'}")
    ended(process)
    assert counters(parts)["position"] > stopped_at
    assert_same_run(tmp_path / "whole", parts)


def workers(number, *flags):
    """As many processes of train.py that train together; the tables are those of the first."""
    ports = []
    for _ in range(number):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            ports.append(f"localhost:{free.getsockname()[1]}")
    cluster = {"worker": ports}
    processes = [
        run(*flags, TF_CONFIG=json.dumps({"cluster": cluster, "task": {"type": "worker", "index": i}})) for i in range(number)
    ]
    for process in processes:
        ended(process)


@pytest.mark.slow
def test_two_workers(records, tmp_path):
    """Two processes with half a batch each make the run of one, and go on together from the checkpoint of the first."""
    flags = [f"--records_dir={records}", *TINY]
    process = run(*flags, f"--output_dir={tmp_path / 'one'}", "--max_epochs=2")
    ended(process)
    for epochs in (1, 2):
        workers(2, *flags, f"--output_dir={tmp_path / 'two'}", f"--max_epochs={epochs}")
    one, two = table(tmp_path / "one"), table(tmp_path / "two")
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        assert {name for name in a if a[name]} == {name for name in b if b[name]}
        assert [a[name] for name in ("step", "phase", "attempt")] == [b[name] for name in ("step", "phase", "attempt")]
        for name in ("l1", "total_d", "total_g", "p_real_target_d0", "p_real_synthesized_d1_g0"):
            if a[name]:
                assert float(b[name]) == pytest.approx(float(a[name]), rel=1e-3, abs=1e-4)
    assert not list(tmp_path.glob("two/checkpoints/*.partial"))


TWO_REPLICAS = """
import sys
import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from stan_ct.networks.config import GeneratorConfig
from stan_ct.training import trainer
from stan_ct.training.phases import PhaseRules
from stan_ct.training.settings import TrainSettings

records, folder, epochs = sys.argv[1:]
runs = []
go = trainer._Run.go
trainer._Run.go = lambda run: (runs.append(run), go(run))
rules = PhaseRules(d_phase_steps=2, g_phase_steps=3, max_rollbacks=1, averaging_batches=1)
small = dict(generator=GeneratorConfig(base_filters=1), batch_size=2, precision="float32", phases=rules)
trainer.train(TrainSettings(records, folder, max_epochs=int(epochs), **small))
(run,) = runs
pairs = [run.strategy.experimental_local_results(v.value) for every in run.phases.players.all().values() for v in every]
print(run.strategy.num_replicas_in_sync, len(pairs), all(np.array_equal(a.numpy(), b.numpy()) for a, b in pairs))
"""


@pytest.mark.slow
def test_two_replicas(records, tmp_path):
    """On two replicas, rolled back and resumed, a run is the same as without interruption, and the replicas stay equal."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    for name, epochs in (("whole", "2"), ("parts", "1"), ("parts", "2")):
        command = [sys.executable, "-c", TWO_REPLICAS, records, tmp_path / name, epochs]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        replicas, variables, same = done.stdout.splitlines()[-1].split()
        assert (replicas, int(variables) > 100, same) == ("2", True, "True")
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert {row["attempt"] for row in table(tmp_path / "whole")} == {"0", "1"}
