"""The derived series: its pixels, every element of its headers, its UIDs, and that it is written whole or not at all."""

import contextlib
import copy
import doctest
import errno
import re
import warnings
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRLittleEndian
from synthetic import SYNTAXES, random_stored, write_ct

from stan_ct.ct.display_windows import DisplayWindow
from stan_ct.dicom import derived, display, write
from stan_ct.dicom.derived import Derivation
from stan_ct.dicom.display import are_alike
from stan_ct.dicom.find import find_series
from stan_ct.dicom.identity import IMPLEMENTATION_CLASS_UID, creation_time, derived_series_uid, derived_uid, free_series_number
from stan_ct.dicom.refusal import Refused
from stan_ct.dicom.series import Instance, Series, SeriesFiles, load_series
from stan_ct.dicom.tolerance import tolerant
from stan_ct.dicom.write import to_stored, write_series

NOON = datetime(2024, 5, 6, 12, 30, 15, tzinfo=UTC)
DERIVATION = Derivation("kernel L", "unet-3f2a", "3f2a", sharpening=True, created=NOON)


def load(folder: Path) -> Series:
    (files,) = find_series(folder).series
    return load_series(files)


def derive(source: Series, out: Path, volume: np.ndarray | None = None, derivation: Derivation = DERIVATION) -> list[Dataset]:
    folder = out / "series" / "x"
    write_series(source, source.volume if volume is None else volume, folder, derivation, 1003)
    return [pydicom.dcmread(path) for path in sorted(folder.iterdir())]


def derive_edited(tmp_path: Path, edit=None, volume_plus: float = 0.0, **options) -> tuple[list[Dataset], list[Dataset]]:
    """Sources and outputs, slice by slice, of a small series whose datasets `edit` changed."""
    paths = write_ct(tmp_path / "in", random_stored((2, 8, 6)), edit=edit, **options)
    source = load(tmp_path / "in")
    return [pydicom.dcmread(p) for p in paths], derive(source, tmp_path / "out", source.volume + np.float32(volume_plus))


def element_bytes(path: Path) -> dict[int, bytes]:
    """Tag -> value, by a reader of Explicit VR Little Endian that knows nothing of pydicom."""
    data = path.read_bytes()
    at, found = data.index(b"\x02\x00\x00\x00UL"), {}
    while at < len(data):
        tag = int.from_bytes(data[at : at + 2], "little") << 16 | int.from_bytes(data[at + 2 : at + 4], "little")
        vr = data[at + 4 : at + 6].decode()
        long = vr in ("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV")
        start = at + (12 if long else 8)
        size = int.from_bytes(data[start - (4 if long else 2) : start], "little")
        found[tag] = data[start : start + size]
        at = start + size
    return found


# Pixels


def test_codes_are_those_of_the_standard():
    """Value and meaning as pydicom's copy of PS3.16 has them."""
    for value, meaning in (derived.EDGE_ENHANCEMENT, derived.SMOOTHING, derived.SOURCE_IMAGE, derived.EQUIPMENT):
        assert getattr(codes.DCM, meaning.title().replace(" ", "")) == Code(value, "DCM", meaning)


def test_to_stored_by_hand():
    """HU 40.4 at slope 2 and intercept -1024 is stored as 532 (of 532.2); beyond 12 bits it clips; 0 is for padding."""
    ds = Dataset()
    ds.RescaleSlope, ds.RescaleIntercept, ds.BitsStored, ds.PixelRepresentation, ds.PixelPaddingValue = "2", "-1024", 12, 0, 0
    hu = np.array([[40.4, -1024.0], [1e6, -1e6]], np.float32)
    padding = np.array([[False, False], [False, False]])
    assert to_stored(hu, ds, padding).tolist() == [[532, 1], [4095, 1]]
    padding[0, 1] = True
    assert to_stored(hu, ds, padding).tolist() == [[532, 0], [4095, 1]]


@pytest.mark.parametrize(
    ("ends", "stored", "expected"),
    [
        ((100, 199), [99, 100, 149, 151, 199, 200], [99, 99, 99, 200, 200, 200]),  # to the nearer side
        ((0, 9), [0, 5, 9, 10], [10, 10, 10, 10]),  # nothing below 0
        ((4000, 4095), [3999, 4000, 4095], [3999, 3999, 3999]),  # nothing above 4095
        ((4095, 4000), [3999, 4000, 4095], [3999, 3999, 3999]),  # the ends in either order
    ],
)
def test_no_pixel_becomes_padding(ends, stored, expected):
    """A computed value in the padding range takes the nearest value beside it that Bits Stored holds."""
    ds = Dataset()
    ds.RescaleSlope, ds.RescaleIntercept, ds.BitsStored, ds.PixelRepresentation = "1", "0", 12, 0
    ds.PixelPaddingValue, ds.PixelPaddingRangeLimit = ends
    hu = np.array([stored], np.float32)
    assert to_stored(hu, ds, np.zeros(hu.shape, bool)).tolist() == [expected]


def test_to_stored_refuses_what_is_no_number():
    """NaN is an error, not a stored value."""
    ds = Dataset()
    ds.RescaleSlope, ds.RescaleIntercept, ds.BitsStored, ds.PixelRepresentation = "1", "0", 12, 0
    with pytest.raises(ValueError, match="finite, but 1 pixels"):
        to_stored(np.array([[np.nan, 0.0]]), ds, np.zeros((1, 2), bool))


PIXEL_FORMATS = {
    "unsigned": {},
    "signed": {"signed": True, "intercept": "0"},
    "16 bits": {"bits": 16, "intercept": "-32768"},
    "16 bits signed": {"bits": 16, "signed": True, "padding": (-2000,)},
    "slope": {"slope": "2.0002442", "intercept": "-4047"},
    "fractions": {"slope": "0.25", "intercept": "-1000.125", "bits": 14},
    "padding": {"padding": (0,)},
    "padding range": {"padding": (4000, 4095)},
    "padding with the wrong sign": {"bits": 16, "signed": True, "padding": (63536,)},
    "tilt": {"tilt": 12.5},
}


@pytest.mark.parametrize("name", PIXEL_FORMATS)
def test_identity_gives_back_the_stored_values(tmp_path, name):
    """An unchanged volume is written with exactly the source's stored values, padding among them."""
    options = PIXEL_FORMATS[name]
    stored = random_stored(bits=options.get("bits", 12), signed=options.get("signed", False))
    if options.get("padding"):
        stored[:, 2:4, 2:4] = np.int16(-2000) if options.get("signed") else options["padding"][0]
    write_ct(tmp_path / "in", stored, **options)
    out = derive(load(tmp_path / "in"), tmp_path)
    assert np.array_equal([ds.pixel_array for ds in out], stored)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_any_transfer_syntax_becomes_explicit_little_endian(tmp_path, syntax):
    """Whatever the source's encoding: native Explicit VR Little Endian, Pixel Data OW, the same stored values and text."""
    stored = random_stored((2, 32, 40))
    write_ct(tmp_path / "in", stored, syntax=syntax)
    out = derive(load(tmp_path / "in"), tmp_path)
    assert np.array_equal([ds.pixel_array for ds in out], stored)
    for ds in out:
        assert ds.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert (ds["PixelData"].VR, ds.PatientName, ds.Rows, ds.BitsStored) == ("OW", "Doe^Jane", 32, 12)


