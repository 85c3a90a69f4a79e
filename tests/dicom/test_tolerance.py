"""A good guest: imperfect files are read and written in silence, and the process is afterwards what it was."""

import logging
import pkgutil
import random
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pydicom
import pytest
from process_state import process_state
from synthetic import SYNTAXES, random_stored, write_ct

import stan_ct.dicom
from stan_ct.dicom.derived import Derivation
from stan_ct.dicom.find import find_series
from stan_ct.dicom.refusal import Refused
from stan_ct.dicom.series import load_series
from stan_ct.dicom.tolerance import tolerant
from stan_ct.dicom.write import write_series

DERIVATION = Derivation("kernel L", "unet", "key", sharpening=True, created=datetime(2024, 5, 6, tzinfo=UTC))


def damaged_files(folder: Path, count: int = 60) -> Path:
    """A folder of slices of all transfer syntaxes with one to eight random bytes changed in each."""
    folder.mkdir()
    rng = random.Random(0)
    for n in range(count):
        syntax = rng.choice(list(SYNTAXES))
        (path,) = write_ct(folder / "whole", random_stored((1, 32, 32)), syntax=syntax, series=n + 100)
        data = bytearray(path.read_bytes())
        for _ in range(rng.randint(1, 8)):
            data[rng.randrange(128, len(data))] = rng.choice([0, 0x20, 0x5C, 0xFF, rng.randrange(256)])
        path.write_bytes(data)
        path.rename(folder / f"{n}.dcm")
    return folder


def imperfect_file(folder: Path) -> Path:
    """A slice that can be read, though pydicom warns of its Instance Number (no integer), UIDs and position."""
    (path,) = write_ct(folder, random_stored((1, 8, 6)), edit=lambda ds, z: ds.update({"InstanceNumber": "123456"}))
    data = path.read_bytes()
    assert data.count(b"123456") == 1
    path.write_bytes(data.replace(b"123456", b"1.5   "))
    return path


def read_all(root: Path, out: Path | None = None) -> list[tuple]:
    """What every series in a tree holds, or why it is refused; each is written as a derived series if `out` is given."""
    found, results = find_series(root), []
    for number, files in enumerate(found.series):
        try:
            series = load_series(files)
        except Refused as refused:
            results.append((files.name, str(refused)))
            continue
        results.append((files.name, series.volume.tobytes(), tuple(map(str, series.refusals))))
        if out is not None:
            write_series(series, series.volume, out / "series" / str(number), DERIVATION, 1000 + number)
    return [*results, *map(str, found.refusals)]


def test_importing_changes_nothing():
    """Importing every module of `stan_ct.dicom` leaves pydicom, loggers, decoders, filters and signals as they were."""
    names = [f"stan_ct.dicom.{module.name}" for module in pkgutil.iter_modules(stan_ct.dicom.__path__)]
    assert "stan_ct.dicom.pixels" in names
    script = (
        f"import importlib, sys; sys.path[:0] = {sys.path!r}; from process_state import process_state; "
        "import numpy, scipy.fft, scipy.ndimage, scipy.optimize, scipy.signal, scipy.special; "  # whatever those do
        f"before = process_state(); [importlib.import_module(name) for name in {names!r}]; "
        "after = process_state(); sys.exit(0 if after == before else f'{before} became {after}')"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("damaged", [False, True], ids=["whole", "damaged"])
def test_reading_and_writing_change_nothing(tmp_path, damaged, caplog):
    """Whole or damaged: nothing of the process is changed afterwards, no warning escapes and nothing is logged."""
    if damaged:
        damaged_files(tmp_path / "in")
    else:
        for number, syntax in enumerate(SYNTAXES):
            write_ct(tmp_path / "in" / syntax, random_stored((2, 32, 32)), syntax=syntax, series=number)
    before = process_state()
    results = read_all(tmp_path / "in", tmp_path / "out")
    assert process_state() == before
    assert len(results) > 50 if damaged else len(results) == 7
    assert any(len(result) == 2 for result in results if isinstance(result, tuple)) == damaged, "some cannot be decoded"
    assert caplog.records == []


def test_reading_real_files_changes_nothing(real_ct, tmp_path, caplog):
    """The same of the odd files of other toolkits and of a real series."""
    before = process_state()
    results = [read_all(real_ct / folder, tmp_path / folder) for folder in ("odd", "tilt_philips")]
    assert process_state() == before
    assert all(results)
    assert caplog.records == []


def test_eight_threads_read_what_one_reads(tmp_path):
    """Eight threads at once, warnings being errors: volumes and refusals equal those of one, and nothing is left changed."""
    damaged_files(tmp_path / "in")
    for number, syntax in enumerate(SYNTAXES):
        write_ct(tmp_path / "in" / syntax, random_stored((2, 32, 32)), syntax=syntax, series=number)
    imperfect_file(tmp_path / "in" / "imperfect")
    before, expected = process_state(), read_all(tmp_path / "in")
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(read_all, [tmp_path / "in"] * 8))
    assert results == [expected] * 8
    assert process_state() == before


