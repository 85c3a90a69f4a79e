"""Input that is one file and stands for many: a .zip archive, unpacked with care, and the DICOMDIR of a medium."""

from __future__ import annotations

import glob
import os
import re
import shutil
import socket
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from pydicom.uid import MediaStorageDirectoryStorage

from stan_ct.dicom import header as dicom
from stan_ct.dicom.refusal import Refusal, Refused
from stan_ct.dicom.tolerance import tolerant
from stan_ct.errors import UsageError

LARGEST_RATIO = 200
"""Largest ratio of unpacked to packed bytes of an archive; CT packs to a half or a third, empty slices to a hundredth."""
MOST_FILES = 1_000_000
"""Most files in an archive."""
SPARED = 0.1
"""Share of the free disk space that is left free."""
PIECE = 1 << 20
"""Bytes that are unpacked at a time."""


def is_archive(path: Path) -> bool:
    """Whether a path is a .zip archive, or begins as one, as what was cut short does."""
    try:
        with open(path, "rb") as file:
            return file.read(4) == b"PK\3\4" or zipfile.is_zipfile(file)
    except OSError:  # a folder, or a file that others say what is wrong with
        return False


def folder_of_medium(path: Path) -> Path:
    """The folder of a medium, where a path is its DICOMDIR; else the path."""
    try:
        if path.is_file() and dicom.looks_like_dicom(path):
            header = dicom.read_header(path)
            return path.parent if dicom.media_sop_class(header) == MediaStorageDirectoryStorage else path
    except (Refused, OSError):  # the search says what is wrong with it
        pass
    return path


def missing_from_medium(path: Path) -> list[Refusal]:
    """The images that the DICOMDIR of a medium names and that are not there: a copy of it may have lost them.

    Args:
        path: The DICOMDIR; nothing is missing from any other input.
    """
    folder = folder_of_medium(path)
    if folder == path:
        return []
    with tolerant():
        records = dicom.read_header(path).get("DirectoryRecordSequence") or []
        images = (record.get("ReferencedFileID") for record in records if record.get("DirectoryRecordType") == "IMAGE")
        named = [[name] if isinstance(name, str) else list(map(str, name)) for name in images if name]
    gone = [parts for parts in named if not folder.joinpath(*parts).is_file()]
    if not gone:
        return []
    there = {re.sub(r"\.?(;\d+)?$", "", p.relative_to(folder).as_posix()).casefold() for p in folder.rglob("*")}
    missing = tuple(folder.joinpath(*parts) for parts in gone if "/".join(parts).casefold() not in there)
    told = f"{len(missing)} of {len(named)} images that DICOMDIR names are missing"
    return [Refusal("missing_files", told, missing)] if missing else []


@contextmanager
def unpacked(archive: Path, beside: Path) -> Iterator[Path]:
    """Context in which the files of an archive lie in a folder, which only its owner can read and which is removed in the end.

    Args:
        archive: A .zip file.
        beside: Path that the folder lies beside, hidden; what killed processes of this machine have left there is removed.
    Yields:
        The folder.
    Raises:
        UsageError: If the archive is damaged or encrypted, holds files outside of itself, links or one file twice, or would
            unpack to more than the disk holds, `LARGEST_RATIO` times its size, or `MOST_FILES` files.
        OSError: If the folder cannot be written.
    """
    with hidden_folder(beside, "unpacked") as folder:
        try:
            with zipfile.ZipFile(archive) as opened:
                _unpack(opened, archive, folder)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeError, RuntimeError) as error:
            advice = "Pack it again, or unpack it and give the folder"
            raise UsageError(f"{archive} cannot be unpacked: {error}. {advice}") from error
        yield folder


@contextmanager
def hidden_folder(beside: Path, purpose: str) -> Iterator[Path]:
    """Context of a folder that only its owner can read, and that is removed in the end.

    Args:
        beside: Path that the folder lies beside, hidden; what killed processes of this machine have left there is removed.
        purpose: Part of its name.
    Raises:
        OSError: If it cannot be made.
    """
    stem = f".{beside.name}.{purpose}.{socket.gethostname()}."
    for left in beside.parent.glob(f"{glob.escape(stem)}*"):
        if not _is_alive(left.name.removeprefix(stem)):
            shutil.rmtree(left, ignore_errors=True)
    folder = beside.with_name(f"{stem}{os.getpid()}")
    folder.mkdir(mode=0o700, parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_alive(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


def _unpack(opened: zipfile.ZipFile, archive: Path, folder: Path) -> None:
    members = [member for member in opened.infolist() if not member.is_dir()]
    places = _places(members, archive, folder)
    limit = _limit(members, archive, folder)
    for member, place in zip(members, places, strict=True):
        place.parent.mkdir(parents=True, exist_ok=True)
        with opened.open(member) as source, open(place, "xb") as target:
            while piece := source.read(PIECE):
                limit -= len(piece)  # what is stated may not be true
                if limit < 0:
                    raise _refused(archive, "it unpacks to more than it states, as archives do that are made to fill disks")
                target.write(piece)


def _places(members: list[zipfile.ZipInfo], archive: Path, folder: Path) -> list[Path]:
    """Where each file goes: below the folder, each to a place of its own."""
    if len(members) > MOST_FILES:
        raise _refused(archive, f"it holds {len(members)} files, more than {MOST_FILES}")
    places = []
    for member in members:
        name = PurePosixPath(member.filename)
        kind = stat.S_IFMT(member.external_attr >> 16)
        unsafe = name.is_absolute() or ".." in name.parts or "\\" in member.filename or ":" in member.filename
        if unsafe or not name.parts or kind not in (0, stat.S_IFREG):
            raise _refused(archive, f"{member.filename[:100]!r} in it is a link, or lies outside of it")
        places.append(folder.joinpath(*name.parts))
    if len(set(places)) < len(places):
        raise _refused(archive, "it holds a file twice")
    return places


def _limit(members: list[zipfile.ZipInfo], archive: Path, folder: Path) -> int:
    """Bytes that may be unpacked."""
    size, packed = sum(member.file_size for member in members), os.path.getsize(archive)
    free = int((1 - SPARED) * shutil.disk_usage(folder).free)
    if size > LARGEST_RATIO * packed:
        raise _refused(archive, f"its {packed} bytes unpack to {size}, as archives do that are made to fill disks")
    if size > free:
        raise _refused(archive, f"it unpacks to {size} bytes, and {free} are free beside the output")
    return size


def _refused(archive: Path, why: str) -> UsageError:
    return UsageError(f"{archive} is not unpacked: {why}. If you trust it, unpack it and give the folder as --input_dir")