@settings(max_examples=40)
@given(data=st.data())
def test_hu_to_file_to_hu(tmp_path_factory, data):
    """Any pixel format: untouched HU come back exactly; any HU within the stored range come back within slope / 2."""
    bits, signed = data.draw(st.integers(12, 16)), data.draw(st.booleans())
    slope = data.draw(st.sampled_from(["1", "2.0002442", "0.5", "1.1"]))
    intercept = data.draw(st.sampled_from(["0", "-1024", "-1000", "-8192", "12.5"]))
    low = -(2 ** (bits - 1)) if signed else 0
    in_range = st.integers(low, low + 2**bits - 1)
    stored = np.array(data.draw(st.lists(in_range, min_size=12, max_size=12))).reshape(1, 3, 4)
    padding = tuple(data.draw(st.lists(in_range.filter(lambda v: v < 2**15 or not signed), max_size=2)))
    folder = tmp_path_factory.mktemp("hu")
    write_ct(folder / "in", stored, bits=bits, signed=signed, slope=slope, intercept=intercept, padding=padding)
    source = load(folder / "in")
    (same,) = derive(source, folder / "same")
    assert np.array_equal(same.pixel_array, stored[0])

    wish = np.array(data.draw(st.lists(st.floats(low, low + 2**bits - 1), min_size=12, max_size=12))).reshape(1, 3, 4)
    hu = (wish * float(slope) + float(intercept)).astype(np.float32)
    (out,) = derive(source, folder / "any", hu)
    got = out.pixel_array * float(slope) + float(intercept)
    ends = (min(padding), max(padding)) if padding else (1, 0)
    free = ~source.padding[0] & ((np.rint(wish[0]) < ends[0] - 1) | (np.rint(wish[0]) > ends[1] + 1))
    assert (np.abs(got - hu[0])[free] <= abs(float(slope)) / 2 + 0.01).all()  # 0.01: HU are float32
    assert np.array_equal(out.pixel_array[source.padding[0]], stored[0][source.padding[0]])
    is_padding = (out.pixel_array >= ends[0]) & (out.pixel_array <= ends[1])
    assert np.array_equal(is_padding, source.padding[0]) or ends[1] - ends[0] == 2**bits - 1


def test_each_slice_has_its_own_rescale(tmp_path):
    """Slices of one series may differ in slope and intercept, as PET-CT and some exports do."""
    stored = random_stored((3, 8, 6))

    def edit(ds, z):
        ds.RescaleSlope, ds.RescaleIntercept = str(z + 1), str(-1000 - z)

    write_ct(tmp_path / "in", stored, edit=edit)
    source = load(tmp_path / "in")
    assert np.array_equal([ds.pixel_array for ds in derive(source, tmp_path)], stored)
    out = derive(source, tmp_path, np.full_like(source.volume, 200.0))
    assert [int(ds.pixel_array[0, 0]) for ds in out] == [1200, 600, 401]  # 1200, 1201 / 2 (to even), 1202 / 3


def test_padding_is_restored_whatever_the_volume_says(tmp_path):
    """Padded pixels keep the source's stored value, even where the new volume holds air or NaN there."""
    stored = random_stored((1, 8, 6), bits=16, signed=True)
    stored[0, 3:5] = -2000
    write_ct(tmp_path / "in", stored, bits=16, signed=True, padding=(-2000,))
    source = load(tmp_path / "in")
    volume = np.where(source.padding, np.nan, np.clip(source.volume, -1000, 1000) + 1).astype(np.float32)
    (out,) = derive(source, tmp_path, volume)
    assert (out.pixel_array[3:5] == -2000).all()
    assert np.array_equal(out.pixel_array[0] - 1024.0, np.clip(stored[0, 0] - 1024.0, -1000, 1000) + 1)


def test_padding_outside_bits_stored_widens_them(tmp_path):
    """Padding of 63536 in 12 unsigned bits breaks the standard: the values are kept and all 16 bits declared."""
    stored = random_stored((2, 8, 6))
    stored[0, 3:5] = 63536
    write_ct(tmp_path / "in", stored, padding=(63536,))
    # pydicom may clear the bits above Bits Stored, so here the volume is not as read but as meant.
    source = replace(load(tmp_path / "in"), volume=(stored - 1024).astype(np.float32), padding=stored == 63536)
    out = derive(source, tmp_path)
    assert np.array_equal([ds.pixel_array for ds in out], stored)
    assert [(ds.BitsStored, ds.HighBit, ds.PixelPaddingValue) for ds in out] == [(16, 15, 63536)] * 2


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "big endian"])
def test_padding_value_follows_pixel_representation(tmp_path, syntax):
    """63536 with signed pixels means -2000 and is written as SS -2000, the Range Limit as well."""
    stored = random_stored((1, 8, 6), bits=16, signed=True)
    write_ct(tmp_path / "in", stored, syntax=syntax, bits=16, signed=True, padding=(63536, 63636))
    (out,) = derive(load(tmp_path / "in"), tmp_path)
    limits = [out["PixelPaddingValue"], out["PixelPaddingRangeLimit"]]
    assert [(e.VR, e.value) for e in limits] == [("SS", -2000), ("SS", -1900)]


# Headers, row by row of the contract


