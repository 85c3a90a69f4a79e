"""A standardized volume -> a derived CT series beside its source. The only writer of DICOM.

What changes is named here, element by element; everything else is written with the bytes it came with. So text in
any character set and values that break the rules survive, and neither is a reason to fail.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian

from stan_ct import __version__
from stan_ct.dicom import header as dicom
from stan_ct.dicom.encoding import element_bytes, encode_dataset, sequence_items
from stan_ct.dicom.identity import IMPLEMENTATION_CLASS_UID, derived_series_uid, derived_uid
from stan_ct.dicom.refusal import Refused
from stan_ct.dicom.series import Instance, Series
from stan_ct.files import replace_folder

STALE = {Tag(keyword) for keyword in (  # about the old pixels, the old file or the equipment that wrote it
    "LengthToEnd", "InstanceCreatorUID", "SmallestValidPixelValue", "LargestValidPixelValue", "SmallestImagePixelValue",
    "LargestImagePixelValue", "SmallestPixelValueInSeries", "LargestPixelValueInSeries", "SmallestImagePixelValueInPlane",
    "LargestImagePixelValueInPlane", "LargestMonochromePixelValue", "HistogramSequence", "PixelDataProviderURL",
    "IconImageSequence", "MACParametersSequence",
)}  # fmt: skip
STALE_GROUPS = {0x7FE0, 0xFFFA, 0xFFFC}  # pixels, signatures, trailing padding
PIXEL_DATA = Tag("PixelData")

LOSSY = dict.fromkeys((f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 53, 55)), "ISO_10918_1")
LOSSY["1.2.840.10008.1.2.4.81"] = "ISO_14495_1"
"""Transfer syntaxes that always lose -> Lossy Image Compression Method (0028,2114)."""


@dataclass(frozen=True)
class Derivation:
    """What was done to the source, for the DICOM headers and the UIDs.

    Attributes:
        target: The look aimed at, e.g. "kernel L".
        model: Name and short hash of the model.
        key: Model hash and flags; with the source's UIDs it determines the new ones.
        sharpening: True for Derivation Code 113086 Edge enhancement, False for 113087 Smoothing.
        created: Timezone-aware.
        caution: What whoever reads the series must know, ASCII; it follows in the Derivation Description.
        description: Derivation Description (0008,2111), ASCII; empty: that the series was standardized. One that does not
            open with "STAN-CT" leaves the series a possible source.
        contribution: Contribution Description (0018,A00E) of the tool, ASCII.
        attributes: Further (keyword, ASCII text) to set; "\\" parts values.
    """

    target: str
    model: str
    key: str
    sharpening: bool
    created: datetime
    caution: str = ""
    description: str = ""
    contribution: str = "CT image standardization"
    attributes: tuple[tuple[str, str], ...] = ()


def to_stored(hu: np.ndarray, header: Dataset, padding: np.ndarray) -> np.ndarray:
    """HU -> stored values, the inverse of the rescale: round((hu - intercept) / slope), clipped to what Bits Stored holds.

    Args:
        hu: (H, W), HU. Where `padding` is True: the source's, which come back as the stored values they were.
        header: Of the source slice.
        padding: (H, W) bool, True where the source pixel is padding.
    Returns:
        (H, W) int32. No pixel outside `padding` lies in the padding range (0028,0120): those that would take the
        nearest value beside it.
    Raises:
        ValueError: If a value of `hu` is not finite.
    """
    if not np.isfinite(hu).all():
        raise ValueError(f"HU must be finite, but {np.count_nonzero(~np.isfinite(hu))} pixels are not")
    low, high = dicom.stored_range(header)
    exact = np.rint((np.asarray(hu, np.float64) - float(header.RescaleIntercept)) / float(header.RescaleSlope))
    stored = np.clip(exact, low, high)
    if ends := dicom.padding_range(header):
        below, above = ends[0] - 1, ends[1] + 1
        up = (stored - below >= above - stored) if below >= low else True
        nearest = np.where(up & (above <= high), above, below)
        stored = np.where((stored > below) & (stored < above), nearest, stored)
    # Padding may lie outside the range that the header declares: it is not clipped.
    return np.where(padding, exact, stored).astype(np.int32)


def write_series(
    series: Series, volume: np.ndarray, folder: Path, derivation: Derivation, series_number: int
) -> tuple[str, ...]:
    """Writes a volume as the derived series of its source, one file per slice: IM0001.dcm and so on, along the normal.

    The files are made in OUT/.incomplete/NAME for `folder` OUT/series/NAME and moved there together: the folder
    appears complete or not at all, and one that exists is replaced only by a complete one. Not for threads.

    Args:
        series: The source. Slices read from files are read again, for the bytes of their headers; nothing is changed.
        volume: (Z, H, W) float32, HU. Ignored where the source is padding.
        folder: Where the files go.
        derivation: What was done.
        series_number: See :func:`stan_ct.dicom.identity.free_series_number`.
    Returns:
        SOP Instance UIDs in the order of the slices.
    Raises:
        ValueError: If `volume` is not of the source's shape or not finite, or `derivation.created` has no time zone.
        Refused: `unreadable`, if a source file changed or went away after it was read.
    """
    if volume.shape != series.volume.shape:
        raise ValueError(f"volume must be {series.volume.shape} like its source, not {volume.shape}")
    if derivation.created.tzinfo is None:
        raise ValueError(f"created must be timezone-aware, not {derivation.created}")
    folder = Path(folder)
    incomplete = folder.parent.parent / ".incomplete" / folder.name
    with dicom.tolerant():
        try:
            shutil.rmtree(incomplete, ignore_errors=True)  # of a run that was killed
            incomplete.mkdir(parents=True)
            uids = _write_slices(series, volume, incomplete, derivation, series_number)
            replace_folder(incomplete, folder, incomplete.with_name(f"{incomplete.name}.replaced"))
        finally:
            shutil.rmtree(incomplete, ignore_errors=True)
            with suppress(OSError):  # another series may be under way in it
                incomplete.parent.rmdir()
    return uids


def _write_slices(
    series: Series, volume: np.ndarray, folder: Path, derivation: Derivation, series_number: int
) -> tuple[str, ...]:
    slices = list(zip(series.instances, series.padding, strict=True))
    wide = any(padding.any() and _outside_bits(instance.header) for instance, padding in slices)
    created, uids = _local(derivation.created, series.files.first), []
    for z, (instance, padding) in enumerate(slices):
        stored = to_stored(np.where(padding, series.volume[z], volume[z]), instance.header, padding)
        header = _bytes_of_header(instance)
        _drop(header)
        header.SOPInstanceUID = derived_uid(instance.uid, derivation.key)
        header.SeriesInstanceUID = derived_series_uid(series.files, derivation.key)
        header.SeriesNumber = series_number
        _describe(header, instance, derivation, created)
        _set_pixels(header, instance, stored, wide)
        (folder / f"IM{z + 1:04d}.dcm").write_bytes(dicom_file(header))
        uids.append(header.SOPInstanceUID)
    return tuple(uids)


def _outside_bits(header: Dataset) -> bool:
    """Whether padding lies outside Bits Stored, as some scanners' does: then all 16 bits are declared."""
    ends, (low, high) = dicom.padding_range(header), dicom.stored_range(header)
    return ends is not None and (ends[0] < low or ends[1] > high)


