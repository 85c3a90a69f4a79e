"""Series that are damaged: synthetic ones, or real ones, cropped, with all elements of their headers."""

from __future__ import annotations

import random
from pathlib import Path

import gdcm
import numpy as np
import pydicom
from pydicom.uid import ExplicitVRLittleEndian, JPEGLosslessSV1
from synthetic import SYNTAXES, random_stored, save, write_ct

from stan_ct.dicom.find import find_series
from stan_ct.dicom.pixels import decode
from stan_ct.dicom.refusal import Refused
from stan_ct.dicom.series import SeriesFiles
from stan_ct.dicom.tolerance import tolerant

SLICES, SIDE = 3, 64
"""Slices of a series, and pixels on a side to which those of real series are cropped."""
LARGEST_FILE = 300_000
"""Files that are no CT series are damaged as they are up to this size, bytes."""
ENCODINGS = (*("explicit",) * 8, "implicit", "implicit", "big endian", "deflated", "RLE", "RLE", "JPEG lossless")
ENCODINGS += ("JPEG 2000", "JPEG 2000", "JPEG-LS", "JPEG-LS")
"""Encodings, the frequent ones often."""

Base = list[pydicom.Dataset]
"""Neighbouring slices of a series, with their pixels."""


def read_bases(work: Path, sources: list[Path]) -> tuple[list[Base], list[Path]]:
    """Series to damage, and small files that are none, to damage as they are.

    Args:
        work: Folder for synthetic series.
        sources: Trees of files; without one, the series are synthetic.
    """
    if not sources:
        sources = [work / "synthetic"]
        for number, signed in ((1, False), (2, True)):
            stored = random_stored((SLICES, SIDE, SIDE), seed=number) // 16 + (0 if signed else 1000)
            write_ct(sources[0] / str(number), stored, signed=signed, intercept="0" if signed else "-1024", series=number)
    inventories = [find_series(source) for source in sources]
    bases = [base for inventory in inventories for files in inventory.series if (base := _read_base(files))]
    others = {path for source in sources for path in source.rglob("*") if path.is_file()}
    others -= {
        i.path for inventory in inventories for files in inventory.series if len(files.instances) > 1 for i in files.instances
    }
    whole = [files for inventory in inventories for files in inventory.series if len(files.instances) > 1]
    others -= {instance.path for files in whole for instance in files.instances}
    return bases, sorted(path for path in others if 0 < path.stat().st_size <= LARGEST_FILE)


@tolerant()
def _read_base(files: SeriesFiles) -> Base:
    middle = max(len(files.instances) // 2 - SLICES // 2, 0)
    try:
        base = [_cropped(instance.path) for instance in files.instances[middle : middle + SLICES]]
        encode(base[0], "deflated", "1.2.3", "1.2")
    except (Refused, NotImplementedError, ValueError):  # so odd that pydicom cannot write it
        return []
    return base


def _cropped(path: Path) -> pydicom.Dataset:
    """The middle of a slice, with the header of the whole."""
    dataset, stored = decode(path.read_bytes())
    height, width = (min(n, SIDE) for n in stored.shape)
    row, column = (stored.shape[0] - height) // 2, (stored.shape[1] - width) // 2
    pixels = stored[row : row + height, column : column + width]
    cropped = pydicom.Dataset({e.tag: e for e in dataset.elements()})
    cropped.Rows, cropped.Columns = pixels.shape
    cropped.PixelData = (pixels.astype(np.int64) & 0xFFFF).astype("<u2").tobytes()
    return cropped


@tolerant()
def encode(dataset: pydicom.Dataset, encoding: str, uid: str, study: str) -> bytes:
    """A file of a slice, in a study of its own."""
    copy = pydicom.Dataset({e.tag: e for e in dataset.elements()})
    copy.SOPInstanceUID, copy.StudyInstanceUID, copy.SeriesInstanceUID = uid, study, f"{study}.9"
    dtype = "<i2" if copy.PixelRepresentation else "<u2"
    pixels = np.frombuffer(dataset.PixelData, dtype).reshape(copy.Rows, copy.Columns)
    path = Path(f"/dev/shm/faults-{random.getrandbits(64)}.dcm")
    try:
        save(copy, SYNTAXES.get(encoding, ExplicitVRLittleEndian), pixels, path)
        if encoding == "JPEG lossless":
            compress_jpeg(path)
        return path.read_bytes()
    finally:
        path.unlink(missing_ok=True)


def compress_jpeg(path: Path) -> None:
    """Compresses a file in place as lossless JPEG, which a process of its own decodes."""
    dataset = pydicom.dcmread(path)
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(path))
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    if not reader.Read():
        raise OSError(f"{path} cannot be read")
    change.SetInput(reader.GetImage())
    if not change.Change():
        raise OSError(f"{path} cannot be compressed")
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    if not writer.Write():
        raise OSError(f"{path} cannot be written")
    dataset.add_new(0x7FE00010, "OB", pydicom.dcmread(path).PixelData)  # and none of what GDCM does to the header
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    dataset.save_as(path, enforce_file_format=True)