def test_uids_are_new_and_the_study_stays(tmp_path):
    """SOP and Series Instance UIDs are new and valid, one series, the file meta agrees; Study and Frame of Reference stay."""
    sources, out = derive_edited(tmp_path)
    uids = [ds.SOPInstanceUID for ds in out]
    assert uids == [derived_uid(ds.SOPInstanceUID, "3f2a") for ds in sources]
    assert {ds.SeriesInstanceUID for ds in out} == {derived_series_uid(load(tmp_path / "in").files, "3f2a")}
    every = {*uids, out[0].SeriesInstanceUID}
    assert len(every) == 3
    assert all(UID(u).is_valid for u in every)
    assert not every & {ds[k].value for ds in sources for k in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")}
    for source, ds in zip(sources, out, strict=True):
        assert ds.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID
        assert ds.file_meta.MediaStorageSOPClassUID == ds.SOPClassUID == source.SOPClassUID
        assert ds.file_meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
        assert ds.file_meta.ImplementationVersionName.startswith("STAN-CT")
        assert (ds.StudyInstanceUID, ds.FrameOfReferenceUID) == (source.StudyInstanceUID, source.FrameOfReferenceUID)


def test_write_series_returns_the_uids_in_order(tmp_path):
    """The UIDs returned are those of IM0001.dcm, IM0002.dcm ... along the slice normal."""
    write_ct(tmp_path / "in", random_stored((3, 8, 6)))
    source = load(tmp_path / "in")
    uids = write_series(source, source.volume, tmp_path / "series" / "x", DERIVATION, 1003)
    files = sorted((tmp_path / "series" / "x").iterdir())
    assert [f.name for f in files] == ["IM0001.dcm", "IM0002.dcm", "IM0003.dcm"]
    out = [pydicom.dcmread(f) for f in files]
    assert [ds.SOPInstanceUID for ds in out] == list(uids)
    assert [float(ds.ImagePositionPatient[2]) for ds in out] == [0.0, 2.5, 5.0]


def test_file_meta_tells_nothing_of_the_source(tmp_path):
    """AE titles and private information of the source's transfer are not copied, nor is its preamble."""

    def edit(ds, z):
        ds.preamble = b"II*\0" + bytes(124)

    paths = write_ct(tmp_path / "in", random_stored((1, 8, 6)), edit=edit)
    ds = pydicom.dcmread(paths[0])
    ds.file_meta.SourceApplicationEntityTitle, ds.file_meta.SendingApplicationEntityTitle = "SCANNER", "PACS"
    ds.save_as(paths[0])
    (out,) = derive(load(tmp_path / "in"), tmp_path)
    assert {e.keyword for e in out.file_meta} == {
        "FileMetaInformationGroupLength", "FileMetaInformationVersion", "MediaStorageSOPClassUID",
        "MediaStorageSOPInstanceUID", "TransferSyntaxUID", "ImplementationClassUID", "ImplementationVersionName",
    }  # fmt: skip
    assert out.preamble == bytes(128)


CHANGED = {
    "ImageType", "InstanceCreationDate", "InstanceCreationTime", "SOPInstanceUID", "SeriesDate", "SeriesTime", "ContentDate",
    "ContentTime", "SeriesDescription", "DerivationDescription", "SourceImageSequence", "DerivationCodeSequence",
    "ContributingEquipmentSequence", "SeriesInstanceUID", "SeriesNumber", "RescaleType", "PixelData",
}  # fmt: skip


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "big endian"])
def test_everything_else_is_kept(tmp_path, syntax):
    """Every element of the source but the named ones has the same value: patient, study, geometry, dose, kernel, window."""

    def edit(ds, z):
        ds.ExposureTime, ds.CTDIvol, ds.FilterType, ds.BurnedInAnnotation = "500", 12.5, "WEDGE", "NO"
        ds.PatientIdentityRemoved, ds.RecognizableVisualFeatures = "YES", "NO"
        ds.FrameIncrementPointer = [0x00181063, 0x00181065]
        ds.TableFeedPerRotation, ds.SoftwareVersions, ds.DeviceSerialNumber = 39.36, ["a", "b"], "7"
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = "1.2.840.10008.3.1.2.3.3", "1.2.3"
        item.add_new(0x00280008, "IS", "4")
        item.add_new(0x00189461, "FL", [1.5, 2.5])
        ds.ReferencedPerformedProcedureStepSequence = [item]
        ds.RequestAttributesSequence = []

    sources, out = derive_edited(tmp_path, edit, volume_plus=5.0, syntax=syntax)
    for source, ds in zip(sources, out, strict=True):
        assert {e.keyword for e in ds} == {e.keyword for e in source} | CHANGED
        for element in source:
            if element.keyword not in CHANGED:
                assert ds[element.tag].value == element.value, element.keyword
        assert (ds["RescaleSlope"].value.original_string, ds["RescaleIntercept"].value.original_string) == ("1", "-1024")
        assert ds.RescaleType == "HU"
        assert ds.ConvolutionKernel == "B"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (["ORIGINAL", "PRIMARY", "AXIAL", "HELIX"], ["DERIVED", "PRIMARY", "AXIAL", "HELIX"]),
        (["DERIVED", "SECONDARY", "REFORMATTED"], ["DERIVED", "PRIMARY", "REFORMATTED"]),
        (["ORIGINAL", "PRIMARY"], ["DERIVED", "PRIMARY", "AXIAL"]),
        (["ORIGINAL", "PRIMARY", "", "X"], ["DERIVED", "PRIMARY", "AXIAL", "X"]),
        ("ORIGINAL", ["DERIVED", "PRIMARY", "AXIAL"]),
        ("", ["DERIVED", "PRIMARY", "AXIAL"]),
        (None, ["DERIVED", "PRIMARY", "AXIAL"]),
    ],
)
def test_image_type(tmp_path, source, expected):
    """DERIVED, PRIMARY and then the source's values from the third on; AXIAL where it has no third."""

    def edit(ds, z):
        ds.ImageType = source
        if source is None:
            del ds.ImageType

    _, out = derive_edited(tmp_path, edit)
    assert list(out[0].ImageType) == expected


def code(item: Dataset) -> tuple[str, str, str]:
    return item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning


def test_derivation_is_described(tmp_path):
    """Description with the stamp, target and model; code; the one source slice; the tool as processing equipment."""
    sources, out = derive_edited(tmp_path)
    for source, ds in zip(sources, out, strict=True):
        assert ds.DerivationDescription.startswith("STAN-CT ")
        assert {"kernel L", "unet-3f2a"} <= set(re.findall(r"kernel L|unet-3f2a", ds.DerivationDescription))
        assert [code(c) for c in ds.DerivationCodeSequence] == [("113086", "DCM", "Edge enhancement")]
        (image,) = ds.SourceImageSequence
        assert (image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID) == (source.SOPClassUID, source.SOPInstanceUID)
        assert image.SpatialLocationsPreserved == "YES"
        purpose = ("121322", "DCM", "Source image for image processing operation")
        assert [code(c) for c in image.PurposeOfReferenceCodeSequence] == [purpose]
        (tool,) = ds.ContributingEquipmentSequence
        assert [code(c) for c in tool.PurposeOfReferenceCodeSequence] == [("109102", "DCM", "Processing Equipment")]
        assert (tool.Manufacturer, tool.ManufacturerModelName, tool.SoftwareVersions) == ("STAN-CT", "unet-3f2a", "0.1.0")
        assert tool.ContributionDateTime == "20240506123015+0000"
        assert (ds.Manufacturer, ds.ManufacturerModelName) == ("ACME", "Scan-O-Matic")


