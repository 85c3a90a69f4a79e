"""A volume -> DICOM files: its stored values, and a folder that appears complete or not at all. The only writer of DICOM."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian

from stan_ct import __version__
from stan_ct.ct.interpolation import METHOD, slice_between
from stan_ct.dicom import header as dicom
from stan_ct.dicom.between import Place, descending, set_place
from stan_ct.dicom.derived import Derivation, describe, drop_stale, local_time
from stan_ct.dicom.encoding import encode_dataset, set_element
from stan_ct.dicom.identity import IMPLEMENTATION_CLASS_UID, derived_series_uid, derived_uid
from stan_ct.dicom.limits import read_bounded
from stan_ct.dicom.refusal import Refused
from stan_ct.dicom.series import Instance, Series
from stan_ct.dicom.tolerance import tolerant
from stan_ct.errors import StanCTError
from stan_ct.files import replace_folder
from stan_ct.parallel import threaded

PIXEL_DATA = Tag("PixelData")

LOSSY = dict.fromkeys((f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 53, 55)), "ISO_10918_1")
LOSSY["1.2.840.10008.1.2.4.81"] = "ISO_14495_1"
"""Transfer syntaxes that always lose -> Lossy Image Compression Method (0028,2114)."""


def to_stored(hu: np.ndarray, header: dicom.Header, padding: np.ndarray) -> np.ndarray:
    """HU -> stored values, the inverse of the rescale: round((hu - intercept) / slope), clipped to what Bits Stored holds.

    Args:
        hu: Slice, (H, W) HU; where `padding` is True, the HU of the source, which become its stored values again.
        header: Header of the source slice.
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
    series: Series,
    volume: np.ndarray,
    folder: Path,
    derivation: Derivation,
    series_number: int,
    places: Sequence[Place] = (),
) -> tuple[str, ...]:
    """Writes a volume as the derived series of its source, one file per slice: IM0001.dcm and so on, along the normal.

    The files are made in PARENT/.incomplete/NAME for `folder` PARENT/NAME and moved there together: the folder
    appears complete or not at all, and one that exists is replaced only by a complete one.

    Args:
        series: The source. Slices read from files are read again, for the bytes of their headers; nothing is changed.
        volume: (Z, H, W) float32, HU. Ignored where the source is padding.
        folder: Folder of the files.
        derivation: Description of the derivation, for the headers and UIDs.
        series_number: Series Number (0020,0011), from :func:`stan_ct.dicom.identity.free_series_number`.
        places: Where slices are to lie, along the normal, if some are to be interpolated between those of the source; Instance
            Numbers (0020,0013) then count anew. By default each lies at its source.
    Returns:
        SOP Instance UIDs in the order of the slices.
    Raises:
        ValueError: If `volume` is not of the source's shape, or `derivation.created` has no time zone.
        Refused: `unreadable`, if a source file changed or went away after it was read.
    """
    folder = Path(folder)
    incomplete = folder.parent / ".incomplete" / folder.name
    try:
        shutil.rmtree(incomplete, ignore_errors=True)  # of a run that was killed
        uids = write_slices(series, volume, incomplete, derivation, series_number, places)
        replace_folder(incomplete, folder, incomplete.with_name(f"{incomplete.name}.replaced"))
    finally:
        shutil.rmtree(incomplete, ignore_errors=True)
        with suppress(OSError):  # another series may be under way in it
            incomplete.parent.rmdir()
    return uids


def write_slices(
    series: Series,
    volume: np.ndarray,
    folder: Path,
    derivation: Derivation,
    series_number: int,
    places: Sequence[Place] = (),
    at_once: int = 1,
) -> tuple[str, ...]:
    """Like :func:`write_series`, `at_once` files at a time into a folder that is made for them.

    Raises:
        ValueError, Refused: As :func:`write_series`.
        OSError: If the folder exists, or cannot be written.
    """
    if volume.shape != series.volume.shape:
        raise ValueError(f"volume must be {series.volume.shape} like its source, not {volume.shape}")
    if derivation.created.tzinfo is None:
        raise ValueError(f"created must be timezone-aware, not {derivation.created}")
    folder.mkdir(parents=True)
    return _write_slices(series, volume, folder, derivation, series_number, places, at_once)


