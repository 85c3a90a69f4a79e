"""The reader: any tree of files -> CT series -> HU, or a refusal by name; never wrong HU, never a crash."""

import contextlib
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from synthetic import STUDY_UID, SYNTAXES, random_stored, write_ct

from stan_ct.dicom import examine
from stan_ct.dicom.find import find_series
from stan_ct.dicom.pixels import decode
from stan_ct.dicom.refusal import ADVICE, Refused
from stan_ct.dicom.series import Series, load_series

NATIVE = ("explicit", "implicit", "big endian")
MR, ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.2.1"


def load(root: Path) -> Series:
    """The only series under `root`."""
    (files,) = find_series(root).series
    return load_series(files)


def outcome(root: Path) -> str:
    """What becomes of one file: "skipped: kind", the reason of its refusal, or "lowest..highest HU"."""
    inventory = find_series(root)
    if inventory.skipped:
        return "skipped: " + ", ".join(inventory.skipped)
    if inventory.refusals:
        return ", ".join(refusal.reason for refusal in inventory.refusals)
    try:
        volume = load_series(inventory.series[0]).volume
    except Refused as refused:
        return refused.reason
    return f"{volume.min():g}..{volume.max():g}"


def rewrite(path: Path, change: Callable[[Dataset], object]) -> None:
    """Changes the dataset in a file."""
    dataset = pydicom.dcmread(path)
    change(dataset)
    dataset.save_as(path)


def patch(path: Path, old: bytes, new: bytes) -> None:
    """Replaces bytes that occur once in a file."""
    data = path.read_bytes()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))


def put(keyword: str, value: object) -> Callable[..., None]:
    """An edit that sets an attribute, or deletes it for None."""
    return lambda ds, z=0: delattr(ds, keyword) if value is None else setattr(ds, keyword, value)


def uids_below(root: str) -> Callable[..., None]:
    """An edit that gives slice z the SOP Instance UID root.z."""
    return lambda ds, z: put("SOPInstanceUID", f"{root}.{z}")(ds)


# HU


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize(("bits", "signed"), [(12, False), (12, True), (16, False), (16, True)])
def test_hu_of_every_syntax_and_format(tmp_path, syntax, bits, signed):
    """HU are stored * slope + intercept to the last bit, for every transfer syntax, over all that the format holds."""
    stored = random_stored((2, 32, 34), bits, signed)
    write_ct(tmp_path, stored, syntax=syntax, bits=bits, signed=signed)
    series = load(tmp_path)
    assert series.volume.dtype == np.float32
    assert series.files.shape == series.volume.shape
    assert (series.volume == stored - 1024).all()
    assert not series.padding.any()
    assert series.refusals == ()


@given(
    st.sampled_from(["1", "2", "0.5", "1.0E0", " 1.25", "100", "0.01"]),
    st.sampled_from(["-1024", "0", "-1000.5", "-8192"]),
    st.integers(0, 99),
)
def test_rescale(tmp_path_factory, slope, intercept, seed):
    """Any way a DS can write slope and intercept is applied as written."""
    folder, stored = tmp_path_factory.mktemp("ct"), random_stored((1, 8, 6), seed=seed)
    write_ct(folder, stored, slope=slope, intercept=intercept)
    assert (load(folder).volume == (stored * float(slope) + float(intercept)).astype(np.float32)).all()


def test_each_slice_has_its_own_rescale(tmp_path):
    """Slices with slopes 1, 2, 3 and intercepts 0, -10, -20 are each read by their own."""
    stored = random_stored((3, 8, 6))
    write_ct(tmp_path, stored, edit=lambda ds, z: ds.update({"RescaleSlope": str(z + 1), "RescaleIntercept": str(-10 * z)}))
    slope, intercept = np.array([1, 2, 3])[:, None, None], np.array([0, -10, -20])[:, None, None]
    assert (load(tmp_path).volume == stored * slope + intercept).all()


def without_meta(data: bytes) -> bytes:
    return data[144 + int.from_bytes(data[140:144], "little") :]


@pytest.mark.parametrize("syntax", NATIVE)
@pytest.mark.parametrize(
    "strip",
    [without_meta, lambda data: data[132:], lambda data: data[:132] + without_meta(data)],
    ids=["bare dataset", "no preamble", "preamble, no meta header"],
)
def test_files_without_meta_header(tmp_path, syntax, strip):
    """A file that lost its preamble, its meta header or both gives the same HU."""
    stored = random_stored((1, 8, 6))
    (path,) = write_ct(tmp_path, stored, syntax=syntax)
    path.write_bytes(strip(path.read_bytes()))
    assert (load(tmp_path).volume == stored - 1024).all()


def test_trailing_bytes_after_the_pixels(tmp_path):
    """A file which some archive filled up with zeros is read."""
    stored = random_stored((1, 8, 6))
    (path,) = write_ct(tmp_path, stored)
    path.write_bytes(path.read_bytes() + bytes(100))
    assert (load(tmp_path).volume == stored - 1024).all()


# Padding


@pytest.mark.parametrize(
    ("signed", "padding", "expected"),
    [
        (False, (), []),
        (False, (0,), [0]),
        (False, (0, 3), [0, 1, 3]),
        (False, (3, 0), [0, 1, 3]),
        (True, (-2000,), [-2000]),
        (True, (63536,), [-2000]),
        (True, (63536, 65535), [-2000, -1]),
        (False, (-2000,), []),
    ],
)
def test_padding(tmp_path, signed, padding, expected):
    """Padding is one value or a range, either end first; 63536 with signed pixels is -2000; no value, no padding."""
    values = [-2000, -1, 0, 1, 3, 4, 100, 2000] if signed else [0, 1, 3, 4, 100, 2000, 4000, 4095]
    stored = np.array(values).reshape(1, 2, 4)
    write_ct(tmp_path, stored, bits=16 if signed else 12, signed=signed, padding=padding)
    series = load(tmp_path)
    assert stored[series.padding].tolist() == expected
    assert not (series.soft_tissue(0) & series.padding[0]).any()
    assert (series.volume == stored - 1024).all()


def test_padding_beyond_bits_stored(tmp_path):
    """63536 for -2000 in unsigned 12-bit pixels is beyond Bits Stored but is padding: read, and marked."""
    stored = np.array([[[63536, 100], [200, 63536]]])
    write_ct(tmp_path, stored, padding=(63536,))
    series = load(tmp_path)
    assert series.padding[0].tolist() == [[True, False], [False, True]]
    assert series.volume[0, 0, 1] == 100 - 1024


