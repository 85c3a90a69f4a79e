"""Arrays on disk as data: an `.npz` file that is whole and holds numbers, or an error that says what is wrong."""

from __future__ import annotations

import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np

from stan_ct.errors import StanCTError

HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
"""Version of the `.npy` format -> reader of its header."""


class DamagedArrays(StanCTError, ValueError):
    """A file is no archive of numbers, or not a whole one."""


def read_arrays(path: Path | str, largest: int | None = None) -> dict[str, np.ndarray]:
    """Reads the arrays of an uncompressed `.npz` file, as `numpy.savez` writes it.

    Nothing in the file is executed: pickled objects are refused. No more memory is used than the file is long, and the
    checksum of every array is compared.

    Args:
        path: The file.
        largest: Most bytes that it may have; None: any number.
    Returns:
        Name -> array, of whole or floating-point numbers.
    Raises:
        FileNotFoundError: If there is no such file.
        DamagedArrays: If it is not whole, or holds anything else.
    """
    path = Path(path)
    length = path.stat().st_size
    if largest is not None and length > largest:
        raise DamagedArrays(f"{path} has {length} bytes, more than the {largest} that are read")
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_members(members, length)
            return {member.filename.removesuffix(".npy"): _array(archive.read(member)) for member in members}
    except Exception as error:  # zipfile and NumPy raise whatever they meet in a damaged file
        detail = " ".join(str(error).split())[:160] or type(error).__name__
        raise DamagedArrays(f"{path} is not a whole archive of numbers: {detail}") from error


def _check_members(members: list[zipfile.ZipInfo], length: int) -> None:
    """Refuses archives that would unpack to more than they are long."""
    names = [member.filename for member in members]
    if len(set(names)) < len(names):
        raise ValueError("two arrays have one name")
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("it is compressed, expected the format of numpy.savez")
    if sum(member.file_size for member in members) > length:
        raise ValueError("its arrays are longer than the file")


def _array(data: bytes) -> np.ndarray:
    """Array of an `.npy` file."""
    stream = BytesIO(data)
    version = np.lib.format.read_magic(stream)
    if version not in HEADERS:
        raise ValueError(f"version {version} of the array format is not known")
    shape, by_column, dtype = HEADERS[version](stream)
    if dtype.kind not in "fiub":
        raise ValueError(f"it holds values of type {dtype}, expected numbers")
    values = np.frombuffer(data, dtype, offset=stream.tell())
    return values.reshape(shape, order="F" if by_column else "C").copy()
