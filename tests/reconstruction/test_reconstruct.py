"""`stan-ct reconstruct` as a user runs it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import commands
import numpy as np
import pytest
from pydicom.data import get_testdata_file
from synthetic import random_stored, write_ct

from stan_ct.dicom.find import find_series
from stan_ct.dicom.series import load_series
from stan_ct.models.folder import find_model, read_config

ROOT = Path(__file__).resolve().parents[2]


def reconstruct(*flags: str) -> subprocess.CompletedProcess:
    """Runs the command."""
    return commands.run("reconstruct", *flags)


def test_the_shipped_model_standardizes_a_real_slice(tmp_path):
    """The GE slice of pydicom is refused, for its kernel; allowed, it gives a derived slice in the same place, and says so."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "slice").write_bytes(Path(get_testdata_file("CT_small.dcm")).read_bytes())
    flags = (f"--input_dir={tmp_path / 'in'}", f"--output_dir={tmp_path / 'out'}")
    refused = reconstruct(*flags)
    assert refused.returncode == 3
    assert (
        "out_of_protocol: kernel STANDARD is none that the models standardize: default BL57 and BR40 to BL64" in refused.stdout
    )
    assert "philips_b_l B to L" in refused.stdout
    command = [sys.executable, ROOT / "reconstruct.py", *flags, "--allow_out_of_protocol"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # libraries write to the process's stderr
    assert done.returncode == 0, done.stderr
    assert "OUT OF PROTOCOL" in done.stdout
    assert "1 of 1 series written" in done.stdout
    assert "Traceback" not in done.stderr
    assert "oneDNN" not in done.stderr
    source, output = (
        load_series(find_series(f, accept_standardized=True).series[0]) for f in (tmp_path / "in", tmp_path / "out" / "series")
    )
    change = output.volume - source.volume
    inside = source.soft_tissue(0)
    assert change[0][inside].std() > 5, "the model does something"
    assert abs(change[0][inside].mean()) < 20, "and keeps the mean"
    bone, air = source.volume[0] > 900, np.where(source.padding[0], np.float32(-1024), source.volume[0])
    front_end = read_config(find_model("default")).front_end
    filtered = [front_end(air, source.files.pixel_spacing, kernel)[bone] for kernel in ("BR40", "BL57")]
    assert min(np.abs(output.volume[0][bone] - hu).max() for hu in filtered) <= 0.501, "bone is filtered, no more"
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["models"][0]["target_kernel"] == "BL64"
    assert manifest["settings"]["fusion"] == "stan_ct"


def test_a_dry_run_lists_and_writes_nothing(tmp_path):
    """What would be done with each series, refusals by protocol included, with the exit code of the run; nothing written."""
    write_ct(tmp_path / "in", random_stored((4, 40, 40)), kernel="B30f")
    flags = (f"--input_dir={tmp_path / 'in'}", f"--output_dir={tmp_path / 'out'}", "--dry_run")
    refused = reconstruct(*flags)
    assert refused.returncode == 3
    assert "kernel B30f, 4 x 40 x 40: would be refused, out_of_protocol" in refused.stdout
    allowed = reconstruct(*flags, "--allow_out_of_protocol")
    assert allowed.returncode == 0
    assert "would be standardized with default, OUT OF PROTOCOL ->" in allowed.stdout
    assert not (tmp_path / "out").exists()


def test_the_model_that_fits_is_named(tmp_path):
    """A series of another model's kernel is refused with the name of the model that takes it."""
    write_ct(tmp_path / "in", random_stored((4, 40, 40)) // 16 + 1000, kernel="B", thickness=5.0)
    done = reconstruct(f"--input_dir={tmp_path / 'in'}", f"--output_dir={tmp_path / 'out'}", "--model=default", "--dry_run")
    assert done.returncode == 3
    assert "kernel B, the model standardizes BL57 and BR40" in done.stdout


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--input_dir=nowhere", "--output_dir=out"], "nowhere does not exist"),
        (["--output_dir=out"], "input_dir"),
        (["--input_dir=in", "--output_dir=in"], "choose another one"),
        (["--input_dir=in", "--output_dir=out", "--model=in"], "holds no model"),
        (["--input_dir=in", "--output_dir=out", "--patch_layout=tiles"], "tiles does not overlap"),
        (["--input_dir=in", "--output_dir=out", "--fusion=magic"], "magic"),
        (["in", "out", "more"], "unexpected argument 'more'"),
    ],
)
def test_bad_usage_is_said_in_a_line_with_exit_code_1(tmp_path, monkeypatch, flags, said):
    """What came, what to do, no traceback, nothing written."""
    write_ct(tmp_path / "in", random_stored((1, 20, 20)))
    monkeypatch.chdir(tmp_path)
    done = reconstruct(*flags)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", ["truncated", "pickle", "not finite", "other shapes", "later format"])