def test_smoothing_is_coded_as_smoothing(tmp_path):
    """A derivation that does not sharpen has Derivation Code 113087."""
    write_ct(tmp_path / "in", random_stored((1, 8, 6)))
    smoothing = Derivation("kernel B", "m", "k", sharpening=False, created=NOON)
    (out,) = derive(load(tmp_path / "in"), tmp_path, derivation=smoothing)
    assert [code(c) for c in out.DerivationCodeSequence] == [("113087", "DCM", "Smoothing")]


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "big endian"])
@pytest.mark.filterwarnings("ignore:The value length:UserWarning")  # pydicom, of what the test itself writes or reads
def test_earlier_derivations_are_kept(tmp_path, syntax):
    """Ours comes after what the source says of its own derivation and equipment; it alone is the source image."""

    def edit(ds, z):
        earlier = Dataset()
        earlier.CodeValue, earlier.CodingSchemeDesignator, earlier.CodeMeaning = "113040", "DCM", "Lossy Compression"
        tool, image = Dataset(), Dataset()
        tool.Manufacturer = "Gateway"
        image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = ds.SOPClassUID, "1.2.3.4"
        ds.DerivationCodeSequence, ds.ContributingEquipmentSequence, ds.SourceImageSequence = [earlier], [tool], [image]
        ds.DerivationDescription = "Lossy " + 1100 * "x"

    sources, (out, _) = derive_edited(tmp_path, edit, syntax=syntax)
    assert [c.CodeValue for c in out.DerivationCodeSequence] == ["113040", "113086"]
    assert [i.Manufacturer for i in out.ContributingEquipmentSequence] == ["Gateway", "STAN-CT"]
    assert [i.ReferencedSOPInstanceUID for i in out.SourceImageSequence] == [sources[0].SOPInstanceUID]
    assert re.match(r"STAN-CT .*; its source: Lossy x+$", out.DerivationDescription)
    assert 900 < len(out.DerivationDescription) <= 1024


def test_derived_series_is_refused_as_a_source(tmp_path):
    """A series that STAN-CT wrote is not standardized again."""
    derive_edited(tmp_path)
    inventory = find_series(tmp_path / "out")
    assert not inventory.series
    assert [r.reason for r in inventory.refusals] == ["already_standardized"] * 2


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("Thorax 2.5", "Thorax 2.5 STAN-CT L"),
        ("", "STAN-CT L"),
        ("STAN-CT L", "STAN-CT L STAN-CT L"),
        (64 * "a", 54 * "a" + " STAN-CT L"),
        (54 * "a" + " STAN-CT L", "STAN-CT L"),  # the source's own, when shortened, would be it
        ("Sch\u00e4del " + 50 * "a", "Sch\u00e4del STAN-CT L"),
    ],
)
def test_series_description(tmp_path, source, expected):
    """The source's description and the target, at most 64 characters, never the source's; the same in each slice."""

    def edit(ds, z):
        ds.SeriesDescription = source

    _, out = derive_edited(tmp_path, edit)
    assert {ds.SeriesDescription for ds in out} == {expected}
    assert {ds.SeriesNumber for ds in out} == {1003}


def test_long_description_with_code_extensions_is_left_out(tmp_path):
    """Text with escape sequences is not cut, since a cut may leave one open: only ours remains."""

    def edit(ds, z):
        ds.SpecificCharacterSet, ds.SeriesDescription = ["", "ISO 2022 IR 87"], 8 * "\u691c\u67fb "

    _, out = derive_edited(tmp_path, edit)
    assert out[0].SeriesDescription == "STAN-CT L"


@pytest.mark.parametrize(
    ("offset", "day", "time"), [(None, "20240506", "123015"), ("-0500", "20240506", "073015"), ("+1300", "20240507", "013015")]
)
def test_dates_are_the_creation_time_in_the_source_time_zone(tmp_path, offset, day, time):
    """Creation, content, series and contribution have one time, in the source's time zone where it states one."""

    def edit(ds, z):
        ds.SeriesDate = ds.ContentDate = ds.InstanceCreationDate = "20200102"
        ds.ContentTime = f"1010{z:02d}"
        if offset:
            ds.TimezoneOffsetFromUTC = offset

    _, out = derive_edited(tmp_path, edit)
    for ds in out:
        for what in ("InstanceCreation", "Content", "Series"):
            assert (ds[f"{what}Date"].value, ds[f"{what}Time"].value) == (day, time)
        assert ds.ContributingEquipmentSequence[0].ContributionDateTime == day + time + (offset or "+0000")
        assert (ds.StudyDate, ds.StudyTime, ds.AcquisitionTime) == ("20200102", "101500", "102030.5")
        assert ds.get("TimezoneOffsetFromUTC") == offset


@pytest.mark.parametrize("syntax", ["explicit", "implicit"])
def test_what_described_the_old_pixels_is_dropped(tmp_path, syntax):
    """Pixel statistics, icon, signatures, group lengths, trailing padding, private groups: gone, in sequences as well."""

    def edit(ds, z):
        for element in (0x0106, 0x0107, 0x0108, 0x0109):  # smallest and largest value of image and series
            ds.add_new((0x0028, element), "US", 7)
        icon, mac, signature, item = Dataset(), Dataset(), Dataset(), Dataset()
        icon.Rows, mac.MACIDNumber, signature.MACIDNumber = 1, 1, 1
        ds.IconImageSequence, ds.MACParametersSequence, ds.DigitalSignaturesSequence = [icon], [mac], [signature]
        ds.InstanceCreatorUID, ds.DataSetTrailingPadding = "1.2.3", bytes(20)
        ds.PixelDataProviderURL = "http://x"
        for target in (ds, item):
            target.private_block(0x0043, "GEMS_PARM_01", create=True).add_new(0x29, "OB", b"old histogram!")
        item.CodeValue = "kept"
        ds.ProcedureCodeSequence = [item]

    sources, out = derive_edited(tmp_path, edit, syntax=syntax)
    assert "IconImageSequence" in sources[0]
    for path in (tmp_path / "out" / "series" / "x").iterdir():
        assert b"old histogram!" not in path.read_bytes()
        assert b"GEMS" not in path.read_bytes()
    for ds in out:
        gone = {e.keyword for e in sources[0] if not e.tag.is_private} - {e.keyword for e in ds}
        assert gone == {
            "SmallestImagePixelValue", "LargestImagePixelValue", "SmallestPixelValueInSeries", "LargestPixelValueInSeries",
            "IconImageSequence", "MACParametersSequence", "DigitalSignaturesSequence", "InstanceCreatorUID",
            "DataSetTrailingPadding", "PixelDataProviderURL",
        }  # fmt: skip
        assert [len(i) for i in ds.ProcedureCodeSequence] == [1]
        assert ds.ProcedureCodeSequence[0].CodeValue == "kept"


def test_group_lengths_are_dropped(tmp_path):
    """A stale Group Length or Length to End would misplace whatever follows."""
    (path,) = write_ct(tmp_path / "in", random_stored((1, 8, 6)))
    data = path.read_bytes()
    at = data.index(b"\x08\x00\x05\x00CS")
    stale = b"\x08\x00\x00\x00UL\x04\x00\x99\x00\x00\x00" + b"\x08\x00\x01\x00UL\x04\x00\x99\x00\x00\x00"
    path.write_bytes(data[:at] + stale + data[at:])
    derive(load(tmp_path / "in"), tmp_path)
    assert not {0x00080000, 0x00080001} & set(element_bytes(tmp_path / "series" / "x" / "IM0001.dcm"))


