"""`stan-ct reconstruct` on NIfTI files: the values of the same series as DICOM, on the grid of the source."""

import hashlib
import json

import nibabel
import numpy as np
import pydicom
import pytest
from commands import run
from faulty.runs import save_filter
from scipy import ndimage
from synthetic import random_stored, write_ct

from stan_ct.cli.main import main

AFFINE = np.array([[0, -0.7, 0, 5], [0.8, 0, 0, 6], [0, 0, -2.5, 7], [0, 0, 0, 1.0]])


@pytest.fixture
def source(tmp_path):
    """A body of noise, and a file of two volumes."""
    rng = np.random.default_rng(0)
    hu = (40 + 30 * ndimage.gaussian_filter(rng.normal(0, 1, (48, 40, 6)), (2, 2, 0)) * 8).round()
    (tmp_path / "in" / "sub-1").mkdir(parents=True)
    nibabel.save(nibabel.Nifti1Image(hu.astype(np.int16), AFFINE), tmp_path / "in" / "sub-1" / "ct.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4, 2), np.int16), AFFINE), tmp_path / "in" / "two.nii")
    save_filter(tmp_path / "model")
    return tmp_path / "in"


def test_nifti_in_and_out(source, tmp_path, monkeypatch, capsys):
    """The result has the source's shape and affine and the HU of the derived DICOM; a rerun keeps it; 4D is refused."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    command = ["reconstruct", str(source), str(tmp_path / "out"), f"--model={tmp_path / 'model'}"]
    assert main(command) == 1
    assert "give --kernel=NAME" in capsys.readouterr().err
    before = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    assert main([*command, "--kernel=B"]) == 2
    assert {path: path.read_bytes() for path in source.rglob("*") if path.is_file()} == before
    path = tmp_path / "out" / "nifti" / "sub-1" / "ct.nii.gz"
    made, original = nibabel.load(path), nibabel.load(source / "sub-1" / "ct.nii.gz")
    np.testing.assert_array_equal(made.affine, original.affine)
    assert made.get_data_dtype() == np.int16
    change = made.get_fdata() - original.get_fdata()
    assert 0.5 < np.abs(change).mean() < 200
    assert np.corrcoef(made.get_fdata().ravel(), original.get_fdata().ravel())[0, 1] > 0.9
    slices = [pydicom.dcmread(each) for each in (tmp_path / "out" / "series").rglob("*.dcm")]
    for each in slices:
        z = round((float(each.ImagePositionPatient[2]) - 7) / -2.5)
        turned = each.pixel_array[::-1, ::-1]
        assert sorted(turned.ravel()) == sorted(made.get_fdata()[:, :, z].ravel())
    about = json.loads(path.with_name("ct.json").read_text())
    assert about["SHA256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert about["Source"] == hashlib.sha256((source / "sub-1" / "ct.nii.gz").read_bytes()).hexdigest()
    assert (about["SourceConvolutionKernel"], about["Findings"]["from_nifti"]) == ("B", 1)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert "several_phases" in json.dumps(manifest)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
    first = path.read_bytes()
    assert main([*command, "--kernel=B"]) == 2
    assert "1 of them kept" in capsys.readouterr().out
    assert path.read_bytes() == first


def test_flags_that_do_not_fit(source, tmp_path, capsys):
    """A kernel for DICOM, shards, and slices between are bad usage."""
    model = f"--model={tmp_path / 'model'}"
    for flag, words in (("--shard=1/2", "shards cannot share NIfTI"), ("--slice_thickness=1", "slices between")):
        assert main(["reconstruct", str(source), str(tmp_path / "out"), model, "--kernel=B", flag]) == 1
        assert words in capsys.readouterr().err
    (source / "0.dcm").write_bytes(bytes(128) + b"DICM")
    assert main(["reconstruct", str(source), str(tmp_path / "out"), model, "--kernel=B"]) == 1
    assert "--kernel is for NIfTI files alone" in capsys.readouterr().err


def test_nifti_beside_dicom(tmp_path, capsys):
    """--nifti: each derived series as a volume, whose voxels lie where the slices do; one with a gap is named and left out."""
    save_filter(tmp_path / "model")
    write_ct(tmp_path / "in" / "a", random_stored((3, 40, 30), seed=1) // 16 + 1000, tilt=10, spacing=(0.8, 0.7))
    gap = write_ct(tmp_path / "in" / "b", random_stored((4, 40, 30), seed=2) // 16 + 1000, series=4)
    gap[1].unlink()
    code = main(["reconstruct", str(tmp_path / "in"), str(tmp_path / "out"), f"--model={tmp_path / 'model'}", "--nifti"])
    assert code == 0
    assert "no NIfTI, its slices are off even steps by" in capsys.readouterr().out
    (path,) = (tmp_path / "out" / "nifti").rglob("*.nii.gz")
    made = nibabel.load(path)
    assert path.relative_to(tmp_path / "out" / "nifti").parts[0] == "a"
    for slice_ in map(pydicom.dcmread, (tmp_path / "out" / "series" / "a").rglob("*.dcm")):
        across, down = np.reshape([float(v) for v in slice_.ImageOrientationPatient], (2, 3))
        for row, column in ((0, 0), (39, 29), (7, 11)):
            place = np.array([float(v) for v in slice_.ImagePositionPatient]) + row * 0.8 * down + column * 0.7 * across
            voxel = np.linalg.inv(made.affine) @ [*(place * [-1, -1, 1]), 1]
            assert np.abs(voxel - voxel.round()).max() < 0.02
            hu = slice_.pixel_array[row, column] * float(slice_.RescaleSlope) + float(slice_.RescaleIntercept)
            assert made.get_fdata()[tuple(voxel[:3].round().astype(int))] == hu
    assert json.loads(next(path.parent.glob("*.json")).read_text())["SHA256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_no_volume_outlives_its_series(tmp_path):
    """A series that is made anew without NIfTI, since it has a gap or nobody asked for it, keeps none of an earlier run."""
    save_filter(tmp_path / "model")
    slices = write_ct(tmp_path / "in", random_stored((4, 40, 30)) // 16 + 1000)
    command = ["reconstruct", tmp_path / "in", tmp_path / "out", f"--model={tmp_path / 'model'}"]

    def volumes(*flags: str) -> int:
        assert run(*command, *flags).returncode == 0
        return len(list((tmp_path / "out" / "nifti").rglob("*.nii.gz")))

    assert [volumes("--nifti"), volumes(), volumes("--nifti", "--overwrite", "--mask=air")] == [
        1,
        1,
        1,
    ]  # kept twice
    assert volumes("--overwrite") == 0
    assert volumes("--nifti") == 1
    slices[1].unlink()
    assert volumes("--nifti", "--overwrite") == 0
    assert not list((tmp_path / "out" / "nifti").rglob("*.json"))
