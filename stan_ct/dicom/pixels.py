"""Decoding of the pixels of a DICOM file: stored values or a refusal, never a crash or silently dropped bits."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pydicom
import pydicom.pixels
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import (
    JPEG2000,
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
)

from stan_ct.dicom import header as dicom
from stan_ct.dicom.amount import check_amount
from stan_ct.dicom.limits import BoundedBytes
from stan_ct.dicom.refusal import Refused
from stan_ct.dicom.tolerance import tolerant
from stan_ct.parallel import end_with_parent

# GDCM crashes the process on some damaged streams: it is used only where nothing else decodes (JPEG), in another process.
WITHOUT_GDCM = {
    **dict.fromkeys((JPEG2000, JPEG2000Lossless), ("pylibjpeg", "pillow")),
    **dict.fromkeys((JPEGLSLossless, JPEGLSNearLossless), ("pylibjpeg", "pyjpegls")),
}
"""Transfer syntaxes that GDCM could decode too -> pydicom's plugins to use instead, in this order."""
FRAGILE = {JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1}
"""Transfer syntaxes that GDCM decodes, in a separate process."""
PANIC = "PanicException"
"""Name of the exception, no `Exception`, with which decoders written in Rust panic."""


@tolerant()
def decode(data: bytes) -> tuple[FileDataset, np.ndarray]:
    """Decodes the pixels of one file.

    Args:
        data: The bytes of the whole file.
    Returns:
        The dataset without its pixels, and the stored values, (H, W) int32.
    Raises:
        Refused: `unreadable`, `truncated`, `excess_bytes`, `undecodable` or `stored_value_overflow`.
    """
    try:
        dataset = _read(data)
    except Refused:
        raise
    except Exception as error:
        raise Refused("unreadable", dicom.first_line(error)) from error
    syntax = dataset.file_meta.TransferSyntaxUID
    if not isinstance(syntax, UID) or not syntax.is_transfer_syntax:
        raise Refused("undecodable", f"Transfer Syntax {syntax}")
    try:
        check_amount(dataset, data)
        stored = _apart(data) if syntax in FRAGILE else _decoded(dataset, WITHOUT_GDCM.get(syntax, ()))
    except Refused:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != PANIC:  # Ctrl-C, SIGTERM
            raise
        reason = "undecodable" if syntax.is_compressed else "truncated"
        raise Refused(reason, f"{syntax.name}: {dicom.first_line(error)}") from error
    if stored.shape != (dataset.Rows, dataset.Columns):
        raise Refused("undecodable", f"decoded to {stored.shape}, not ({dataset.Rows}, {dataset.Columns})")
    del dataset.PixelData
    dataset.buffer = None  # would keep the whole file in memory
    return dataset, _within_bits_stored(stored, dataset)


def _read(data: bytes) -> FileDataset:
    dataset = pydicom.dcmread(BoundedBytes(data), force=True)
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = _native_syntax(dataset)
    return dataset


def _decoded(dataset: FileDataset, plugins: tuple[str, ...]) -> np.ndarray:
    """Stored values by the first of pydicom's plugins that is installed and can decode them; by any if none is named."""
    if not plugins:
        return _stored_values(dataset)
    available = pydicom.pixels.get_decoder(dataset.file_meta.TransferSyntaxUID).available_plugins
    failures = []
    for plugin in [p for p in plugins if p in available] or plugins[:1]:
        try:
            return _stored_values(dataset, plugin)
        except RuntimeError as error:
            failures.append(error)
    opening, *_ = str(failures[0]).split("\n")
    raise RuntimeError("\n".join([opening, *(str(failure).partition("\n")[2] for failure in failures)]))


def _stored_values(dataset: FileDataset, plugin: str = "") -> np.ndarray:
    # As they come: pydicom would clear the bits above Bits Stored, and with them the sign that something is wrong.
    dataset.pixel_array_options(correct_unused_bits=False, decoding_plugin=plugin)
    return dataset.pixel_array.astype(np.int32)


_lock, _pool = threading.Lock(), None
_inherited: list[ProcessPoolExecutor | None] = []


def _forget_pool() -> None:
    """Called in a fork of this process: the pool's threads stayed behind, so that it would never answer."""
    global _lock, _pool
    _inherited.append(_pool)  # to collect it would wake up the parent's
    _lock, _pool = threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def _apart(data: bytes) -> np.ndarray:
    """Decodes in a separate process, one file at a time, so that a crash concerns this file alone."""
    global _pool
    with _lock:
        if _pool is None:
            _pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), end_with_parent)
        try:
            return _pool.submit(_decode_here, data).result()
        except BrokenProcessPool as error:
            _pool = None
            raise RuntimeError("the decoder crashed at this file") from error


def _decode_here(data: bytes) -> np.ndarray:
    """Decodes in the separate process. GDCM completes a truncated stream with arbitrary values and says so on stderr only."""
    with tempfile.TemporaryFile() as muttered, tolerant():
        os.dup2(muttered.fileno(), 2)
        stored = _stored_values(_read(data))
        muttered.seek(0)
        if b"premature end" in muttered.read():
            raise RuntimeError("the compressed data end too early")
    return stored


def _native_syntax(dataset: FileDataset) -> UID:
    implicit, little = dataset.original_encoding
    return ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def _within_bits_stored(stored: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Stored values within Bits Stored, without what the unused bits above may lawfully contain.

    These are overlay planes (60xx,0102), and, in signed pixels, zeros where the sign was not extended.

    Raises:
        Refused: `stored_value_overflow` for other values outside the range, unless they are padding.
    """
    low, high = dicom.stored_range(dataset)
    if stored.min() >= low and stored.max() <= high:
        return stored
    overlay = any((g, 0x0102) in dataset and (g, 0x3000) not in dataset for g in range(0x6000, 0x6020, 2))
    unextended = dataset.PixelRepresentation == 1 and stored.min() >= 0 and stored.max() < 2**dataset.BitsStored
    if overlay or unextended:
        bits = stored & (2**dataset.BitsStored - 1)
        return np.where(bits > high, bits - 2**dataset.BitsStored, bits)
    ends = dicom.padding_range(dataset)
    outside = (stored < low) | (stored > high)
    if ends and ((stored >= ends[0]) & (stored <= ends[1]))[outside].all():
        return stored
    raise Refused("stored_value_overflow", f"values {stored.min()}..{stored.max()} where Bits Stored holds {low}..{high}")