def test_overlays(tmp_path):
    """An overlay plane in the pixels' unused bits goes with them; one with data of its own stays, byte for byte."""
    stored = random_stored((1, 8, 6))

    def edit(ds, z):
        for group in (0x6000, 0x6002):
            ds.add_new((group, 0x0010), "US", 8)
            ds.add_new((group, 0x0011), "US", 6)
            ds.add_new((group, 0x0100), "US", 16 if group == 0x6000 else 1)
            ds.add_new((group, 0x0102), "US", 12 if group == 0x6000 else 0)
        ds.add_new((0x6002, 0x3000), "OW", b"overlay bits")

    write_ct(tmp_path / "in", stored | np.where(np.arange(6) % 2, 1 << 12, 0), edit=edit)
    (out,) = derive(load(tmp_path / "in"), tmp_path)
    assert np.array_equal(out.pixel_array, stored[0])
    assert {e.tag.group for e in out} & {0x6000, 0x6002} == {0x6002}
    assert out[0x6002, 0x3000].value == b"overlay bits"


@pytest.mark.parametrize(
    ("flag", "syntax", "expected"),
    [
        ("01", "1.2.840.10008.1.2.1", ("01", "7.5", "ISO_15444_1")),  # kept after decompression
        ("00", "1.2.840.10008.1.2.1", ("00", None, None)),
        (None, "1.2.840.10008.1.2.4.51", ("01", None, "ISO_10918_1")),
        ("00", "1.2.840.10008.1.2.4.81", ("01", None, "ISO_14495_1")),
        ("01", "1.2.840.10008.1.2.4.50", ("01", "7.5", "ISO_15444_1")),
        (None, "1.2.840.10008.1.2.4.91", (None, None, None)),  # may be lossless
        (None, "1.2.840.10008.1.2.4.80", (None, None, None)),
    ],
)
def test_lossy_compression_is_never_forgotten(tmp_path, flag, syntax, expected):
    """Lossy Image Compression 01 stays with its ratio and method, and is set where the transfer syntax always loses."""

    def edit(ds, z):
        if flag:
            ds.LossyImageCompression = flag
        if flag == "01":
            ds.LossyImageCompressionRatio, ds.LossyImageCompressionMethod = "7.5", "ISO_15444_1"

    write_ct(tmp_path / "in", random_stored((1, 8, 6)), edit=edit)
    source = load(tmp_path / "in")
    source.files.first.file_meta.TransferSyntaxUID = syntax
    (out,) = derive(source, tmp_path)
    keywords = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")
    assert tuple(None if out.get(k) is None else str(out.get(k)) for k in keywords) == expected


# Warning, comments and window


def derived_with(tmp_path: Path, edit=None, slices: int = 2, **fields) -> tuple[list[Dataset], list[Dataset]]:
    """Sources and outputs of a derivation with these fields."""
    paths = write_ct(tmp_path / "in", random_stored((slices, 8, 6)), edit=edit)
    out = derive(load(tmp_path / "in"), tmp_path / "out", derivation=replace(DERIVATION, **fields))
    return [pydicom.dcmread(path) for path in paths], out


@pytest.mark.parametrize(
    ("source", "warning", "target", "expected"),
    [
        ("Thorax 2.5", "FINDINGS", "kernel L", "FINDINGS Thorax 2.5 STAN-CT L"),
        ("", "OUT OF PROTOCOL", "kernel L", "OUT OF PROTOCOL STAN-CT L"),
        (45 * "a", "FINDINGS", "kernel L", f"FINDINGS {45 * 'a'} STAN-CT L"),  # 64
        (46 * "a", "FINDINGS", "kernel L", f"FINDINGS {45 * 'a'} STAN-CT L"),
        ("Sch\u00e4del " + 50 * "a", "FINDINGS", "kernel L", "FINDINGS Sch\u00e4del STAN-CT L"),
        ("Thorax", 30 * "W", "kernel L", 30 * "W" + " Thorax STAN-CT L"),
        ("Thorax", 31 * "W", "kernel L", 30 * "W" + " Thorax STAN-CT L"),
        ("Thorax", "", "kernel " + 24 * "L", "Thorax STAN-CT " + 24 * "L"),
        ("Thorax", "", "kernel " + 25 * "L", "Thorax STAN-CT " + 24 * "L"),
        ("Thorax", "F\u00dcND", "kernel L", "F?ND Thorax STAN-CT L"),
        (30 * "W" + " STAN-CT " + 24 * "L", 30 * "W", "kernel " + 24 * "L", "STAN-CT " + 24 * "L"),
    ],
)
def test_a_warning_opens_the_series_description(tmp_path, source, warning, target, expected):
    """At most 64 characters in all, of which the source gives way first; never the source's own; the same in each slice."""

    def edit(ds, z):
        ds.SeriesDescription = source

    _, out = derived_with(tmp_path, edit, warning=warning, target=target)
    assert {ds.SeriesDescription for ds in out} == {expected}
    assert len(expected) <= 64
    assert expected != source


def test_comments_of_series_and_slice_open_the_image_comments(tmp_path):
    """Those of the series in every slice, those of a slice in its own; the source's follow in a line of their own."""

    def edit(ds, z):
        if z == 0:
            ds.ImageComments = "no contrast"

    _, out = derived_with(tmp_path, edit, comments="Not for diagnosis.", slice_comments=("", "This slice: \u00fc\\x."))
    assert [ds.ImageComments for ds in out] == ["Not for diagnosis.\r\nno contrast", "Not for diagnosis. This slice: ??x."]


@pytest.mark.parametrize("comments", [None, "no contrast", "l\u00e4ngs"])
def test_without_comments_the_source_s_stay(tmp_path, comments):
    """As they are, or absent."""

    def edit(ds, z):
        if comments is not None:
            ds.ImageComments = comments

    _, out = derived_with(tmp_path, edit, warning="FINDINGS")
    assert {ds.get("ImageComments") for ds in out} == {comments}


@pytest.mark.parametrize(("length", "kept"), [(10224, 10224), (10225, 10224), (20000, 10224)])
def test_image_comments_fit_a_long_text(tmp_path, length, kept):
    """10240 characters: ours, a line break, and as much of the source's as fits."""

    def edit(ds, z):
        ds.ImageComments = length * "s"

    with pytest.warns(UserWarning, match="exceeds the maximum length") if length > 10240 else contextlib.nullcontext():
        _, (out,) = derived_with(tmp_path, edit, slices=1, comments=14 * "o")
    assert out.ImageComments == 14 * "o" + "\r\n" + kept * "s"
    assert len(out.ImageComments) <= 10240


@pytest.mark.parametrize(("length", "kept"), [(4000, 4000), (4001, 4000)])
def test_our_image_comments_leave_room_for_the_source_s(tmp_path, length, kept):
    """Ours are at most 4000 characters."""
    _, (out,) = derived_with(tmp_path, slices=1, comments=length * "o")
    assert out.ImageComments == kept * "o"