def _local(created: datetime, header: Dataset) -> datetime:
    """The creation time in the source's time zone, Timezone Offset From UTC (0008,0201), where it states one."""
    offset = re.fullmatch(r"([+-])(\d\d)(\d\d)", str(header.get("TimezoneOffsetFromUTC", "") or "").strip())
    if not offset:
        return created
    sign, hours, minutes = offset.groups()
    ahead = timedelta(hours=int(hours), minutes=int(minutes))
    return created.astimezone(timezone(-ahead if sign == "-" else ahead)) if ahead < timedelta(hours=24) else created


def _bytes_of_header(instance: Instance) -> Dataset:
    """The source's header in a copy to edit, each element as its bytes.

    pydicom forgets the bytes of an element once it has been looked at, so a slice that came from a file is read again.
    """
    if not instance.sha256:  # never was a file
        return Dataset({e.tag: deepcopy(e) for e in instance.header.elements()})
    try:
        if hashlib.sha256(instance.path.read_bytes()).hexdigest() != instance.sha256:
            raise Refused("unreadable", f"{instance.path} was changed after its pixels had been read")
        return dicom.read_header(instance.path)
    except OSError as error:
        raise Refused("unreadable", str(error)) from error


def _drop(header: Dataset) -> None:
    """Removes what described the old pixels. Private elements and group lengths go when the header is encoded."""
    # An overlay without Overlay Data (60xx,3000) was in the unused bits of the old pixels.
    embedded = {g for g in range(0x6000, 0x6020, 2) if (g, 0x0102) in header and (g, 0x3000) not in header}
    for tag in list(header.keys()):
        if tag in STALE or tag.group in STALE_GROUPS | embedded or tag.group < 8:
            del header[tag]


