"""What changes in the header of a derived slice: how, when and from what it was derived.

What changes is named here, element by element; everything else is written with the bytes it came with. So text in
any character set and values that break the rules survive, and neither is a reason to fail.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from stan_ct import __version__
from stan_ct.ct.display_windows import DisplayWindow
from stan_ct.dicom import header as dicom
from stan_ct.dicom.display import set_window
from stan_ct.dicom.encoding import element_bytes, sequence_items, set_element
from stan_ct.dicom.series import Instance

STALE = {Tag(keyword) for keyword in (  # about the old pixels, the old file or the equipment that wrote it
    "LengthToEnd", "InstanceCreatorUID", "SmallestValidPixelValue", "LargestValidPixelValue", "SmallestImagePixelValue",
    "LargestImagePixelValue", "SmallestPixelValueInSeries", "LargestPixelValueInSeries", "SmallestImagePixelValueInPlane",
    "LargestImagePixelValueInPlane", "LargestMonochromePixelValue", "HistogramSequence", "PixelDataProviderURL",
    "IconImageSequence", "MACParametersSequence",
)}  # fmt: skip
EDGE_ENHANCEMENT, SMOOTHING = ("113086", "Edge enhancement"), ("113087", "Smoothing")
SOURCE_IMAGE = ("121322", "Source image for image processing operation")
EQUIPMENT = ("109102", "Processing Equipment")
"""Codes of DICOM (PS3.16 annex D) and their meanings; the table of pydicom takes a tenth of a second to load."""
MAX_DESCRIPTION, MAX_WARNING, MAX_TARGET = 64, 30, 32
"""Most characters of a Series Description, which is a Long String (LO), and of the warning and the target in it."""
MAX_COMMENTS, MAX_OUR_COMMENTS = 10240, 4000
"""Most characters of Image Comments, which are a Long Text (LT), and of ours in them."""
NEW_LINE = b"\r\n"
STALE_GROUPS = {0x7FE0, 0xFFFA, 0xFFFC}  # pixels, signatures, trailing padding


@dataclass(frozen=True)
class Derivation:
    """What was done to the source, for the DICOM headers and the UIDs.

    Attributes:
        target: Protocol of the target, e.g. "kernel L".
        model: Name and short hash of the model.
        key: Model hash and flags; together with the source's UIDs it determines the new UIDs.
        sharpening: True for Derivation Code 113086 Edge enhancement, False for 113087 Smoothing.
        created: Creation time, timezone-aware.
        thickness: Slice Thickness (0018,0050) that the slices are made to have, mm; 0: it stays the source's.
        interpolated: How a slice was interpolated that lies between two of the source, ASCII; empty for all others.
        caution: Warning to readers (ASCII), appended to Derivation Description.
        description: Derivation Description (0008,2111), ASCII; by default it says that the series was standardized. Only a
            series whose description starts with "STAN-CT" is refused as a source.
        contribution: Contribution Description (0018,A00E) of the tool, ASCII.
        attributes: Further (keyword, ASCII text) to set; "\\" separates values.
        warning: ASCII words in capitals with which the Series Description (0008,103E) begins; empty for none.
        comments: Image Comments (0020,4000) of every slice, ASCII; the source's follow. Empty: they stay the source's.
        slice_comments: Further comments of each slice, in the order of the slices, ASCII; empty if no slice has any.
        window: Display window that comes first where the source's first is one for soft tissue; None: windows stay.
    """

    target: str
    model: str
    key: str
    sharpening: bool
    created: datetime
    thickness: float = 0.0
    interpolated: str = ""
    caution: str = ""
    description: str = ""
    contribution: str = "CT image standardization"
    attributes: tuple[tuple[str, str], ...] = ()
    warning: str = ""
    comments: str = ""
    slice_comments: tuple[str, ...] = ()
    window: DisplayWindow | None = None


def local_time(created: datetime, header: dicom.Header) -> datetime:
    """The creation time in the source's time zone, Timezone Offset From UTC (0008,0201), where it states one."""
    offset = re.fullmatch(r"([+-])(\d\d)(\d\d)", str(header.get("TimezoneOffsetFromUTC", "") or "").strip())
    if not offset:
        return created
    sign, hours, minutes = offset.groups()
    ahead = timedelta(hours=int(hours), minutes=int(minutes))
    return created.astimezone(timezone(-ahead if sign == "-" else ahead)) if ahead < timedelta(hours=24) else created


def drop_stale(header: Dataset) -> None:
    """Removes elements about the old pixels. Private elements and group lengths are removed when the header is encoded."""
    # An overlay without Overlay Data (60xx,3000) was in the unused bits of the old pixels.
    embedded = {g for g in range(0x6000, 0x6020, 2) if (g, 0x0102) in header and (g, 0x3000) not in header}
    for tag in list(header.keys()):
        if tag in STALE or tag.group in STALE_GROUPS | embedded or tag.group < 8:
            del header[tag]