@pytest.mark.parametrize(
    ("charset", "text", "expected"),
    [
        (b"ISO_IR 100", "l\u00e4ngs \u00fcber ".encode("latin-1"), True),
        (b"ISO_IR 192", "\u691c\u67fb l\u00e4ngs ".encode(), True),
        (b"\\ISO 2022 IR 87 ", b"\x1b$B;3ED\x1b(B Yamada ", True),
        (b"\\ISO 2022 IR 87 ", b"\x1b$B;3ED\x1b(B" + 5200 * b"x ", False),  # not cut, since a set may be open where it is cut
        (b"GB18030 ", b"\xcd\xf5^\xd0\xa1\xb6\xab ", True),
    ],
)
def test_comments_in_any_character_set_keep_their_bytes(tmp_path, charset, text, expected):
    """Ours are ASCII, which each set begins with."""

    def edit(ds, z):
        ds.SpecificCharacterSet, ds.ImageComments = "c" * len(charset), "n" * len(text)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (path,) = write_ct(tmp_path / "in", random_stored((1, 8, 6)), edit=edit)
    data = path.read_bytes()
    assert (data.count(b"c" * len(charset)), data.count(b"n" * len(text))) == (1, 1)
    path.write_bytes(data.replace(b"c" * len(charset), charset).replace(b"n" * len(text), text))
    derive(load(tmp_path / "in"), tmp_path, derivation=replace(DERIVATION, comments="Ours."))
    written = element_bytes(tmp_path / "series" / "x" / "IM0001.dcm")[0x00204000]
    assert written.strip() == (b"Ours.\r\n" + text.strip() if expected else b"Ours.")


LUNG = DisplayWindow(-600.0, 1500.0)


@pytest.mark.parametrize(
    ("centers", "widths", "explanations", "expected"),
    [
        ("40", "400", None, (["-600", "40"], ["1500", "400"], ["STAN-CT L", "SOURCE"])),
        (["00060", "00060"], ["00350", "00350"], None, (["-600", "00060"], ["1500", "00350"], ["STAN-CT L", "SOURCE"])),
        (["40", "-600"], ["400", "1200"], ["WINDOW1", "WINDOW2"],
         (["-600", "40"], ["1200", "400"], ["WINDOW2", "WINDOW1"])),  # the hospital's own lung window
        (["40", "400"], ["400", "1800"], ["Fen\u00eatre", "Os"],
         (["-600", "40", "400"], ["1500", "400", "1800"], ["STAN-CT L", "Fen\u00eatre", "Os"])),
        ("40", "600", None, (["-600", "40"], ["1500", "600"], ["STAN-CT L", "SOURCE"])),  # the widest
        ("-100", "400", None, (["-600", "-100"], ["1500", "400"], ["STAN-CT L", "SOURCE"])),  # the lowest
        (["40", "-400"], ["400", "1000"], None, (["-400", "40"], ["1000", "400"], ["SOURCE"] * 2)),  # just alike
    ],
)  # fmt: skip
def test_the_standard_protocol_s_window_opens_a_soft_kernel_s_series(tmp_path, centers, widths, explanations, expected):
    """It comes first, or the source's own of its kind; the source's windows follow with their bytes, doubles once."""

    def edit(ds, z):
        ds.WindowCenter, ds.WindowWidth = centers, widths
        if explanations:
            ds.WindowCenterWidthExplanation = explanations

    sources, out = derived_with(tmp_path, edit, window=LUNG)
    keywords = ("WindowCenter", "WindowWidth", "WindowCenterWidthExplanation")
    for source, ds in zip(sources, out, strict=True):
        raw = [[getattr(v, "original_string", v) for v in ds[keyword].value] for keyword in keywords]
        assert raw == list(expected)
        assert {e.keyword for e in ds} == {e.keyword for e in source} | CHANGED | {"WindowCenterWidthExplanation"}
        assert ds.SOPInstanceUID == derived_uid(source.SOPInstanceUID, "3f2a")


@pytest.mark.parametrize(
    ("centers", "widths"),
    [
        ("-600", "1500"),
        ("40", "601"),  # just too wide
        ("-101", "400"),  # just too low
        (["400", "40"], ["1800", "400"]),  # what opens it is for bone
        ("40", ["400", "80"]),  # not pairs
        ("40", ""),
        ("", ""),
        ("40", "0"),
        ("40", "-400"),
    ],
)
def test_other_windows_stay(tmp_path, centers, widths):
    """Windows of another kind, and what cannot be read as windows, are the source's."""

    def edit(ds, z):
        ds.WindowCenter, ds.WindowWidth = centers, widths

    sources, out = derived_with(tmp_path, edit, window=LUNG)
    for source, ds in zip(sources, out, strict=True):
        assert (ds.WindowCenter, ds.WindowWidth) == (source.WindowCenter, source.WindowWidth)
        assert "WindowCenterWidthExplanation" not in ds


@pytest.mark.parametrize(("keyword", "text"), [("WindowCenter", b"4O"), ("WindowWidth", b"40O "), ("WindowCenter", b"NaN ")])
def test_windows_that_are_no_numbers_stay(tmp_path, keyword, text):
    """With the bytes that they came with."""

    def edit(ds, z):
        ds.WindowCenter, ds.WindowWidth = "1234", "567890"

    (path,) = write_ct(tmp_path / "in", random_stored((1, 8, 6)), edit=edit)
    old = b"1234" if keyword == "WindowCenter" else b"567890"
    path.write_bytes(path.read_bytes().replace(old, text.ljust(len(old))))
    derive(load(tmp_path / "in"), tmp_path, derivation=replace(DERIVATION, window=LUNG))
    assert element_bytes(tmp_path / "series" / "x" / "IM0001.dcm")[Tag(keyword)] == text.ljust(len(old))


def test_a_series_without_a_window_gets_none(tmp_path):
    """Viewers then choose one."""

    def edit(ds, z):
        del ds.WindowCenter, ds.WindowWidth

    _, out = derived_with(tmp_path, edit, window=LUNG)
    assert not {e.keyword for ds in out for e in ds} & {"WindowCenter", "WindowWidth", "WindowCenterWidthExplanation"}


@pytest.mark.parametrize(
    ("other", "alike"), [((-400, 1500), True), ((-399, 1500), False), ((-600, 1000), True), ((-600, 999), False)]
)
def test_windows_of_one_tissue_are_alike(other, alike):
    """Centres up to 200 HU apart, widths up to a factor of 1.5."""
    assert are_alike(LUNG, DisplayWindow(*other)) is are_alike(DisplayWindow(*other), LUNG) is alike


def test_display_docstrings():
    """The examples hold."""
    result = doctest.testmod(display, extraglobs={"DisplayWindow": DisplayWindow})
    assert (result.failed, result.attempted) == (0, 3)