def test_soft_tissue_of_a_slice(tmp_path):
    """-1000..900 HU without padding: of stored 23, 24, 1924, 1925 at -1024 the middle two, and 24 not where it is padding."""
    stored = np.array([[[23, 24], [1924, 1925]]])
    write_ct(tmp_path / "plain", stored)
    write_ct(tmp_path / "padded", stored, padding=(24,))
    assert load(tmp_path / "plain").soft_tissue(0).tolist() == [[False, True], [True, False]]
    assert load(tmp_path / "padded").soft_tissue(0).tolist() == [[False, False], [True, False]]


# Bits above Bits Stored


def overlay(ds: Dataset, z: int) -> None:
    ds.add_new(0x60000102, "US", 12)


@pytest.mark.parametrize("signed", [False, True])
def test_overlay_in_the_unused_bits_is_removed(tmp_path, signed):
    """An overlay plane in bit 12 (60xx,0102) is no part of the HU."""
    stored = random_stored((1, 8, 6), signed=signed)
    write_ct(tmp_path, stored & 0xFFF | 1 << 12, signed=signed, edit=overlay)
    assert (load(tmp_path).volume == stored - 1024).all()


def test_sign_that_was_not_extended(tmp_path):
    """Signed 12-bit values whose upper 4 bits are zero: 0xFFF is -1."""
    stored = random_stored((1, 8, 6), signed=True)
    write_ct(tmp_path, stored & 0xFFF, signed=True)
    assert (load(tmp_path).volume == stored - 1024).all()


# Which files make a series


def test_order_is_along_the_normal_whatever_names_and_nesting(tmp_path):
    """Files shuffled over folders, with names and instance numbers that mislead, come in the order of their positions."""
    stored = random_stored((8, 8, 6))
    paths = write_ct(tmp_path / "in", stored, edit=lambda ds, z: put("InstanceNumber", str(7 - z))(ds))
    names = ["z/9", "a/0.dcm", "IM.7z", "b/b/b", "0", "ä ö/1.txt", "b/.hidden", "DICOMDIR"]
    for path, name in zip(paths, names, strict=True):
        target = tmp_path / "out" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    series = load(tmp_path / "out")
    assert (series.volume == stored - 1024).all()
    assert [i.path.relative_to(tmp_path / "out").as_posix() for i in series.instances] == names
    assert [i.location for i in series.instances] == pytest.approx(2.5 * np.arange(8))


@pytest.mark.parametrize("tilt", [-18.5, 0.0, 30.0])
def test_a_tilted_series_is_ordered_along_its_normal(tmp_path, tilt):
    """With gantry tilt the slices follow the normal: 2.5 mm along the table are 2.5 * cos(tilt) along it."""
    stored = random_stored((4, 8, 6))
    write_ct(tmp_path, stored, tilt=tilt)
    series = load(tmp_path)
    assert (series.volume == stored - 1024).all()
    steps = np.diff([i.location for i in series.instances])
    np.testing.assert_allclose(steps, 2.5 * np.cos(np.deg2rad(tilt)), atol=1e-3)


def test_a_coronal_series_is_ordered_front_to_back(tmp_path):
    """Order goes by Image Orientation: coronal slices follow each other along y; their z is one and the same."""

    def coronal(ds: Dataset, z: int) -> None:
        ds.ImageOrientationPatient = ["1", "0", "0", "0", "0", "-1"]
        ds.ImagePositionPatient = ["0", str(5 * z), "100"]

    stored = random_stored((3, 8, 6))
    write_ct(tmp_path, stored, edit=coronal)
    series = load(tmp_path)
    assert (series.volume == stored - 1024).all()
    assert [i.location for i in series.instances] == [0, 5, 10]


def test_a_series_of_128_x_128(tmp_path):
    """A small matrix is a series like any other, with its own spacing, kernel, thickness and patient."""
    write_ct(tmp_path, random_stored((2, 128, 128)), spacing=(1.5, 1.25), kernel="B40f", thickness=3)
    (files,) = find_series(tmp_path).series
    assert files.shape == (2, 128, 128)
    assert (files.pixel_spacing, files.kernel, files.slice_thickness, files.patient) == ((1.5, 1.25), "B40f", 3.0, "P1")
    assert (files.uid, files.study_uid, files.grid) == (f"{STUDY_UID}.3", STUDY_UID, 0)


def test_what_is_not_stated_has_a_stand_in(tmp_path):
    """Without kernel "?", without thickness NaN, without patient the study; several kernels are joined; names are safe."""
    write_ct(tmp_path / "a", random_stored((1, 8, 6)))
    for keyword in ("ConvolutionKernel", "SliceThickness", "PatientID", "SeriesDescription", "SeriesNumber"):
        rewrite(tmp_path / "a" / "0.dcm", put(keyword, None))
    (files,) = find_series(tmp_path / "a").series
    assert (files.kernel, files.patient) == ("?", STUDY_UID)
    assert np.isnan(files.slice_thickness)
    assert files.name.startswith("0-series-")
    write_ct(tmp_path / "b", random_stored((1, 8, 6)), edit=put("ConvolutionKernel", ["Br40d", "3"]))
    rewrite(tmp_path / "b" / "0.dcm", put("SeriesDescription", "../Thorax  5.0/Ä" + "x" * 45))
    (files,) = find_series(tmp_path / "b").series
    assert files.kernel == "Br40d/3"
    assert files.name[:-9] == "3-Thorax-5-0-" + "x" * 27
    assert "Doe" not in files.name


@pytest.mark.parametrize(("stated", "kernel"), [("a\nb\x1b[31m", "a b [31m"), ("\x07", "?"), ("Q\u00e9 3", "Q\u00e9 3")])
def test_kernels_are_printed_in_one_line(tmp_path, stated, kernel):
    """A name cannot break a line of the summary, nor steer the terminal."""
    write_ct(tmp_path, random_stored((1, 8, 6)), edit=lambda dataset, z: setattr(dataset, "ConvolutionKernel", stated))
    assert find_series(tmp_path).series[0].kernel == kernel


def test_series_are_told_apart_and_sorted_by_number(tmp_path):
    """Two series of one study in one folder come as two, by series number and not by name or UID."""
    for number, folder in ((10, "a"), (2, "b")):
        write_ct(tmp_path / folder, random_stored((2, 8, 6), seed=number), series=number)
    assert [s.uid for s in find_series(tmp_path).series] == [f"{STUDY_UID}.2", f"{STUDY_UID}.10"]