def _describe(header: Dataset, instance: Instance, derivation: Derivation, created: datetime) -> None:
    """Says that, how, when and from what the slice was derived."""
    kind = instance.header.get("ImageType") or []
    kind = [kind] if isinstance(kind, str) else list(kind)
    header.ImageType = ["DERIVED", "PRIMARY", *(kind[2:] if len(kind) > 2 and kind[2] else ["AXIAL", *kind[3:]])]
    for what in ("InstanceCreation", "Content", "Series"):
        setattr(header, f"{what}Date", created.strftime("%Y%m%d"))
        setattr(header, f"{what}Time", created.strftime("%H%M%S"))
    target, model = _ascii(derivation.target), _ascii(derivation.model)
    _set_text(header, "SeriesDescription", _series_description(_text(header, "SeriesDescription"), target))
    standardized = f"{dicom.STAMP} {__version__}: pixel values standardized to {target[:200]} by {model[:200]}"
    if derivation.caution:
        standardized += f". CAUTION: {_ascii(derivation.caution)[:400]}"
    ours = (_ascii(derivation.description)[:900] or standardized).encode()
    before = _shortened(_text(header, "DerivationDescription"), 1000 - len(ours))
    _set_text(header, "DerivationDescription", ours + (b"; its source: " + before if before else b""))
    code = ("113086", "Edge enhancement") if derivation.sharpening else ("113087", "Smoothing")
    header.DerivationCodeSequence = [*_earlier(header, "DerivationCodeSequence"), _code(*code)]
    header.SourceImageSequence = [_source_image(instance)]
    tool = _contributing_equipment(model, derivation.contribution, created)
    header.ContributingEquipmentSequence = [*_earlier(header, "ContributingEquipmentSequence"), tool]
    for keyword, text in derivation.attributes:
        _set_text(header, keyword, b"\\".join(_ascii(value).encode() for value in text.split("\\")))


def _series_description(source: bytes, target: str) -> bytes:
    """The source's Series Description (0008,103E), shortened, and the target: at most 64 characters, not the source's."""
    ours = f"{dicom.STAMP} {target.removeprefix('kernel ')}"[:40].strip().encode()
    both = b" ".join(filter(None, [_shortened(source, 63 - len(ours)), ours]))
    return ours if both == source else both


def _shortened(text: bytes, room: int) -> bytes:
    """Text of any character set in at most `room` bytes. Cut where no set has half a character, or left out."""
    if len(text) <= room:
        return text
    if b"\x1b" in text:  # a code extension may be open anywhere
        return b""
    return text[:room].strip() if text.isascii() else text[: room + 1].rpartition(b" ")[0]


def _source_image(instance: Instance) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = instance.header.SOPClassUID
    item.ReferencedSOPInstanceUID = instance.uid
    item.PurposeOfReferenceCodeSequence = [_code("121322", "Source image for image processing operation")]
    item.SpatialLocationsPreserved = "YES"
    return item


def _contributing_equipment(model: str, contribution: str, created: datetime) -> Dataset:
    """The tool's item; Manufacturer (0008,0070) and its like keep naming the scanner, whose data these still are."""
    item = Dataset()
    item.Manufacturer = dicom.STAMP
    item.ManufacturerModelName = model[:64].strip()
    item.SoftwareVersions = __version__
    item.ContributionDateTime = created.strftime("%Y%m%d%H%M%S%z")
    item.ContributionDescription = contribution
    item.PurposeOfReferenceCodeSequence = [_code("109102", "Processing Equipment")]
    return item


def _code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item


def _set_pixels(header: Dataset, instance: Instance, stored: np.ndarray, wide: bool) -> None:
    """Sets the stored values, (H, W), in the source's Pixel Representation, and what they mean."""
    signed = instance.header.PixelRepresentation == 1
    header[PIXEL_DATA] = DataElement(PIXEL_DATA, "OW", stored.astype("<i2" if signed else "<u2").tobytes())
    header.SamplesPerPixel = 1
    header.RescaleType = "HU"  # is only understood of an ORIGINAL image
    if wide:
        header.BitsStored, header.HighBit = 16, 15
    method = LOSSY.get(getattr(instance.header, "file_meta", {}).get("TransferSyntaxUID"))
    if method and instance.header.get("LossyImageCompression") != "01":
        header.LossyImageCompression, header.LossyImageCompressionMethod = "01", method


def dicom_file(dataset: Dataset) -> bytes:
    """A DICOM file, Explicit VR Little Endian, whatever the dataset was read from; without private elements."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    meta.ImplementationVersionName = f"{dicom.STAMP} {__version__}"[:16]
    file = DicomBytesIO()
    write_file_meta_info(file, meta)
    return bytes(128) + b"DICM" + file.getvalue() + encode_dataset(dataset, dataset.PixelRepresentation == 1)


def _earlier(header: Dataset, keyword: str) -> list[Dataset]:
    """The items that the source has in a sequence."""
    return (sequence_items(header.get_item(keyword)) or []) if keyword in header else []


def _text(header: Dataset, keyword: str) -> bytes:
    """A text as the bytes it has in the source's character set, empty where it is absent."""
    return (
        element_bytes(header.get_item(keyword), header.get("SpecificCharacterSet")).strip(b" \0") if keyword in header else b""
    )


def _set_text(header: Dataset, keyword: str, text: bytes) -> None:
    tag = Tag(keyword)
    header[tag] = RawDataElement(tag, dictionary_VR(tag), len(text), text, 0, False, True)


def _ascii(text: str) -> str:
    """Printable ASCII without the backslash, which would start another value."""
    return re.sub(r"[^ -\[\]-~]", "?", text).strip()