# Bytes


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "big endian"])
@pytest.mark.parametrize(
    ("charset", "name"),
    [
        (b"ISO_IR 100", "M\u00fcller^J\u00f6rg  ".encode("latin-1")),
        (b" ISO_IR 100 ", b"padded set "),
        (b"ISO_IR 192", b"\xff\xfe not UTF-8 \x80"),
        (b"ISO_IR 999", b"unknown set \xe4\xf6"),
        (b"iso-ir 100", b"misspelt se\xdf "),
        (b"\\ISO 2022 IR 87", b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B"),
        (b"\\ISO 2022 IR 149", b"Hong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7"),
        (b"GB18030", b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab"),
        (b"", b"no set at all \xfc "),
    ],
)
def test_text_in_any_character_set_survives(tmp_path, syntax, charset, name):
    """Name, ID, description, kernel and the character set's own name keep their bytes, valid or not, looked at or not."""
    name += b" " * (len(name) % 2)
    charset += b" " * (len(charset) % 2)

    def edit(ds, z):
        ds.SpecificCharacterSet = "c" * len(charset)
        ds.PatientName, ds.PatientID, ds.StudyDescription, ds.PatientComments = ("n" * len(name),) * 4
        ds.ConvolutionKernel, ds.SeriesDescription = "n" * len(name), ""
        item = Dataset()
        item.CodeMeaning = "n" * len(name)
        ds.ProcedureCodeSequence = [item]

    with tolerant():  # of "cccc" as a character set
        (path,) = write_ct(tmp_path / "in", random_stored((1, 8, 6)), syntax=syntax, edit=edit)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"n" * len(name), name).replace(b"c" * len(charset), charset or b""))
    source = load(tmp_path / "in")
    with tolerant():
        source.files.patient, source.files.kernel, source.files.name  # noqa: B018 - pydicom forgets the bytes now
    derive_only(source, tmp_path)
    found = element_bytes(tmp_path / "series" / "x" / "IM0001.dcm")
    assert [found[t] for t in (0x00100010, 0x00100020, 0x00081030, 0x00104000, 0x00181210)] == [name] * 5
    assert name in found[0x00081032]
    assert found[0x00080005] == charset
    assert found[0x0008103E] == b"STAN-CT L "


def derive_only(source: Series, out: Path) -> None:
    write_series(source, source.volume, out / "series" / "x", DERIVATION, 1003)


@pytest.mark.filterwarnings("ignore:The value length:UserWarning")  # pydicom, of what the test itself writes or reads
def test_invalid_values_survive(tmp_path):
    """Over-long decimals, UIDs with letters, unknown and wrong VRs, a damaged sequence: kept as they came, without a word."""

    def edit(ds, z):
        ds.ExposureTime, ds.FilterType = "1" * 12, "F" * 20
        ds.TableHeight = "1" * 16
        ds.AcquisitionDate, ds.InstitutionName = "20200102", "i" * 64
        ds.FrameOfReferenceUID = "1.2.3456"
        ds.add_new(0x00189399, "UN", b"\0\0\0\0\0\0\x29\x40")  # 12.5
        ds.add_new(0x00081147, "UN", b"damaged sequence")
        ds.add_new(0x00090010, "LO", "PRIVATE")
        ds.RequestedProcedureID = "r" * 14

    (path,) = write_ct(tmp_path / "in", random_stored((1, 8, 6)), edit=edit)
    patches = {
        b"1" * 16: b"-12.123456789,12",
        b"1" * 12: b"not a number",
        b"20200102": b"02.01.20",
        b"1.2.3456": b"abc-x.01",
        b"F" * 20: rb"two\values\\and empty"[:20],
        b"r" * 14: b"\\" * 14,
        b"\x08\0\x47\x11UN": b"\x08\0\x40\x11UN",  # Referenced Image Sequence
        b"\x18\0\x99\x93UN": b"\x18\0\x45\x93UN",  # CTDIvol
    }
    data = path.read_bytes()
    for old, new in patches.items():
        assert len(old) == len(new)
        data = data.replace(old, new)
    path.write_bytes(data)
    before = element_bytes(path)
    derive_only(load(tmp_path / "in"), tmp_path)
    after = element_bytes(tmp_path / "series" / "x" / "IM0001.dcm")
    for tag in (0x00181150, 0x00181130, 0x00080022, 0x00200052, 0x00181160, 0x00189345, 0x00081140, 0x00401001, 0x00080080):
        assert after[tag] == before[tag], hex(tag)
    written = tmp_path / "series" / "x" / "IM0001.dcm"
    assert pydicom.dcmread(written).CTDIvol == 12.5
    assert b"\x08\0\x40\x11UN" in written.read_bytes()


@pytest.mark.filterwarnings("ignore:The value length:UserWarning")  # pydicom, of what the test itself writes or reads
def test_long_values_and_odd_lengths_are_encoded_validly(tmp_path):
    """A text of 70,000 bytes, which Explicit VR cannot hold as LT, becomes UN as PS3.5 6.2.2 says; lengths are even."""

    def edit(ds, z):
        ds.PatientComments = "n" * 70000

    write_ct(tmp_path / "in", random_stored((1, 8, 6)), syntax="implicit", edit=edit)
    derive_only(load(tmp_path / "in"), tmp_path)
    path = tmp_path / "series" / "x" / "IM0001.dcm"
    assert b"\x10\x00\x00\x40UN\0\0" in path.read_bytes()
    values = element_bytes(path)
    assert values[0x00104000] == b"n" * 70000
    assert {len(v) % 2 for v in values.values()} == {0}


def test_a_source_in_memory_needs_no_file(tmp_path):
    """Slices that never were a file are written from their headers, and these stay as they were."""
    write_ct(tmp_path / "in", random_stored((2, 8, 6)))
    loaded = load(tmp_path / "in")
    instances = tuple(Instance(Path("none"), i.header) for i in loaded.instances)
    for instance in instances:
        instance.header.ContributingEquipmentSequence = [Dataset()]
        assert str(instance.header.PatientName) == "Doe^Jane"
    source = Series(SeriesFiles(instances), loaded.volume, loaded.padding)
    out = derive(source, tmp_path)
    assert [len(ds.ContributingEquipmentSequence) for ds in out] == [2, 2]
    assert [len(i.header.ContributingEquipmentSequence) for i in instances] == [1, 1]
    assert [str(ds.PatientName) for ds in out] == ["Doe^Jane"] * 2


def test_the_source_is_never_modified(tmp_path):
    """Files, headers in memory, volume and padding are what they were."""
    paths = write_ct(tmp_path / "in", random_stored(bits=16, signed=True), bits=16, signed=True, padding=(-32768,))
    source = load(tmp_path / "in")
    files, headers = [p.read_bytes() for p in paths], [copy.deepcopy(i.header) for i in source.instances]
    volume, padding = source.volume.copy(), source.padding.copy()
    derive(source, tmp_path, source.volume + np.float32(7.0))
    assert [p.read_bytes() for p in paths] == files
    assert [i.header for i in source.instances] == headers
    assert all("PixelData" not in i.header for i in source.instances)
    assert np.array_equal(source.volume, volume)
    assert np.array_equal(source.padding, padding)


@pytest.mark.parametrize("change", [lambda p: p.write_bytes(p.read_bytes() + b"\0\0"), lambda p: p.unlink()])
def test_a_source_that_changed_is_refused(tmp_path, change):
    """Header and pixels must be of one file: a source that changed or went away in between is refused, nothing is left."""
    paths = write_ct(tmp_path / "in", random_stored())
    source = load(tmp_path / "in")
    change(paths[2])
    with pytest.raises(Refused, match="unreadable"):
        derive(source, tmp_path / "out")
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