def test_two_grids_in_one_series(tmp_path):
    """Slices of one Series UID with another matrix or spacing make a volume of their own, with a name of their own."""
    write_ct(tmp_path / "a", random_stored((2, 8, 6)))
    write_ct(tmp_path / "b", random_stored((3, 8, 7)), edit=uids_below("1.2"))
    write_ct(tmp_path / "c", random_stored((4, 8, 6)), spacing=(0.8, 0.8), edit=uids_below("1.3"))
    series = find_series(tmp_path).series
    assert sorted(s.shape for s in series) == [(2, 8, 6), (3, 8, 7), (4, 8, 6)]
    assert {s.uid for s in series} == {f"{STUDY_UID}.3"}
    assert [s.grid for s in series] == [0, 1, 2]
    assert len({s.name for s in series}) == 3
    assert find_series(tmp_path).slices == 9


def test_copies_are_counted_once(tmp_path):
    """The same slice twice, once compressed and renamed, is one slice; the copies are counted."""
    stored = random_stored((2, 8, 6))
    write_ct(tmp_path / "a", stored)
    write_ct(tmp_path / "b", stored, syntax="JPEG-LS", edit=put("PatientName", "X"))
    inventory = find_series(tmp_path)
    assert inventory.skipped == {"copy of a slice": 2}
    assert inventory.refusals == []
    assert [i.path.parent.name for i in inventory.series[0].instances] == ["a", "a"]


@pytest.mark.parametrize("kind", ["pixels", "position", "rescale"])
def test_conflicting_instances_are_all_refused(tmp_path, kind):
    """Two files of one SOP Instance UID with other pixels, place or rescale: neither is used, the rest of the series is."""
    stored = random_stored((3, 8, 6))
    write_ct(tmp_path / "a", stored)
    (tmp_path / "b.dcm").write_bytes((tmp_path / "a" / "1.dcm").read_bytes())
    changes = {
        "pixels": put("PixelData", (stored[1] ^ 1).astype("<u2").tobytes()),
        "position": put("ImagePositionPatient", ["-100", "-90.5", "2.6"]),
        "rescale": put("RescaleIntercept", "-1023"),
    }
    rewrite(tmp_path / "b.dcm", changes[kind])
    inventory = find_series(tmp_path)
    (refusal,) = inventory.refusals
    assert refusal.reason == "conflicting_instances"
    assert sorted(p.name for p in refusal.paths) == ["1.dcm", "b.dcm"]
    assert refusal.series_uid == f"{STUDY_UID}.3"
    assert [i.path.name for i in inventory.series[0].instances] == ["0.dcm", "2.dcm"]


def test_skipped_files_are_counted(tmp_path):
    """Localizers, other modalities, other files, DICOM without an image: none is refused, none is a series, all are counted."""
    write_ct(tmp_path / "ct", random_stored((1, 8, 6)))
    scout = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    write_ct(tmp_path / "scout", random_stored((2, 8, 6)), series=1, edit=put("ImageType", scout))
    write_ct(tmp_path / "mr", random_stored((1, 8, 6)), series=77, edit=put("SOPClassUID", MR))
    for name, content in (("readme.txt", b"hello"), ("empty", b""), ("zip.dcm", b"PK\3\4" * 99)):
        (tmp_path / name).write_bytes(content)
    inventory = find_series(tmp_path)
    assert inventory.skipped == {"not DICOM": 3, "localizer": 2, "MR Image Storage": 1}
    assert (len(inventory.series), inventory.refusals) == (1, [])
    assert inventory.series_numbers == {STUDY_UID: {1, 3, 77}}


def test_localizer_is_a_word_of_image_type_3(tmp_path):
    """LOCALIZER counts from the third value on; AXIAL, and an Image Type that is missing, are no localizers."""
    write_ct(tmp_path / "a", random_stored((1, 8, 6)), edit=put("ImageType", ["ORIGINAL", "PRIMARY", "AXIAL", "LOCALIZER"]))
    write_ct(tmp_path / "b", random_stored((1, 8, 6)), series=4, edit=put("ImageType", None))
    write_ct(tmp_path / "c", random_stored((1, 8, 6)), series=5, edit=put("ImageType", "LOCALIZER"))
    assert outcome(tmp_path / "a") == "skipped: localizer"
    assert outcome(tmp_path / "b") == "-1024..3071"
    assert outcome(tmp_path / "c") == "-1024..3071"


def test_one_file_as_root(tmp_path):
    """A single file is a tree too, whether it is CT or not."""
    stored = random_stored((3, 8, 6))
    paths = write_ct(tmp_path, stored)
    assert (load(paths[1]).volume == stored[1:2] - 1024).all()
    (tmp_path / "note").write_text("x")
    assert outcome(tmp_path / "note") == "skipped: not DICOM"


def test_empty_and_missing_folders(tmp_path):
    """An empty folder holds nothing; one that does not exist is an error that names it."""
    inventory = find_series(tmp_path)
    assert (inventory.series, inventory.refusals, sum(inventory.skipped.values()), inventory.slices) == ([], [], 0, 0)
    with pytest.raises(FileNotFoundError, match=r"nowhere does not exist"):
        find_series(tmp_path / "nowhere")


def test_symbolic_links(tmp_path):
    """Links to folders are followed once, loops and dangling links do no harm, and a linked file is a copy."""
    write_ct(tmp_path / "elsewhere", random_stored((2, 8, 6)))
    root = tmp_path / "root"
    root.mkdir()
    for name, target in (("a", tmp_path / "elsewhere"), ("b", tmp_path / "elsewhere"), ("loop", root), ("gone", root / "no")):
        (root / name).symlink_to(target)
    (root / "self").symlink_to(root / "self")
    (root / "file.dcm").symlink_to(tmp_path / "elsewhere" / "0.dcm")
    inventory = find_series(root)
    assert (inventory.slices, inventory.skipped, inventory.refusals) == (2, {"copy of a slice": 1}, [])


def test_excluded_folders_are_left_out(tmp_path):
    """What lies in an excluded folder is not looked at, through a link neither."""
    write_ct(tmp_path / "in", random_stored((2, 8, 6)))
    write_ct(tmp_path / "in" / "out", random_stored((1, 8, 6)), series=9)
    (tmp_path / "in" / "link").symlink_to(tmp_path / "in" / "out")
    assert [s.uid for s in find_series(tmp_path / "in", exclude=[tmp_path / "in" / "out"]).series] == [f"{STUDY_UID}.3"]


