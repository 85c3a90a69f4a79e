"""NIfTI: every volume comes back where it was, and what is no CT in HU on a known grid is refused by name."""

import json
import struct
import zlib

import nibabel
import numpy as np
import pytest
from nibabel.affines import apply_affine

from stan_ct.dicom import nifti
from stan_ct.dicom.find import find_series
from stan_ct.dicom.nifti import read_volume, write_slices_of, write_volume
from stan_ct.dicom.nifti_files import Sidecar, nifti_files, read_sidecar
from stan_ct.dicom.refusal import Refused
from stan_ct.dicom.series import load_series
from stan_ct.errors import UsageError

SHAPE = (7, 6, 5)
KERNEL = Sidecar("BL57")
HU = np.random.default_rng(0).integers(-1024, 3000, SHAPE).astype(np.int16)
TURN = np.array([[np.cos(0.2), -np.sin(0.2), 0, 0], [np.sin(0.2), np.cos(0.2), 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
AFFINES = {
    "LPS": np.diag([-0.7, -0.8, 2.5, 1]),
    "RAS": np.diag([0.7, 0.8, 2.5, 1]),
    "LAS, from the head": np.diag([-0.7, 0.8, -2.5, 1]),
    "oblique": TURN @ np.diag([-0.7, -0.8, 2.5, 1]),
    "slices first": np.diag([0.7, 0.8, 2.5, 1])[:, [2, 0, 1, 3]],
}


def save(path, values=HU, affine=AFFINES["LPS"]):
    """A NIfTI file."""
    affine = affine.copy()
    affine[:3, 3] = [10, -20, 30]
    nibabel.Nifti1Image(values, affine).to_filename(path)
    return path


def patched(path, place, form, *values):
    """Changes the header of a file that is not packed."""
    data = bytearray(path.read_bytes())
    struct.pack_into(form, data, place, *values)
    path.write_bytes(data)


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_every_voxel_lies_where_it_was(tmp_path, affine):
    """The HU at each place in mm, in the DICOM slices; and the way back gives the file's own values, affine and codes."""
    path = save(tmp_path / "a.nii.gz", affine=affine)
    source = nibabel.load(path)
    write_slices_of(path, tmp_path / "slices", KERNEL)
    (files,) = find_series(tmp_path / "slices").series
    series = load_series(files)
    assert (files.kernel, series.refusals) == ("BL57", ())
    header = series.instances[0].header
    across, down = np.reshape([float(v) for v in header.ImageOrientationPatient], (2, 3))
    row, column = files.pixel_spacing
    for voxel in ((0, 0, 0), (6, 5, 4), (2, 1, 3), (5, 0, 1)):
        place = apply_affine(source.affine, voxel) * [-1, -1, 1]
        found = []
        for z, instance in enumerate(series.instances):
            offset = place - instance.position
            if abs(offset @ np.cross(across, down)) < 0.01:
                found.append(series.volume[z, round(offset @ down / row), round(offset @ across / column)])
        assert found == [HU[voxel]]
    hu, _ = read_volume(path)
    write_volume(path, hu + 7.0, tmp_path / "back.nii.gz")
    back = nibabel.load(tmp_path / "back.nii.gz")
    assert back.get_data_dtype() == np.int16
    np.testing.assert_array_equal(back.get_fdata(), HU + 7.0)
    np.testing.assert_array_equal(back.affine, source.affine)
    assert (back.header["sform_code"], back.header["qform_code"]) == (
        source.header["sform_code"],
        source.header["qform_code"],
    )


def test_equal_files_give_equal_bytes(tmp_path):
    """UIDs follow from the file and the kernel."""
    path = save(tmp_path / "a.nii")
    for name, sidecar in (("one", KERNEL), ("two", KERNEL), ("other", Sidecar("BR40"))):
        write_slices_of(path, tmp_path / name, sidecar)
    one, two, other = ([p.read_bytes() for p in sorted((tmp_path / n).iterdir())] for n in ("one", "two", "other"))
    assert one == two
    assert not set(one) & set(other)


@pytest.mark.parametrize(
    ("values", "header"),
    [
        (HU.astype(np.float64), {}),
        (HU.astype(np.float32) + 0.3, {}),
        ((HU + 1024).astype(np.uint16), {"scl_slope": 1, "scl_inter": -1024}),
    ],
    ids=["float64", "fractions", "scaled"],
)
def test_types_and_scales(tmp_path, values, header):
    """Values are scaled as the file says, and rounded to whole HU."""
    path = save(tmp_path / "a.nii", values)
    if header:
        patched(path, 112, "<ff", header["scl_slope"], header["scl_inter"])
    turned, _ = read_volume(path)
    np.testing.assert_array_equal(turned, HU)


def test_padding(tmp_path):
    """A lowest value that no tissue has is padding, which is kept; noise of air is not."""
    for lowest, padded in ((-3024, True), (-1400, False)):
        values = HU.copy()
        values[0, :2, 0] = lowest
        write_slices_of(save(tmp_path / f"{lowest}.nii", values), tmp_path / f"{lowest}", KERNEL)
        series = load_series(find_series(tmp_path / f"{lowest}").series[0])
        assert series.padding.sum() == 2 * padded
        assert series.volume.min() == lowest


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda path: save(path, np.zeros((*SHAPE, 2), np.int16)), "several_phases"),
        (lambda path: save(path, np.zeros(SHAPE[:2], np.int16)), "several_phases"),
        (lambda path: save(path, np.full(SHAPE, 40000, np.float32)), "not_hu"),
        (lambda path: save(path, np.full(SHAPE, np.nan, np.float32)), "not_hu"),
        (lambda path: save(path, HU.astype(np.complex64)), "not_hu"),
        (lambda path: patched(save(path), 252, "<2h", 0, 0), "no_geometry"),
        (lambda path: path.write_bytes(b"no NIfTI at all"), "unreadable"),
        (lambda path: save(path, HU[:, :, :0]), "unreadable"),
        (lambda path: path.write_bytes(save(path).read_bytes()[:-50]), "unreadable"),
    ],
    ids=["4D", "2D", "range", "NaN", "complex", "no place", "other", "no voxel", "short"],
)
def test_what_is_refused(tmp_path, change, reason):
    """By name, and without slices."""
    path = tmp_path / "a.nii"
    change(path)
    with pytest.raises(Refused) as error:
        write_slices_of(path, tmp_path / "slices", KERNEL)
    assert error.value.reason == reason
    assert not (tmp_path / "slices").exists()