# Repeatability


def test_equal_input_gives_equal_bytes(tmp_path, monkeypatch):
    """With SOURCE_DATE_EPOCH a repeat gives the same files, byte for byte."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    write_ct(tmp_path / "in", random_stored())
    contents = []
    for name in ("a", "b"):
        derivation = Derivation("kernel L", "unet-3f2a", "3f2a", sharpening=True, created=creation_time())
        derive(load(tmp_path / "in"), tmp_path / name, derivation=derivation)
        contents.append([p.read_bytes() for p in sorted((tmp_path / name / "series" / "x").iterdir())])
    assert contents[0] == contents[1]
    assert b"20231114221320" in contents[0][0]


def test_creation_time(monkeypatch):
    """SOURCE_DATE_EPOCH in UTC, else now; always with a time zone."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    assert creation_time() == datetime(1970, 1, 1, tzinfo=UTC)
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    assert abs(creation_time() - datetime.now(timezone(timedelta(hours=9)))) < timedelta(minutes=1)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(ValueError, match="seconds since 1970"):
        creation_time()


@given(st.text(), st.text(), st.text(), st.text())
def test_uids_depend_on_source_and_key(uid, key, other_uid, other_key):
    """Equal source and key give an equal valid UID, others another one."""
    one = derived_uid(uid, key)
    assert one == derived_uid(uid, key)
    assert UID(one).is_valid
    assert one.startswith("2.25.")
    assert (one == derived_uid("1.2" + uid, key)) is False
    assert (one == derived_uid(uid, key + "x")) is False


def test_uid_is_stable_across_versions():
    """The same UID as ever: it identifies series that were archived."""
    assert derived_uid("1.2.3", "k") == "2.25.69015287656941555899034910115935664969"


def test_grids_of_one_series_become_different_series(tmp_path):
    """A source series with two pixel grids gives two derived series, not one with mixed grids."""
    write_ct(tmp_path / "in", random_stored((1, 8, 6)))
    files = load(tmp_path / "in").files
    assert derived_series_uid(files, "k") != derived_series_uid(SeriesFiles(files.instances, grid=1), "k")
    assert derived_series_uid(files, "k") != derived_series_uid(files, "other")


@pytest.mark.parametrize(
    ("source", "taken", "expected"),
    [
        (3, {3, 4}, 1003),
        (3, {3, 1003, 1004}, 1005),
        (None, set(), 1000),
        (-7, set(), 993),
        (2**31 - 1, set(), 1),
        (2**31 - 2, {1}, 2**31 - 1),
    ],
)
def test_free_series_number(source, taken, expected):
    """1000 above the source's, or the next that is free; always what an Integer String holds, never the source's."""
    assert free_series_number(source, taken) == expected


# Whole or not at all


def failing_after(slices: int, monkeypatch, seen: list) -> None:
    original, folder = write.dicom_file, {}

    def file(*args):
        seen.append(folder.setdefault("n", 0))
        folder["n"] += 1
        if folder["n"] > slices:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(*args)

    monkeypatch.setattr(write, "dicom_file", file)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    """An error after two of three slices leaves neither slices nor folders."""
    write_ct(tmp_path / "in", random_stored())
    source, seen = load(tmp_path / "in"), []
    failing_after(2, monkeypatch, seen)
    with pytest.raises(OSError, match="No space left"):
        derive(source, tmp_path / "out")
    assert len(seen) == 3
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_a_failed_write_keeps_what_was_there(tmp_path, monkeypatch):
    """A complete series is replaced by a complete one or stays."""
    write_ct(tmp_path / "in", random_stored())
    source = load(tmp_path / "in")
    derive(source, tmp_path / "out")
    before = tree(tmp_path / "out")
    with monkeypatch.context() as patch:
        failing_after(2, patch, [])
        with pytest.raises(OSError, match="No space left"):
            derive(source, tmp_path / "out")
    assert tree(tmp_path / "out") == before
    derive(source, tmp_path / "out", source.volume + np.float32(1.0))
    after = tree(tmp_path / "out")
    assert after.keys() == before.keys()
    assert all(after[name] != before[name] for name in after)


def test_a_folder_that_cannot_be_moved_in_keeps_what_was_there(tmp_path, monkeypatch):
    """If the complete new series cannot be moved to its place, the old one is moved back."""
    write_ct(tmp_path / "in", random_stored())
    source = load(tmp_path / "in")
    derive(source, tmp_path / "out")
    before, rename = tree(tmp_path / "out"), Path.rename

    def fail_to_move_in(self, target):
        if self.parent.name == ".incomplete" and not self.name.endswith(".replaced"):
            raise OSError("not now")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_to_move_in)
    with pytest.raises(OSError, match="not now"):
        derive(source, tmp_path / "out", source.volume + np.float32(1.0))
    assert tree(tmp_path / "out") == before


def test_nothing_shows_while_writing(tmp_path, monkeypatch):
    """Until the last slice is written the series folder is not there."""
    write_ct(tmp_path / "in", random_stored())
    original, shown = write.dicom_file, []

    def file(*args):
        shown.append((tmp_path / "out" / "series" / "x").exists())
        return original(*args)

    monkeypatch.setattr(write, "dicom_file", file)
    derive(load(tmp_path / "in"), tmp_path / "out")
    assert shown == [False, False, False]
    assert [p.name for p in (tmp_path / "out" / "series").iterdir()] == ["x"]


def test_what_a_killed_run_left_is_cleaned_up(tmp_path):
    """Slices of a run that was killed are neither taken over nor left; another series under way is not touched."""
    write_ct(tmp_path / "in", random_stored())
    incomplete = tmp_path / "out" / "series" / ".incomplete"
    left, other = incomplete / "x", incomplete / "other"
    for folder in (left, left.with_name("x.replaced"), other):
        folder.mkdir(parents=True)
        (folder / "IM0009.dcm").write_bytes(b"half")
    assert len(derive(load(tmp_path / "in"), tmp_path / "out")) == 3
    left.with_name("x.replaced").mkdir()
    (left.with_name("x.replaced") / "IM0009.dcm").write_bytes(b"half")
    assert len(derive(load(tmp_path / "in"), tmp_path / "out")) == 3
    assert sorted(p.name for p in incomplete.iterdir()) == ["other"]
    assert (other / "IM0009.dcm").read_bytes() == b"half"


@pytest.mark.parametrize(("shape", "created"), [((3, 8, 5), NOON), ((3, 8, 6), datetime(2024, 5, 6))])
def test_wrong_arguments_are_refused(tmp_path, shape, created):
    """A volume of another shape, or a time without a zone, is refused before anything is written."""
    write_ct(tmp_path / "in", random_stored())
    derivation = Derivation("kernel L", "m", "k", sharpening=True, created=created)
    with pytest.raises(ValueError, match="must be"):
        derive(load(tmp_path / "in"), tmp_path / "out", np.zeros(shape, np.float32), derivation)
    assert not (tmp_path / "out").exists()