def test_half_made_folders_are_left_out(tmp_path):
    """Nothing in a folder `.incomplete`, at any depth, is found; one that is asked for by name is."""
    write_ct(tmp_path / "SIM000001", random_stored((2, 8, 6)))
    for number, place in ((8, ".incomplete/SIM000002/BR40_1mm"), (9, "train/.incomplete"), (10, "train/incomplete")):
        write_ct(tmp_path / place, random_stored((1, 8, 6)), series=number)
    assert [(s.number, len(s.instances)) for s in find_series(tmp_path).series] == [(3, 2), (10, 1)]
    assert [s.number for s in find_series(tmp_path / ".incomplete").series] == [8]


def test_a_file_without_permission_is_counted(tmp_path, monkeypatch):
    """A file that may not be read is skipped as such."""
    paths = write_ct(tmp_path, random_stored((2, 8, 6)))
    allowed = examine._read

    def guarded(path):
        if path == str(paths[0]):
            raise PermissionError(path)
        return allowed(path)

    monkeypatch.setattr(examine, "_read", guarded)
    inventory = find_series(tmp_path)
    assert (inventory.slices, inventory.skipped) == (1, {"no permission to read": 1})


def test_a_lossless_jpeg_that_ends_too_early_or_crashes_its_decoder_is_undecodable(tmp_path, real_ct, capfd):
    """GDCM fills the rest of a short stream with zeros, and dies of some others: both are this slice's refusal alone."""
    data = (real_ct / "odd" / "robyoung__CT1_JPLL").read_bytes()
    start, end = data.find(b"\xff\xd8\xff"), data.rfind(b"\xff\xd9")
    middle = (start + end) // 2
    (tmp_path / "short.dcm").write_bytes(data[:middle] + bytes(b"\xff\xd9" * ((end - middle) // 2)) + data[end:])
    (whole,) = find_series(real_ct / "odd" / "robyoung__CT1_JPLL").series
    assert load_series(whole).volume.min() == -3024
    (short,) = find_series(tmp_path).series
    with pytest.raises(Refused, match="undecodable"):
        load_series(short)
    for seed in range(12):  # one of these streams ends GDCM's process
        damaged, rng = bytearray(data), np.random.default_rng(seed)
        for _ in range(8):
            damaged[start + 2 + int(rng.integers(0, 200 if seed % 2 else len(data) - start - 2))] = int(rng.integers(256))
        with contextlib.suppress(Refused):
            decode(bytes(damaged))
    assert load_series(whole).volume.min() == -3024, "decoding goes on after a crash"
    assert capfd.readouterr().err == ""


def test_progress_sees_every_file(tmp_path):
    """The progress bar is handed every file, sorted, whatever becomes of it."""
    write_ct(tmp_path, random_stored((2, 8, 6)))
    (tmp_path / "note").write_text("x")
    seen = []
    find_series(tmp_path, progress=lambda paths: seen.extend(Path(p).name for p in paths) or paths)
    assert seen == ["0.dcm", "1.dcm", "note"]


# Refusals


def float_pixels(ds: Dataset) -> None:
    del ds.PixelData
    ds.FloatPixelData = bytes(4 * 48)


REFUSED = {
    "negative slope": ("implausible_rescale", put("RescaleSlope", "-1")),
    "slope above the largest": ("implausible_rescale", put("RescaleSlope", "100.1")),
    "slope below the least": ("implausible_rescale", put("RescaleSlope", "0.0099")),
    "intercept of no CT": ("implausible_rescale", put("RescaleIntercept", "40001")),
    "maximum intensity projection": ("projection", put("ImageType", ["DERIVED", "SECONDARY", "MIP"])),
    "iodine map": ("not_hu", put("ImageType", ["DERIVED", "SECONDARY", "AXIAL", "IODINE_MAP"])),
    "virtual monoenergetic": ("not_hu", put("ImageType", ["DERIVED", "SECONDARY", "AXIAL", "VMI"])),
    "thick projection in a longer value": ("projection", put("ImageType", ["DERIVED", "SECONDARY", "AXIAL", "CT_SOM7 MIP"])),
    "monoenergetic with its energy": ("not_hu", put("ImageType", ["DERIVED", "SECONDARY", "AXIAL", "GSI_MONO 70KEV"])),
    "map of a material": ("not_hu", put("ImageType", ["DERIVED", "PRIMARY", "AXIAL", "MAT_SPECIFIC"])),
    "effective atomic number": ("not_hu", put("ImageType", ["DERIVED", "PRIMARY", "AXIAL", "EFF_ATOMIC_NUM"])),
    "position of no body": ("no_geometry", put("ImagePositionPatient", ["1e308", "0", "0"])),
    "no SOP Instance UID": ("no_identity", put("SOPInstanceUID", None)),
    "no Series Instance UID": ("no_identity", put("SeriesInstanceUID", "")),
    "no Study Instance UID": ("no_identity", put("StudyInstanceUID", None)),
    "CT by modality only": ("no_identity", put("SOPClassUID", None)),
    "Enhanced CT": ("multi_frame", put("SOPClassUID", ENHANCED_CT)),
    "two frames": ("multi_frame", put("NumberOfFrames", "2")),
    "no pixel data": ("no_pixel_data", put("PixelData", None)),
    "pixel data of no bytes": ("no_pixel_data", put("PixelData", b"")),
    "float pixel data": ("float_pixel_data", float_pixels),
    "no slope": ("no_rescale", put("RescaleSlope", None)),
    "no intercept": ("no_rescale", put("RescaleIntercept", None)),
    "empty slope": ("no_rescale", put("RescaleSlope", "")),
    "slope 0": ("no_rescale", put("RescaleSlope", "0")),
    "rescale to US": ("not_hu", put("RescaleType", "US")),
    "no position": ("no_geometry", put("ImagePositionPatient", None)),
    "position of two numbers": ("no_geometry", put("ImagePositionPatient", ["1", "2"])),
    "no orientation": ("no_geometry", put("ImageOrientationPatient", None)),
    "orientation of zeros": ("no_geometry", put("ImageOrientationPatient", ["0"] * 6)),
    "orientation not orthogonal": ("no_geometry", put("ImageOrientationPatient", ["1", "0", "0", "0.5", "0.8", "0"])),
    "no spacing": ("no_geometry", put("PixelSpacing", None)),
    "spacing 0": ("no_geometry", put("PixelSpacing", ["0", "0.7"])),
    "negative spacing": ("no_geometry", put("PixelSpacing", ["0.7", "-0.7"])),
    "no rows": ("no_geometry", put("Rows", None)),
    "more rows than any CT": ("no_geometry", put("Rows", 8193)),
    "one row": ("no_geometry", put("Rows", 1)),
    "8 bits": ("bad_pixel_format", lambda ds: ds.update({"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7})),
    "32 bits": ("bad_pixel_format", put("BitsAllocated", 32)),
    "10 bits stored": ("bad_pixel_format", lambda ds: ds.update({"BitsStored": 10, "HighBit": 9})),
    "high bit elsewhere": ("bad_pixel_format", put("HighBit", 15)),
    "RGB": ("bad_pixel_format", put("SamplesPerPixel", 3)),
    "no sign": ("bad_pixel_format", put("PixelRepresentation", None)),
    "no samples per pixel": ("bad_pixel_format", put("SamplesPerPixel", None)),
    "no photometric interpretation": ("bad_pixel_format", put("PhotometricInterpretation", None)),
    "colours": ("bad_pixel_format", put("PhotometricInterpretation", "PALETTE COLOR")),
    "ours": ("already_standardized", put("DerivationDescription", "STAN-CT 0.1: standardized")),
    "values beyond Bits Stored": ("stored_value_overflow", put("PixelData", b"\x00\x10" * 48)),
    "values below a signed range": (
        "stored_value_overflow",
        lambda ds: ds.update({"PixelRepresentation": 1, "PixelData": b"\xff\xf7" * 48}),
    ),
    "fewer bytes than pixels": ("truncated", put("PixelData", bytes(40))),
    "more bytes than pixels": ("excess_bytes", put("PixelData", bytes(96 + 12))),
}
"""What is wrong with the dataset -> (reason of the refusal, how to make it so)."""


@pytest.mark.parametrize("wrong", REFUSED)
def test_refused_by_name(tmp_path, wrong):
    """A slice that cannot be standardized is refused with the reason that names what is wrong."""
    reason, change = REFUSED[wrong]
    (path,) = write_ct(tmp_path, random_stored((1, 8, 6)))
    rewrite(path, change)
    assert outcome(tmp_path) == reason


LIMITS = {
    "smallest spacing": (put("PixelSpacing", ["0.0101", "0.7"]), put("PixelSpacing", ["0.0099", "0.7"])),
    "largest spacing": (put("PixelSpacing", ["0.7", "99"]), put("PixelSpacing", ["0.7", "101"])),
    "axes not orthogonal": tuple(
        put("ImageOrientationPatient", ["1", "0", "0", shear, "0.99995", "0"]) for shear in ("0.0099", "0.0101")
    ),
    "axes not of length 1": tuple(put("ImageOrientationPatient", [n, "0", "0", "0", "1", "0"]) for n in ("1.0049", "1.0051")),
    "fewest bits": tuple(lambda ds, n=n: ds.update({"BitsStored": n, "HighBit": n - 1}) for n in (12, 11)),
}
"""Limit -> changes to a header just inside and just outside."""


@pytest.mark.parametrize("limit", LIMITS)
def test_limits_of_headers(tmp_path, limit):
    """Spacing of 0.01 to 100 mm, scalar products within 0.01 and 12 bits are accepted; a little beyond is refused."""
    for num_refused, change in enumerate(LIMITS[limit]):
        (path,) = write_ct(tmp_path / str(num_refused), random_stored((1, 8, 6)))
        rewrite(path, change)
        assert len(find_series(path).refusals) == num_refused


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"-90.5", b"-9x.5", "no_geometry"),
        (b"-90.5", b" nan ", "no_geometry"),
        (b"0.7\\0.7", b"0.7\\inf", "no_geometry"),
        (b"-1024", b"-10x4", "no_rescale"),
        (b"-1024", b" nan ", "no_rescale"),
    ],
)
def test_text_that_is_no_number(tmp_path, old, new, reason):
    """Letters, NaN and infinity where a number belongs are refused, not guessed."""
    (path,) = write_ct(tmp_path, random_stored((1, 8, 6)))
    patch(path, old, new)
    assert outcome(tmp_path) == reason


@pytest.mark.parametrize("kind", ["HU", "HU_MOD", "", None, " HU "])
def test_rescale_types_of_hu(tmp_path, kind):
    """HU, HU_MOD, and no statement at all (CT Image Storage implies it) pass."""
    (path,) = write_ct(tmp_path, random_stored((1, 8, 6)))
    if kind is not None:
        rewrite(path, put("RescaleType", kind))
    assert outcome(tmp_path) == "-1024..3071"


@pytest.mark.parametrize("frames", ["1", "0", ""])
def test_a_number_of_frames_that_says_one(tmp_path, frames):
    """One frame, or a meaningless 0 or nothing beside a single frame of pixels, is a slice."""
    (path,) = write_ct(tmp_path, random_stored((1, 8, 6)))
    rewrite(path, put("NumberOfFrames", frames))
    assert outcome(tmp_path) == "-1024..3071"


@pytest.mark.parametrize("syntax", NATIVE)
@pytest.mark.parametrize("missing", [1, 8, 12, 13, 50])
def test_truncated_pixels(tmp_path, syntax, missing):
    """A native file that lacks a byte or many is refused as truncated."""
    (path,) = write_ct(tmp_path, random_stored((1, 8, 6)), syntax=syntax)
    path.write_bytes(path.read_bytes()[:-missing])
    assert outcome(tmp_path) == "truncated"


@pytest.mark.parametrize(
    ("syntax", "missing", "reason"),
    [
        ("JPEG-LS", 200, "undecodable"),
        ("RLE", 200, "undecodable"),
        ("JPEG 2000", 200, "undecodable"),
        ("deflated", 40, "unreadable"),
    ],
)
def test_truncated_compressed_files(tmp_path, syntax, missing, reason):
    """A compressed file that ends early is refused."""
    (path,) = write_ct(tmp_path, random_stored((1, 32, 32)), syntax=syntax)
    path.write_bytes(path.read_bytes()[:-missing])
    assert outcome(tmp_path) == reason


@pytest.mark.parametrize("syntax", ["JPEG-LS", "JPEG 2000", "RLE"])
def test_a_damaged_stream_is_undecodable(tmp_path, syntax):
    """A compressed stream that is garbage is refused as undecodable."""
    (path,) = write_ct(tmp_path, random_stored((1, 32, 32)), syntax=syntax)
    data = path.read_bytes()
    if syntax == "JPEG 2000":
        path.write_bytes(data.replace(b"\xff\x4f\xff\x51", bytes(4)))  # start of codestream, size
    else:
        path.write_bytes(data[:-1200] + bytes(1000) + data[-200:])
    assert outcome(tmp_path) == "undecodable"


def test_a_decoder_that_panics_is_undecodable(tmp_path):
    """Zeros inside an RLE stream make the decoder write past its end: that is a refusal, whatever it raises."""
    (path,) = write_ct(tmp_path, random_stored((1, 34, 36)), syntax="RLE")
    data = path.read_bytes()
    path.write_bytes(data[:-900] + bytes(60) + data[-840:])
    assert outcome(tmp_path) == "undecodable"


def test_a_damaged_jpeg_2000_does_not_end_the_process(tmp_path):
    """A JPEG 2000 stream of 52-bit samples is refused; a decoder must not abort, with the whole cohort on its hands."""
    (path,) = write_ct(tmp_path, random_stored((1, 64, 64)), syntax="JPEG 2000")
    data = bytearray(path.read_bytes())
    siz = data.index(b"\xff\x4f\xff\x51")
    data[siz + 42], data[siz + 49] = 51, 81  # bits per sample; a length in the next marker
    path.write_bytes(data)
    program = f"import test_series, pathlib; print(test_series.outcome(pathlib.Path({str(path)!r})))"
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (here, here.parents[1])))}
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False)
    assert (child.returncode, child.stdout.strip()) == (0, "undecodable")


