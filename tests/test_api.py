"""The public interface: `import stan_ct`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bodies import PITCH, body, reconstruct
from pydicom.data import get_testdata_file
from synthesizers import scripted_model
from synthetic import random_stored, write_ct

import stan_ct
from stan_ct.reconstruction.cohort import Run, standardize_cohort
from stan_ct.reconstruction.selection import ModelSet

ROOT = Path(__file__).resolve().parents[1]


def test_importing_loads_next_to_nothing():
    """`import stan_ct` alone loads neither TensorFlow, matplotlib, pydicom nor NumPy; every public name is there."""
    code = (
        "import sys, stan_ct; heavy = {'tensorflow', 'keras', 'matplotlib', 'pydicom', 'numpy'} & set(sys.modules); "
        "assert not heavy, heavy; [getattr(stan_ct, name) for name in stan_ct.__all__]; "
        "assert not {'tensorflow', 'keras', 'matplotlib'} & set(sys.modules), 'names are loaded without TensorFlow'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_an_unknown_name_is_named_with_the_known_ones():
    """A misspelling is an AttributeError that lists what there is; `dir` lists it too."""
    with pytest.raises(AttributeError, match=r"no attribute 'loadmodel'.*load_model"):
        _ = stan_ct.loadmodel
    assert set(stan_ct.__all__) <= set(dir(stan_ct))


def test_every_error_has_one_root():
    """Whoever catches StanCTError catches everything that STAN-CT raises on purpose."""
    from stan_ct.errors import NotComparable, StanCTError
    from stan_ct.patches.pairs import PairingError
    from stan_ct.reconstruction.cohort import OutputError
    from stan_ct.simulation.cohort import CohortError

    for error in (stan_ct.Refused, stan_ct.UsageError, NotComparable, PairingError, OutputError, CohortError):
        assert issubclass(error, StanCTError)


def test_the_library_writes_the_same_bytes_as_a_cohort(tmp_path, monkeypatch):
    """`standardize` and `write` give the DICOM of `reconstruct.py`, byte for byte."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    write_ct(tmp_path / "in", random_stored((3, 40, 44)))
    inventory, model = stan_ct.find_series(tmp_path / "in"), scripted_model()
    standardize_cohort(
        inventory, Run(tmp_path / "in", tmp_path / "cohort", ModelSet((model,))), lambda s, _: s, lambda line: None
    )
    (files,) = inventory.series
    result = model.standardize(stan_ct.load_series(files))
    result.write(tmp_path / "library" / "series" / files.name)
    written = [sorted((tmp_path / kind / "series" / files.name).iterdir()) for kind in ("cohort", "library")]
    assert [p.name for p in written[0]] == [p.name for p in written[1]]
    assert len(written[0]) == 3
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(*written, strict=True))


def test_findings_of_every_kind_are_in_one_place(tmp_path):
    """Protocol, series and slice findings, in this order; those of a slice say which slice."""
    stored = random_stored((2, 300, 300)) // 8 + 900
    write_ct(tmp_path / "in", stored)
    from synthesizers import Scripted

    model = scripted_model(Scripted(12.0, lambda p: np.zeros(len(p))), qc_threshold=0.5)
    result = model.standardize(stan_ct.load_series(stan_ct.find_series(tmp_path / "in").series[0]))
    found = [(f.name, f.slice) for f in result.findings]
    assert found == [
        ("mean_soft_tissue", None),
        ("low_pass_difference", None),
        ("unqualified_patches", 0),
        ("unqualified_patches", 1),
    ]
    assert result.volume.dtype == np.float32
    assert result.verdict.kernel == "B"


def test_a_real_slice_of_another_protocol_is_refused(tmp_path):
    """The model that ships refuses pydicom's GE slice by name; allowed, it goes on, and the first finding says so."""
    (tmp_path / "slice.dcm").write_bytes(Path(get_testdata_file("CT_small.dcm")).read_bytes())
    model = stan_ct.load_model("default", precision="float32")
    series = stan_ct.load_series(stan_ct.find_series(tmp_path).series[0])
    with pytest.raises(stan_ct.Refused, match="out_of_protocol: kernel STANDARD"):
        model.standardize(series)
    result = model.standardize(series, allow_out_of_protocol=True)
    assert result.findings[0].name == "out_of_protocol"
    assert "kernel STANDARD" in result.findings[0].detail


def test_there_is_no_such_model():
    """A name that is no model is a usage error that says what was expected."""
    with pytest.raises(stan_ct.UsageError, match="holds no model"):
        stan_ct.load_model("nothing-of-that-name")


def python_blocks(page: Path) -> list[str]:
    """The Python examples of a page, in order."""
    blocks = page.read_text().split("```python\n")[1:]
    return [block.split("```")[0] for block in blocks]


def test_every_example_of_the_page_runs(tmp_path, monkeypatch):
    """docs/API.md: its examples, one after the other, as a reader would type them, on the GE slice."""
    examples = python_blocks(ROOT / "docs" / "API.md")
    assert len(examples) >= 4
    monkeypatch.chdir(tmp_path)
    (tmp_path / "DICOM").mkdir()
    (tmp_path / "DICOM" / "slice.dcm").write_bytes(Path(get_testdata_file("CT_small.dcm")).read_bytes())
    for site, seed, width in (("SITE_A", 1, 4.0), ("SITE_B", 2, 5.0)):
        slices = [reconstruct(*body(10 * seed + z, 1.0), lambda f, width=width: np.exp(-((f / width) ** 2))) for z in (0, 1)]
        stored = np.clip(np.rint(slices) + 1024, 0, 4095).astype(int)
        write_ct(tmp_path / site, stored, kernel=site, spacing=(PITCH, PITCH), series=seed)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(examples)], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "OUT").glob("series/*/*.dcm"))) == 1