def describe(header: Dataset, instance: Instance, derivation: Derivation, created: datetime, index: int) -> None:
    """Describes how, when and from which slice this one was derived.

    Args:
        header: Header of the source slice, which is edited.
        instance: Source slice.
        derivation: What was done.
        created: Creation time, in the source's time zone.
        index: Index of the slice in the series.
    """
    kind = [str(value) for value in dicom.values_of(instance.header, "ImageType")]
    kind = ["DERIVED", "PRIMARY", *(kind[2:] if len(kind) > 2 and kind[2] else ["AXIAL", *kind[3:]])]
    set_element(header, "ImageType", kind)
    for what in ("InstanceCreation", "Content", "Series"):
        set_element(header, f"{what}Date", created.strftime("%Y%m%d"))
        set_element(header, f"{what}Time", created.strftime("%H%M%S"))
    target, model = _ascii(derivation.target), _ascii(derivation.model)
    _set_text(header, "SeriesDescription", _series_description(_text(header, "SeriesDescription"), target, derivation.warning))
    standardized = f"{dicom.STAMP} {__version__}: pixel values standardized to {target[:200]} by {model[:200]}"
    if derivation.thickness:
        stated = header.get("SliceThickness")
        was = f"{_ascii(str(stated))[:20]} mm" if stated else "not stated"
        standardized += f"; Slice Thickness is derived (source: {was}), {derivation.interpolated or 'positions unchanged'}"
        set_element(header, "SliceThickness", f"{derivation.thickness:g}")
    if derivation.caution:
        standardized += f". CAUTION: {_ascii(derivation.caution)[:400]}"
    ours = (_ascii(derivation.description)[:900] or standardized).encode()
    before = _shortened(_text(header, "DerivationDescription"), 1000 - len(ours))
    _set_text(header, "DerivationDescription", ours + (b"; its source: " + before if before else b""))
    code = EDGE_ENHANCEMENT if derivation.sharpening else SMOOTHING
    set_element(header, "DerivationCodeSequence", [*_earlier(header, "DerivationCodeSequence"), _code_item(code)])
    set_element(header, "SourceImageSequence", [source_image(instance)])
    tool = _contributing_equipment(model, derivation.contribution, created)
    set_element(header, "ContributingEquipmentSequence", [*_earlier(header, "ContributingEquipmentSequence"), tool])
    _set_comments(header, derivation, index)
    if derivation.window:
        set_window(header, derivation.window, f"{dicom.STAMP} {target.removeprefix('kernel ')}"[:64].strip())
    for keyword, text in derivation.attributes:
        _set_text(header, keyword, b"\\".join(_ascii(value).encode() for value in text.split("\\")))


def _series_description(source: bytes, target: str, warning: str) -> bytes:
    """Warning, the source's Series Description (0008,103E), shortened, and target: <= 64 characters, not the source's."""
    first = _ascii(warning)[:MAX_WARNING].strip().encode()
    last = f"{dicom.STAMP} {target.removeprefix('kernel ')}"[:MAX_TARGET].strip().encode()
    room = MAX_DESCRIPTION - len(last) - 1 - (len(first) + 1 if first else 0)
    parts = ([first, _shortened(source, room), last], [first, last], [last])
    return next(text for words in parts if (text := b" ".join(filter(None, words))) != source)


def _set_comments(header: Dataset, derivation: Derivation, index: int) -> None:
    """Sets Image Comments (0020,4000): of the series, of the slice, and what the source says, in whole or shortened."""
    of_slice = derivation.slice_comments[index] if derivation.slice_comments else ""
    ours = " ".join(filter(None, map(_ascii, (derivation.comments, of_slice))))[:MAX_OUR_COMMENTS].encode()
    if ours:
        before = _shortened(_text(header, "ImageComments"), MAX_COMMENTS - len(ours) - len(NEW_LINE))
        _set_text(header, "ImageComments", ours + (NEW_LINE + before if before else b""))


def _shortened(text: bytes, room: int) -> bytes:
    """Text of any character set in at most `room` bytes. Cut where no set has half a character, or left out."""
    if len(text) <= room:
        return text
    if b"\x1b" in text:  # a code extension may be open anywhere
        return b""
    return text[:room].strip() if text.isascii() else text[: room + 1].rpartition(b" ")[0]


def source_image(instance: Instance, located: bool = True) -> Dataset:
    """Item of Source Image Sequence (0008,2112).

    Args:
        instance: Slice of the source.
        located: Whether pixels lie where they lay in it.
    """
    item = Dataset()
    item.ReferencedSOPClassUID = instance.header.SOPClassUID
    item.ReferencedSOPInstanceUID = instance.uid
    item.PurposeOfReferenceCodeSequence = [_code_item(SOURCE_IMAGE)]
    item.SpatialLocationsPreserved = "YES" if located else "NO"
    return item


def _contributing_equipment(model: str, contribution: str, created: datetime) -> Dataset:
    """The tool's item; Manufacturer (0008,0070) and its like keep naming the scanner, whose data these still are."""
    item = Dataset()
    item.Manufacturer = dicom.STAMP
    item.ManufacturerModelName = model[:64].strip()
    item.SoftwareVersions = __version__
    item.ContributionDateTime = created.strftime("%Y%m%d%H%M%S%z")
    item.ContributionDescription = contribution
    item.PurposeOfReferenceCodeSequence = [_code_item(EQUIPMENT)]
    return item


def _code_item(code: tuple[str, str]) -> Dataset:
    item = Dataset()
    item.CodingSchemeDesignator = "DCM"
    item.CodeValue, item.CodeMeaning = code
    return item


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