def test_the_rest_of_a_series_survives_a_bad_slice(tmp_path):
    """One slice of three that cannot be decoded is left out and named; the others keep their HU, order and digest."""
    stored = random_stored((3, 32, 32))
    paths = write_ct(tmp_path, stored, syntax="JPEG-LS")
    paths[1].write_bytes(paths[1].read_bytes()[:-200])
    series = load(tmp_path)
    assert (series.volume == stored[[0, 2]] - 1024).all()
    assert series.padding.shape == series.volume.shape
    assert [i.path for i in series.instances] == [paths[0], paths[2]]
    (refusal,) = series.refusals
    assert (refusal.reason, refusal.paths, refusal.series_uid) == ("undecodable", (paths[1],), f"{STUDY_UID}.3")
    assert refusal.advice == ADVICE["undecodable"]
    assert all(len(i.sha256) == 64 for i in series.instances)


def test_a_file_that_vanishes(tmp_path):
    """A file gone between the search and the reading is unreadable; with all gone the series is refused."""
    paths = write_ct(tmp_path, random_stored((2, 8, 6)))
    (files,) = find_series(tmp_path).series
    paths[0].unlink()
    assert [r.reason for r in load_series(files).refusals] == ["unreadable"]
    paths[1].unlink()
    with pytest.raises(Refused, match=r"unreadable.*0\.dcm"):
        load_series(files)


