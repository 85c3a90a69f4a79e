"""Volumes that lie on disk, so that of a series of any length a few slices are in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any, cast

import numpy as np


class _Bytes:
    """A file without a name, closed with the last volume that uses it."""

    def __init__(self, size: int, folder: Path) -> None:
        self._file, self._lock = tempfile.TemporaryFile(dir=folder, buffering=0), Lock()  # noqa: SIM115 (closed with it)
        self._file.truncate(size)

    def __del__(self) -> None:
        with suppress(AttributeError):  # it could not be made
            self._file.close()

    def read(self, place: int, into: memoryview) -> None:
        with self._lock:
            self._file.seek(place)
            while into and (number := self._file.readinto(into)):
                into = into[number:]
        if into:
            raise OSError("the file of a volume ends too early")

    def write(self, place: int, data: memoryview) -> None:
        with self._lock:
            self._file.seek(place)
            while data:
                data = data[self._file.write(data) :]


class VolumeFile:
    """A (Z, H, W) array in a file without a name, which goes with it, whatever becomes of the process.

    What :meth:`__getitem__` returns is a copy: slices are changed by assignment. Any number of threads may use it.

    Args:
        shape: (Z, H, W); all values are 0 at first, and take no room on disk.
        dtype: Type of the values.
        folder: Where the file lies; it must be a folder of a file system that has room for it.
    """

    def __init__(self, shape: Sequence[int], dtype: Any, folder: Path) -> None:
        self.shape, self.dtype, self.folder = tuple(shape), np.dtype(dtype), folder
        self._places: Sequence[int] = range(self.shape[0])
        self._bytes = _Bytes(int(np.prod(self.shape)) * self.dtype.itemsize, folder)

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[z] for z in range(len(self)))

    def __getitem__(self, z: int) -> np.ndarray:
        """Slice z, (H, W).

        Raises:
            OSError: If it cannot be read.
        """
        image = np.empty(self.shape[1:], self.dtype)
        self._bytes.read(self._place(z), image.data.cast("B"))
        return image

    def __setitem__(self, z: int, image: np.ndarray) -> None:
        """Writes slice z.

        Raises:
            OSError: If it cannot be written: the disk is full.
            ValueError: If it has another shape.
        """
        if image.shape != self.shape[1:]:
            raise ValueError(f"a slice of this volume is {self.shape[1:]}, not {image.shape}")
        self._bytes.write(self._place(z), np.ascontiguousarray(image, self.dtype).data.cast("B"))

    def take(self, slices: Sequence[int]) -> VolumeFile:
        """Some of the slices; both write to the same file."""
        made = object.__new__(VolumeFile)
        made.__dict__.update(self.__dict__)
        made.shape, made._places = (len(slices), *self.shape[1:]), [self._places[z] for z in slices]
        return made

    def _place(self, z: int) -> int:
        return self._places[z] * int(np.prod(self.shape[1:])) * self.dtype.itemsize


def zeros(shape: Sequence[int], dtype: Any, folder: Path | None = None) -> np.ndarray:
    """A (Z, H, W) volume of zeros: an array, or with a folder a :class:`VolumeFile`, which stands for one slice by slice."""
    return np.zeros(shape, dtype) if folder is None else cast(np.ndarray, VolumeFile(shape, dtype, folder))


def zeros_like(volume: np.ndarray) -> np.ndarray:
    """A volume of zeros as large as another, where that one is: in memory or on disk."""
    return zeros(volume.shape, volume.dtype, getattr(volume, "folder", None))


def take(volume: np.ndarray, slices: Sequence[int]) -> np.ndarray:
    """Some slices of a volume."""
    return cast(np.ndarray, volume.take(slices)) if isinstance(volume, VolumeFile) else volume[slices]