def test_what_is_read_later_was_converted_before(tmp_path):
    """Attributes of a series that pydicom warns of are quiet outside too, with headers from the search and from the files."""
    long = {"Manufacturer": "A" * 65}
    with tolerant():
        (path,) = write_ct(tmp_path, random_stored((1, 8, 6)), edit=lambda ds, z: ds.update(long))
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        pydicom.dcmread(path).get("Manufacturer")
    assert heard, "pydicom warns of this value"
    (files,) = find_series(tmp_path).series
    assert files.first.Manufacturer == "A" * 65
    assert load_series(files).files.first.Manufacturer == "A" * 65


def test_the_host_still_hears_pydicom(tmp_path):
    """Other threads hear pydicom's warnings while one is inside; what STAN-CT has read of a file warns nowhere."""
    path = imperfect_file(tmp_path)
    (files,) = find_series(tmp_path).series
    assert files.first.InstanceNumber == 1.5, "converted before, or this would warn"
    entered, left = threading.Event(), threading.Event()

    def inside() -> None:
        with tolerant():
            entered.set()
            left.wait(10)

    thread = threading.Thread(target=inside)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        thread.start()
        entered.wait(10)
        pydicom.dcmread(path).get("InstanceNumber")
        left.set()
        thread.join()
    assert any("Invalid value for VR IS" in str(warning.message) for warning in heard)


def test_a_strict_host_stays_strict(tmp_path, monkeypatch):
    """Where pydicom is told to raise, STAN-CT reads the same, and pydicom raises again afterwards."""
    path = imperfect_file(tmp_path)
    expected = read_all(tmp_path)
    monkeypatch.setattr(pydicom.config.settings, "_reading_validation_mode", pydicom.config.RAISE)
    assert read_all(tmp_path) == expected
    assert pydicom.config.settings.reading_validation_mode == pydicom.config.RAISE
    with pytest.raises((TypeError, ValueError)):
        pydicom.dcmread(path).get("InstanceNumber")


def test_tolerance_nests_and_may_end_in_any_order():
    """Nested entries, and threads that leave in the order in which they came, end in the state before; errors pass."""
    before = process_state()
    first, second = threading.Event(), threading.Event()

    def enter(leave: threading.Event) -> None:
        with tolerant(), tolerant():
            warnings.warn("not heard", UserWarning, stacklevel=1)
            leave.wait(10)
            warnings.warn("not heard", UserWarning, stacklevel=1)
            logging.getLogger("pydicom").error("not heard")

    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(enter, first), pool.submit(enter, second)]
        first.set()
        waiting[0].result(10)
        second.set()
        waiting[1].result(10)
    with pytest.raises(KeyError), tolerant():
        raise KeyError
    assert process_state() == before


def test_a_host_that_exchanges_its_filters_meanwhile_gets_them_back():
    """The host enters `catch_warnings` while a thread is inside and leaves it later: no filter of ours stays behind."""
    before = process_state()
    entered, left = threading.Event(), threading.Event()

    def inside() -> None:
        with tolerant():
            entered.set()
            left.wait(10)

    thread = threading.Thread(target=inside)
    thread.start()
    entered.wait(10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        left.set()
        thread.join()
    assert process_state() == before