def test_a_damaged_model_is_said_in_a_line_with_exit_code_1(tmp_path, damage):
    """Whatever is wrong with a model folder: one line that names the file, nothing written, nothing executed."""
    model = tmp_path / "model"
    shutil.copytree(find_model("default"), model)
    path, trace = model / "generator.npz", tmp_path / "executed"
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-1000])
    elif damage == "pickle":
        np.savez(path, **arrays | {"000": np.array([Bomb(trace)], object)})
    elif damage == "not finite":
        np.savez(path, **arrays | {"000": arrays["000"] * np.nan})
    elif damage == "other shapes":
        np.savez(path, **arrays | {"000": arrays["000"][:2]})
    else:
        path = model / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 3}))
    write_ct(tmp_path / "in", random_stored(), kernel="BR40")
    done = reconstruct(f"--input_dir={tmp_path / 'in'}", f"--output_dir={tmp_path / 'out'}", f"--model={model}")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert path.name in done.stderr
    assert not trace.exists()
    assert not (tmp_path / "out").exists()


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple:
        return open, (str(self.trace), "w")


def test_nothing_to_standardize_is_exit_code_3(tmp_path):
    """A tree without CT: counted, and exit code 3."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("no CT")
    done = reconstruct(f"--input_dir={tmp_path / 'in'}", f"--output_dir={tmp_path / 'out'}")
    assert done.returncode == 3
    assert "1 x not DICOM" in done.stdout


def test_refused_slices_are_named_with_exit_code_2(tmp_path):
    """A slice without a rescale: named, with the reason and the advice; the other series is written."""

    def no_rescale(dataset, _):
        del dataset.RescaleSlope

    write_ct(tmp_path / "in" / "good", random_stored((1, 40, 40)), series=1)
    write_ct(tmp_path / "in" / "bad", random_stored((1, 40, 40)), series=2, edit=no_rescale)
    done = reconstruct(f"--input_dir={tmp_path / 'in'}", f"--output_dir={tmp_path / 'out'}", "--allow_out_of_protocol")
    assert done.returncode == 2
    assert "no_rescale" in done.stdout
    assert "1 of 1 series written" in done.stdout


def test_real_series_pass_untouched_through_every_check(real_ct):
    """No real series shows a box artefact when nothing was changed; the straightforward fusion of each does."""
    from synthesizers import Scripted

    from stan_ct.patches.fusion import pad_to
    from stan_ct.patches.sampling import grid_patches
    from stan_ct.reconstruction.checks import box_artefacts
    from stan_ct.reconstruction.pipeline import standardize_slice
    from stan_ct.reconstruction.settings import method_settings

    names = ("pair_philips_5mm", "chest_philips_1mm", "chest_siemens_b31f_2mm", "phantom_philips", "tilt_philips")
    for series in (s for name in names for s in find_series(real_ct / name).series):
        loaded = load_series(series)
        seams = 0
        for z in range(0, len(loaded.volume), 4):
            args = (loaded.slice(z), Scripted())
            untouched = standardize_slice(*args, method_settings("stan_ct"), np.random.default_rng(0))
            assert untouched.findings == ()
            np.testing.assert_array_equal(untouched.hu, loaded.volume[z])
            naive = standardize_slice(*args, method_settings("straightforward"), np.random.default_rng(0))
            size = tuple(-(-n // 256) * 256 for n in loaded.volume[z].shape)
            images = (pad_to(i, *size) for i in (naive.hu, loaded.volume[z], loaded.soft_tissue(z)))
            seams += bool(box_artefacts(*images, grid_patches(size, 256, 256)))
        assert seams == len(range(0, len(loaded.volume), 4)), series.name