def test_standardized_series_on_request(tmp_path):
    """What STAN-CT wrote is read where a caller asks for it, as evaluation does; another tool's derived series always is."""
    write_ct(tmp_path, random_stored((1, 8, 6)), edit=put("DerivationDescription", "STAN-CT 0.1: standardized"))
    assert find_series(tmp_path, accept_standardized=True).slices == 1
    write_ct(tmp_path, random_stored((1, 8, 6)), edit=put("DerivationDescription", "lossy compression 10:1"))
    assert find_series(tmp_path).slices == 1


def test_every_reason_has_advice_and_a_case():
    """No reason of `ADVICE` goes untested, and each says what to do; those of `other_tests` are raised elsewhere."""
    other_tests = {"unreadable", "undecodable", "conflicting_instances", "out_of_protocol", "standard_protocol"}
    other_tests |= {"unwritable", "out_of_memory", "failed", "several_phases", "unwritable_header", "not_axial"}
    other_tests.add("missing_files")
    assert {reason for reason, _ in REFUSED.values()} | other_tests == set(ADVICE)
    message = str(Refused("no_rescale", "slope 0"))
    assert message == f"no_rescale: slope 0. {ADVICE['no_rescale']}"


DAMAGED = {
    "two SOP classes": (b"1.2.840.10008.5.1.4.1.1.2\0\x08\0\x18", b"1.2.840\\10008.5.1.4.1.1.2\0\x08\0\x18"),
    "two syntaxes": (b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2\\1\0"),
    "no such syntax": (b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.9.9.9\0"),
    "VR of Media Storage SOP Class UID": (b"\x02\0\x02\0UI", b"\x02\0\x02\0U?"),
    "VR of SOP Instance UID": (b"\x08\0\x18\0UI", b"\x08\0\x18\0U?"),
    "VR of Patient ID": (b"\x10\0\x20\0LO", b"\x10\0\x20\0L?"),
    "VR of Convolution Kernel": (b"\x18\0\x10\x12SH", b"\x18\0\x10\x12S?"),
    "VR of Series Number": (b"\x20\0\x11\0IS", b"\x20\0\x11\0I?"),
    "VR of Instance Number": (b"\x20\0\x13\0IS", b"\x20\0\x13\0I?"),
    "VR of Rows": (b"\x28\0\x10\0US", b"\x28\0\x10\0U?"),
}
"""What is damaged -> (bytes that occur once in a file, what they become)."""


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_header_does_not_stop_the_search(tmp_path, damage):
    """A value of two parts or an unknown VR, where one is read, concerns that file alone: the other slice is found."""
    paths = write_ct(tmp_path, random_stored((2, 8, 6)))
    patch(paths[0], *DAMAGED[damage])
    inventory = find_series(tmp_path)
    assert inventory.slices + sum(map(len, (r.paths for r in inventory.refusals))) + sum(inventory.skipped.values()) == 2
    loaded = [load_series(series) for series in inventory.series if (series.name, series.kernel, series.patient)]
    assert paths[1] in [i.path for series in loaded for i in series.instances]


def test_no_damage_raises_anything_but_a_refusal(tmp_path):
    """400 files with random bytes changed or cut off: each is read, skipped or refused; nothing else escapes."""
    (path,) = write_ct(tmp_path, random_stored((1, 8, 6)), padding=(0,))
    whole, rng = path.read_bytes(), random.Random(0)
    outcomes = set()
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 6)):
            data[rng.randrange(len(data))] = rng.choice([0, 0x20, 0x5C, 0xFF, rng.randrange(256)])
        path.write_bytes(data[: rng.randrange(len(data))] if rng.random() < 0.1 else data)
        outcomes.add(outcome(path))
    assert {"no_geometry", "stored_value_overflow", "-1024..3071"} <= outcomes


