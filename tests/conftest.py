"""What every folder of tests shares: the real CT, and a TensorFlow that keeps quiet."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before anything imports TensorFlow
for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):  # before anything imports NumPy
    os.environ.setdefault(variable, "1")  # there is a process for each core: more threads would only wait for each other

ROOT = Path(__file__).resolve().parents[1]
LONGEST = (
    *("training/test_trainer.py", "training/test_competition.py", "simulation/test_simulated_cohort.py"),
    *("patches/test_records.py", "engines/test_export.py", "node/test_node.py", "evaluation/test_evaluate.py"),
    *("simulation/test_acquisition.py", "test_faults.py", "training/test_rates_and_averages.py", "test_benchmarks.py"),
    *("reconstruction/test_many.py", "evaluation/test_site_features.py", "cli/test_cli.py"),
)
"""Files of tests that take longest, which start first: one that started last would leave all other processes idle."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest files first, in whose order `make test` gives files to processes; nothing else is moved."""
    places = {ROOT / "tests" / name: place for place, name in enumerate(LONGEST)}
    if missing := [str(path) for path in places if not path.exists()]:
        raise pytest.UsageError(f"LONGEST in {__file__} names files that are not there: {', '.join(missing)}")
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture
def signals_arrive() -> Iterator[None]:
    """Ctrl-C and SIGTERM reach this process and its children, also where the tests run in the background of a shell.

    A shell without job control starts `make test &` with SIGINT ignored, which children inherit.
    """
    numbers = {signal.SIGINT, signal.SIGTERM}
    blocked = signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
    before = {number: signal.getsignal(number) for number in numbers}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


@pytest.fixture(scope="session")
def real_ct() -> Path:
    """Folder of real CT series, unpacked once into `.ct`, by however many test processes at a time."""
    unpacked, script = ROOT / ".ct" / "ct", ROOT.parent / "shared" / "unpack-ct.sh"
    if (unpacked / ".complete").exists():
        return unpacked
    if not script.exists():
        pytest.skip("real CT is not here: ../shared/unpack-ct.sh does not exist")
    unpacked.parent.mkdir(exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="unpacking-", dir=unpacked.parent))
    try:
        subprocess.run(["sh", script, scratch], check=True, stdout=subprocess.DEVNULL)
        (scratch / "ct").rename(unpacked)
    except OSError:  # another process was first
        if not (unpacked / ".complete").exists():
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return unpacked


@pytest.fixture(scope="module")
def unoptimized_graphs() -> Iterator[None]:
    """Graphs run as they are traced: optimizing one takes longer than a test's few steps, which it does not shorten."""
    import tensorflow as tf

    before = tf.config.optimizer.get_experimental_options().get("disable_meta_optimizer", False)
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    yield
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": before})


@pytest.fixture(scope="module")
def shallow_networks() -> Iterator[None]:
    """Networks of the paper's layers, but one level of each, whose steps are compiled in a third of the time."""
    from stan_ct.networks import discriminator, generator, shapes

    with pytest.MonkeyPatch.context() as patch:
        for module in (shapes, generator):
            patch.setattr(module, "ENCODER_FILTERS", (1,))
        for module in (shapes, discriminator):
            patch.setattr(module, "HIDDEN_FILTERS", (1,))
            patch.setattr(module, "HIDDEN_STRIDES", (4,))
        yield