def test_headers_that_ask_for_memory(tmp_path, monkeypatch):
    """A header of 32,767^3 voxels, and a file that unpacks to 1,000 times its size, are refused before a voxel is read."""
    path = save(tmp_path / "a.nii")
    patched(path, 40, "<8h", 3, 32767, 32767, 32767, 1, 1, 1, 1)
    with pytest.raises(Refused, match=r"unreadable: 35181150961663 voxels"):
        read_volume(path)
    save(path, np.zeros((100, 100, 200), np.int16))
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    (tmp_path / "a.nii.gz").write_bytes(packer.compress(path.read_bytes()) + packer.flush())
    with pytest.raises(Refused, match="unreadable: 2000000 voxels in"):
        read_volume(tmp_path / "a.nii.gz")
    save(path)
    monkeypatch.setattr(nifti, "LARGEST_VOLUME", HU.size)
    read_volume(path)
    monkeypatch.setattr(nifti, "LARGEST_VOLUME", HU.size - 1)
    with pytest.raises(Refused, match="voxels"):
        read_volume(path)


def test_the_kernel_is_asked_for(tmp_path):
    """By the flag, or the sidecar; else the error says how to state it."""
    path = save(tmp_path / "a.nii.gz")
    with pytest.raises(UsageError, match=r"give --kernel=NAME, or a\.json beside it"):
        read_sidecar(path, "")
    (tmp_path / "a.json").write_text(
        json.dumps({"ConvolutionKernel": ["B70f", "2"], "SliceThickness": 1.5, "Manufacturer": "X"})
    )
    assert read_sidecar(path, "") == Sidecar("B70f/2", 1.5, "X", "its sidecar")
    assert read_sidecar(path, "BR40") == Sidecar("BR40", 1.5, "X", "--kernel")
    for text in ("[]", "{", "[" * 100000):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(UsageError, match="no JSON object"):
            read_sidecar(path, "BR40")


def test_masks_beside_dicom_are_no_input(tmp_path):
    """A folder with DICOM is DICOM; what an earlier run wrote into it does not count."""
    path = save(tmp_path / "a.nii.gz")
    assert nifti_files(tmp_path) == nifti_files(path) == [path]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "0.dcm").write_bytes(bytes(128) + b"DICM")
    assert nifti_files(tmp_path) == []
    assert nifti_files(tmp_path, tmp_path / "out") == [path]
    assert nifti_files(tmp_path / "out" / "0.dcm") == []
    (tmp_path / "circle").symlink_to(tmp_path)
    assert nifti_files(tmp_path, tmp_path / "out") == [path]
