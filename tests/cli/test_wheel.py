"""STAN-CT as people install it: from a wheel, outside the checkout."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest
from synthetic import random_stored, write_ct

ROOT = Path(__file__).resolve().parents[2]
INSTALLED = any(True for _ in importlib.metadata.distributions(name="stan-ct"))
"""Whether STAN-CT is installed where the tests run, before they do."""


@pytest.fixture(scope="module")
def prefix(tmp_path_factory) -> Path:
    """A clean folder into which the wheel of this checkout is installed, without the packages that it needs."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "stan_ct", "setup.py", "pyproject.toml", "README.md", "LICENSE"],
        capture_output=True,
        check=True,
        cwd=ROOT,
    )
    for name in tracked.stdout.decode().split("\0"):
        if name:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    install = [*pip, "install", "--no-deps", "--no-index", "--ignore-installed", "--prefix", folder / "prefix", wheel]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "prefix"


def installed(prefix: Path, *arguments: object, cwd: Path) -> subprocess.CompletedProcess:
    """Runs the installed command in a folder that is not the checkout."""
    (packages,) = prefix.glob("lib/python*/site-packages")
    environment = {**os.environ, "PYTHONPATH": str(packages)}
    command = [sys.executable, prefix / "bin" / "stan-ct", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=environment)


def test_the_wheel_works_anywhere(prefix, tmp_path):
    """Version, models, presets by name, and a series standardized with the model that ships; nothing is of the checkout."""
    version = installed(prefix, "--version", cwd=tmp_path)
    assert version.returncode == 0, version.stderr
    assert f"in {prefix}" in version.stdout
    assert "philips_b_l" in installed(prefix, "models", cwd=tmp_path).stdout
    assert "reproduce/laptop_train" in installed(prefix, "presets", cwd=tmp_path).stdout
    paper = installed(prefix, "make-patches", "--preset=paper_patches", "nowhere", "records", cwd=tmp_path)
    assert paper.stderr.startswith("make-patches: --split=folders expects folders train"), paper.stderr  # as the preset says
    write_ct(tmp_path / "in", random_stored((1, 64, 64)) // 16 + 1000)
    done = installed(prefix, "reconstruct", "in", "out", "--allow_out_of_protocol", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out").glob("series/*/*.dcm"))) == 1
    assert "<html" in (tmp_path / "out" / "report.html").read_text()


def test_the_library_of_the_wheel_is_typed_and_guarded(prefix, tmp_path):
    """`import stan_ct` of the wheel: `py.typed` is there, and a series out of protocol raises `Refused`."""
    (packages,) = prefix.glob("lib/python*/site-packages")
    assert (packages / "stan_ct" / "py.typed").exists()
    write_ct(tmp_path / "DICOM", random_stored((1, 64, 64)) // 16 + 1000)
    code = (
        "import stan_ct; model = stan_ct.load_model('default'); (files,) = stan_ct.find_series('DICOM').series\n"
        "try: model.standardize(stan_ct.load_series(files))\n"
        "except stan_ct.Refused as refused: print(refused.reason, stan_ct.__file__)"
    )
    environment = {**os.environ, "PYTHONPATH": str(packages)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path, env=environment
    )
    assert done.stdout.startswith(f"out_of_protocol {packages}"), done.stderr


def test_the_environment_of_the_tests_is_left_alone(prefix):
    """Installing into the prefix does not uninstall the STAN-CT that the tests run with."""
    shown = subprocess.run([sys.executable, "-m", "pip", "show", "stan-ct"], capture_output=True, text=True, check=False)
    assert (shown.returncode == 0) == INSTALLED