# Real CT

CORNERSTONE = "cornerstonejs__CTImage.dcm"
ODD = {
    "FNNDSC__j2k.dcm": "skipped: localizer",
    "QIICR__IMG0001.dcm_b3d9b7": "not_hu",
    "QIICR__IMG0002.dcm": "not_hu",
    "QIICR__IMG0003.dcm": "not_hu",
    "QIICR__IMG0003.dcm_ea28c4": "not_hu",
    "QIICR__label.seg_8657cc": "skipped: Segmentation Storage",
    "QIICR__liver.dcm": "skipped: Segmentation Storage",
    "QIICR__mf.dcm_df42d7": "multi_frame",
    "QIICR__partial_overlaps.dcm": "skipped: Segmentation Storage",
    "QIICR__sparse-labelmap-noppv.dcm": "skipped: 1.2.840.10008.5.1.4.1.1.66.7",
    "QIICR__sparse-labelmap-ppv5.dcm": "skipped: 1.2.840.10008.5.1.4.1.1.66.7",
    f"{CORNERSTONE}": "-3024..1378",
    f"{CORNERSTONE}_BigEndianExplicitTransferSyntax_1.2.840.10008.1.2.2.dcm": "-3024..1378",
    f"{CORNERSTONE}_JPEG2000LosslessOnlyTransferSyntax_1.2.840.10008.1.2.4.90.dcm": "-3024..1378",
    f"{CORNERSTONE}_JPEG2000LosslessOnlyTransferSyntax_1.2.840.10008.1.2.4.90.dcm_c4d79e": "-3024..1378",
    f"{CORNERSTONE}_JPEG2000TransferSyntax_1.2.840.10008.1.2.4.91.dcm_27f6dc": "-3027..1377",
    f"{CORNERSTONE}_JPEGLSLosslessTransferSyntax_1.2.840.10008.1.2.4.80.dcm": "-3024..1378",
    f"{CORNERSTONE}_JPEGLSLossyTransferSyntax_1.2.840.10008.1.2.4.81.dcm_bb4090": "-3025..1377",
    f"{CORNERSTONE}_JPEGProcess10_12TransferSyntax_1.2.840.10008.1.2.4.55.dcm": "undecodable",
    f"{CORNERSTONE}_JPEGProcess14TransferSyntax_1.2.840.10008.1.2.4.57.dcm": "-3024..1378",
    f"{CORNERSTONE}_JPEGProcess1TransferSyntax_1.2.840.10008.1.2.4.50.dcm": "bad_pixel_format",
    f"{CORNERSTONE}_JPEGProcess2_4TransferSyntax_1.2.840.10008.1.2.4.51.dcm": "undecodable",
    f"{CORNERSTONE}_JPEGProcess6_8TransferSyntax_1.2.840.10008.1.2.4.53.dcm": "undecodable",
    f"{CORNERSTONE}_LittleEndianImplicitTransferSyntax_1.2.840.10008.1.2.dcm": "-3024..1378",
    f"{CORNERSTONE}_RLELosslessTransferSyntax_1.2.840.10008.1.2.5.dcm": "-3024..1378",
    "dcm4che__DICOMDIR": "skipped: DICOMDIR",
    "dicom__at_invalid.dcm": "skipped: RT Dose Storage",
    "fo-dicom__DICOMDIR": "skipped: DICOMDIR",
    "fo-dicom__D_CLUNIE_CT1_RLE_FRAGS.dcm": "-3024..1254",
    "fo-dicom__GH177_D_CLUNIE_CT1_IVRLE_BigEndian_ELE_undefinded_length.dcm": "-3024..1254",
    "fo-dicom__GH177_D_CLUNIE_CT1_IVRLE_BigEndian_undefined_length.dcm": "unreadable",
    "fo-dicom__GH179A.dcm": "skipped: Secondary Capture Image Storage",
    "fo-dicom__GH179B.dcm": "skipped: Secondary Capture Image Storage",
    "fo-dicom__IM-0001-0001-0001.dcm": "-1024..1456",
    "fo-dicom__Issue1097_FailToOpenDeflatedFileWithSQ.dcm": "skipped: 2.25.152752519834663263826301420581341174218",
    "ivmartel__DICOMDIR": "skipped: DICOMDIR",
    "ivmartel__dicompyler-ct.0.dcm": "-1000..1457",
    "notZaki__CT_Explicit_Little.dcm": "-1057..1440",
    "notZaki__CT_Implicit_Little_Headless_Retired.dcm": "no_identity",
    "notZaki__rtstruct.dcm": "skipped: RT Structure Set Storage",
    "pydicom__J2K_pixelrep_mismatch.dcm": "-2000..1896",
    "pydicom__liver_nonbyte_aligned_deflate.dcm": "skipped: Segmentation Storage",
    "rii-mango__deflated.dcm": "skipped: Secondary Capture Image Storage",
    "robyoung__693_J2KR.dcm": "-3024..1468",
    "robyoung__693_UNCI.dcm": "-3995..1812",
    "robyoung__CT1_J2KI": "-3339..1385",
    "robyoung__CT1_J2KR": "-3024..1254",
    "robyoung__CT1_JLSN": "-3028..1254",
    "robyoung__CT1_JPLL": "-3024..1254",
    "robyoung__CT2_J2KI": "-2386..1542",
    "robyoung__CT2_J2KR": "-2048..1433",
    "robyoung__CT2_JLSN": "-2052..1434",
    "robyoung__CT2_JPLL": "-2048..1433",
    "robyoung__CT_small.dcm": "-896..1167",
    "robyoung__ExplVR_BigEnd.dcm": "skipped: Ultrasound Image Storage",
    "robyoung__MR_small_bigendian.dcm": "skipped: MR Image Storage",
    "robyoung__MR_truncated.dcm": "skipped: MR Image Storage",
    "robyoung__bad_sequence.dcm": "-1011..1243",
    "robyoung__eCT_Supplemental.dcm": "multi_frame",
    "robyoung__explicit_VR-UN.dcm": "-1024..1186",
    "robyoung__no_meta.dcm": "skipped: not DICOM",  # its first byte is missing
    "robyoung__rtplan_truncated.dcm": "skipped: RT Plan Storage",
    "robyoung__rtstruct.dcm": "skipped: RT Structure Set Storage",
}
"""File of `odd/` -> what becomes of it alone: skipped, refused, or lowest and highest HU."""