def _write_slices(
    series: Series,
    volume: np.ndarray,
    folder: Path,
    derivation: Derivation,
    series_number: int,
    places: Sequence[Place],
    at_once: int,
) -> tuple[str, ...]:
    with tolerant():
        wide = any(_outside_bits(instance.header) and series.padding[z].any() for z, instance in enumerate(series.instances))
        created = local_time(derivation.created, series.files.first)
    numbers = range(len(places), 0, -1) if descending(series.instances) else range(1, len(places) + 1)

    @tolerant()
    def write(numbered: tuple[int, Place]) -> str:
        n, place = numbered
        z, instance, padding = place.below, series.instances[place.below], series.padding[place.below]
        stored = to_stored(np.where(padding, series.volume[z], _hu_at(place, series, volume)), instance.header, padding)
        uid = derived_uid(_source_of(place, series.instances), derivation.key)
        try:
            header = _bytes_of_header(instance)
            drop_stale(header)
            set_element(header, "SOPInstanceUID", uid)
            set_element(header, "SeriesInstanceUID", derived_series_uid(series.files, derivation.key))
            set_element(header, "SeriesNumber", series_number)
            describe(header, instance, _derivation_at(place, derivation), created, z)
            if places:
                set_element(header, "InstanceNumber", numbers[n])
                set_place(header, place, series.instances)
            _set_pixels(header, instance, stored, wide)
            data = dicom_file(header)
        except (StanCTError, MemoryError):
            raise
        except Exception as error:  # pydicom raises whatever it meets in a damaged header, OSError too
            if isinstance(error, OSError) and error.errno is not None:  # of the system
                raise
            raise Refused("unwritable_header", f"{type(error).__name__}: {dicom.first_line(error)}") from error
        (folder / f"IM{n + 1:04d}.dcm").write_bytes(data)
        return uid

    return tuple(threaded(write, enumerate(places or [Place(z) for z in range(len(series.instances))]), at_once))


def _hu_at(place: Place, series: Series, volume: np.ndarray) -> np.ndarray:
    """(H, W) HU at a place: of a slice, or between two, of which one stands for both where the other is padding."""
    z = place.below
    if not place.part:
        return volume[z]
    below, above = (np.where(series.padding[i], volume[other], volume[i]) for i, other in ((z, z + 1), (z + 1, z)))
    return slice_between(below, above, place.fraction, series.files.pixel_spacing)


def _source_of(place: Place, instances: Sequence[Instance]) -> str:
    """Text that tells a derived slice from all others of its series: UIDs of what it was made of, and its place."""
    below = instances[place.below].uid
    return f"{below} {instances[place.below + 1].uid} {place.part}/{place.parts}" if place.part else below


def _derivation_at(place: Place, derivation: Derivation) -> Derivation:
    """The derivation of a slice at a place: findings of its neighbours are not those of an interpolated one."""
    if not place.part:
        return derivation
    told = f"this slice is interpolated at {place.fraction:.2f} of the way between two slices: {METHOD}"
    comments = f"{derivation.comments} This slice is interpolated between two others.".strip()
    return replace(derivation, interpolated=told, comments=comments, slice_comments=())


def _outside_bits(header: dicom.Header) -> bool:
    """Whether padding lies outside Bits Stored, as some scanners' does: then all 16 bits are declared."""
    ends, (low, high) = dicom.padding_range(header), dicom.stored_range(header)
    return ends is not None and (ends[0] < low or ends[1] > high)


def _bytes_of_header(instance: Instance) -> Dataset:
    """The source's header in a copy to edit, each element as its bytes.

    pydicom forgets the bytes of an element once it has been looked at, so a slice that came from a file is read again.
    """
    if not instance.sha256:  # never was a file
        return Dataset({e.tag: deepcopy(e) for e in instance.header.elements()})
    try:
        if hashlib.sha256(read_bounded(instance.path)).hexdigest() != instance.sha256:
            raise Refused("unreadable", f"{instance.path} was changed after its pixels had been read")
        return dicom.read_header(instance.path)
    except OSError as error:
        raise Refused("unreadable", str(error)) from error


def _set_pixels(header: Dataset, instance: Instance, stored: np.ndarray, wide: bool) -> None:
    """Sets the stored values, (H, W), in the source's Pixel Representation, and what they mean."""
    signed = instance.header.PixelRepresentation == 1
    header[PIXEL_DATA] = DataElement(PIXEL_DATA, "OW", stored.astype("<i2" if signed else "<u2").tobytes())
    set_element(header, "SamplesPerPixel", 1)
    set_element(header, "RescaleType", "HU")  # is only understood of an ORIGINAL image
    if wide:
        set_element(header, "BitsStored", 16)
        set_element(header, "HighBit", 15)
    method = _lossy_method(instance.header)
    if method and instance.header.get("LossyImageCompression") != "01":
        set_element(header, "LossyImageCompression", "01")
        set_element(header, "LossyImageCompressionMethod", method)


def is_lossy(header: dicom.Header) -> bool:
    """Whether the pixels of a slice went through lossy compression, as its header (0028,2110) or its file says."""
    return str(header.get("LossyImageCompression", "")).strip() == "01" or bool(_lossy_method(header))


def _lossy_method(header: dicom.Header) -> str | None:
    return LOSSY.get(str(getattr(header, "file_meta", {}).get("TransferSyntaxUID")))


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