def test_each_odd_file_alone(real_ct):
    """Each of 63 odd files from other toolkits' test suites has the outcome of the table, and none leaks a warning."""
    assert {path.name: outcome(path) for path in (real_ct / "odd").iterdir()} == ODD


def test_all_odd_files_together(real_ct):
    """In one folder, the 63 files give the same: copies are found across toolkits, and nothing is lost from the count."""
    inventory = find_series(real_ct / "odd")
    assert inventory.skipped == {
        "copy of a slice": 8,
        "Segmentation Storage": 4,
        "DICOMDIR": 3,
        "Secondary Capture Image Storage": 3,
        "1.2.840.10008.5.1.4.1.1.66.7": 2,
        "RT Structure Set Storage": 2,
        "MR Image Storage": 2,
        "localizer": 1,
        "RT Dose Storage": 1,
        "2.25.152752519834663263826301420581341174218": 1,
        "Ultrasound Image Storage": 1,
        "RT Plan Storage": 1,
    }
    alike = [r for r in inventory.refusals if r.reason == "several_phases"]  # lossy variants of one image, in one place
    assert sorted(len(r.paths) for r in alike) == [2, 4, 4, 6]
    others = [r for r in inventory.refusals if r not in alike]
    assert {p.name: r.reason for r in others for p in r.paths} == {
        "robyoung__no_meta.dcm": "unreadable",  # starts as no DICOM does, beside slices: it may have been one
        **{name: reason for name, reason in ODD.items() if reason in ADVICE and reason != "undecodable"},
    }
    assert sorted(len(series.instances) for series in inventory.series) == [1] * 8
    files = sum(len(r.paths) for r in inventory.refusals)
    assert inventory.slices + sum(inventory.skipped.values()) + files == len(ODD)


def test_lossless_variants_of_one_image_give_equal_hu(real_ct):
    """Implicit, big endian, JPEG 2000, JPEG-LS, JPEG process 14 and RLE of one image give the same HU; lossy ones nearly."""
    volumes = {p.name: load(p).volume for p in (real_ct / "odd").glob(f"{CORNERSTONE}*") if ".." in ODD[p.name]}
    reference = volumes[CORNERSTONE]
    differences = {name: float(np.abs(volume - reference).max()) for name, volume in volumes.items()}
    lossy = {name: difference for name, difference in differences.items() if difference}
    assert len(differences) == 10
    assert {name.split("_")[-1 if name.endswith(".dcm") else -2].removesuffix(".dcm") for name in lossy} == {
        "1.2.840.10008.1.2.4.91",
        "1.2.840.10008.1.2.4.81",
    }
    assert max(lossy.values()) < 50


REAL = {
    "chest_philips_1mm": [("D", (36, 512, 512), 1.0, 0.78125, -1000, 1698, -627.94, (-590.8, -555.8))],
    "chest_siemens_b31f_2mm": [("B31f", (16, 512, 512), 2.0, 0.75977, -1024, 1473, -551.29, (34.5, 49.5))],
    "pair_philips_5mm": [
        ("L", (36, 512, 512), 5.0, 0.8418, -1024, 2576, -707.63, (-369.0, -194.0)),
        ("B", (36, 512, 512), 5.0, 0.8418, -1024, 1311, -712.66, (-369.0, -194.0)),
    ],
    "phantom_philips": [
        ("UB", (3, 512, 512), 5.0, 0.45117, -1024, 778, -855.70, (766.21, 776.21)),
        ("UB", (8, 512, 512), 1.0, 0.45117, -1024, 783, -854.98, (765.21, 772.21)),
        ("YA", (8, 512, 512), 1.0, 0.45117, -1024, 983, -854.68, (765.21, 772.21)),
    ],
    "tilt_philips": [("UB", (6, 512, 512), 2.5, 0.48242, -1024, 784, -860.54, (753.55, 765.40))],
}
"""Folder -> per series kernel, shape, slice thickness, pixel spacing, lowest, highest and mean HU, locations of the ends."""


@pytest.mark.parametrize("folder", REAL)
def test_real_series(real_ct, folder):
    """Real series have the table's kernel, shape, spacing and HU, evenly spaced along the normal; the scout is set aside."""
    inventory = find_series(real_ct / folder)
    assert inventory.refusals == []
    assert inventory.skipped == ({"localizer": 1} if folder == "phantom_philips" else {})
    assert len(inventory.series) == len(REAL[folder])
    for files, (kernel, shape, thickness, spacing, low, high, mean, ends) in zip(inventory.series, REAL[folder], strict=True):
        series = load_series(files)
        assert (files.kernel, files.shape, files.slice_thickness) == (kernel, shape, thickness)
        assert files.pixel_spacing == pytest.approx((spacing, spacing), abs=1e-5)
        assert (series.volume.min(), series.volume.max(), series.refusals) == (low, high, ())
        assert series.volume.mean(dtype=np.float64) == pytest.approx(mean, abs=0.01)
        locations = np.array([i.location for i in series.instances])
        assert (locations[0], locations[-1]) == pytest.approx(ends, abs=0.01)
        np.testing.assert_allclose(np.diff(locations), np.diff(locations).mean(), atol=2e-2)


def test_real_neighbours_are_alike(real_ct):
    """Order along the normal is the anatomy's: a slice of the LIDC chest is more like its neighbour than like the fifth."""
    volume = load(real_ct / "chest_philips_1mm").volume[:, 100:400:4, 100:400:4]
    near, far = (np.abs(volume[step:] - volume[:-step]).mean() for step in (1, 5))
    assert near < 0.7 * far


def test_real_series_from_a_shuffled_folder(real_ct, tmp_path):
    """A real series under meaningless names and nesting gives the same volume."""
    rng = random.Random(0)
    for n, path in enumerate(sorted((real_ct / "tilt_philips").iterdir(), key=lambda _: rng.random())):
        (tmp_path / str(n % 2)).mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / str(n % 2) / f"IM{n}")
    assert (load(tmp_path).volume == load(real_ct / "tilt_philips").volume).all()
