"""Model folders in one .zip file, for machines without a network: every byte of it is checked on the way in."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from stan_ct.errors import UsageError
from stan_ct.files import open_atomically
from stan_ct.models.checksums import EXPORT, FILES, LARGEST_FILE, SLICES, SUMS, InvalidModel, parse_sums, sums_text
from stan_ct.models.folder import check_model, find_model, model_hash

CARD = "MODEL_CARD.md"
MEMBERS = (*FILES, SLICES, *EXPORT, CARD, SUMS)
"""Files of a model folder that an archive holds, where they exist."""
NAME = re.compile(r"[\w-][\w.-]*", re.ASCII)
"""Names of models in an archive."""
PIECE = 2**20
EPOCH = (1980, 1, 1, 0, 0, 0)
"""Time of every member, so that the same models give the same bytes."""


def export_models(names: Sequence[str], archive: Path) -> dict[str, str]:
    """Writes models to an archive, complete or not at all.

    Args:
        names: Model folders, or names of models that ship.
        archive: The .zip file; an existing one is replaced.
    Returns:
        Name in the archive -> hash of the model.
    Raises:
        ModelNotFound: If there is no such model.
        InvalidModel: If one is damaged.
        UsageError: If two have the same name, or one has a name that no archive may hold.
        OSError: If the archive cannot be written.
    """
    folders = [find_model(name) for name in names]
    by_name = {folder.resolve().name: folder for folder in folders}
    if len(by_name) < len(folders):
        raise UsageError("two models have the same name: expected folders of different names")
    if strange := [name for name in by_name if not NAME.fullmatch(name)]:
        expected = "expected letters of ASCII, digits, -, _ and ., which every system takes: rename its folder"
        raise UsageError(f"an archive cannot hold a model of the name {strange[0]!r}: {expected}")
    members: dict[str, bytes] = {}
    for name, folder in by_name.items():
        check_model(folder)
        files = {member: (folder / member).read_bytes() for member in MEMBERS if (folder / member).is_file()}
        own = {member: content for member, content in files.items() if member in (*FILES, SLICES)}
        members |= {f"{name}/{member}": content for member, content in (files | {SUMS: sums_text(own).encode()}).items()}
    members[SUMS] = sums_text(members).encode()
    with open_atomically(archive) as file, zipfile.ZipFile(file, "w") as written:
        for member, content in members.items():
            written.writestr(zipfile.ZipInfo(member, EPOCH), content)
    return {name: model_hash(folder) for name, folder in by_name.items()}


def import_models(archive: Path, folder: Path) -> dict[str, str]:
    """Unpacks models of an archive, each complete or not at all.

    Args:
        archive: What :func:`export_models` wrote.
        folder: Folder of the model folders.
    Returns:
        Name -> hash of the model.
    Raises:
        InvalidModel: If the archive is no such file, holds other files than those of models, or one that is not what was
            written; nothing is unpacked then.
        UsageError: If a model folder of one of the names exists.
        OSError: If something cannot be read or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".models-", dir=folder))
    try:
        names = _unpack(archive, scratch)
        if existing := [name for name in names if (folder / name).exists()]:
            raise UsageError(f"{folder / existing[0]} exists already: remove it, or choose another folder")
        hashes = {name: (check_model(scratch / name), model_hash(scratch / name))[1] for name in names}
        for name in names:
            os.rename(scratch / name, folder / name)
        return hashes
    finally:
        shutil.rmtree(scratch)


def _unpack(archive: Path, scratch: Path) -> list[str]:
    """Writes the members of an archive, whose hashes it compares; the names of its models."""
    try:
        with zipfile.ZipFile(archive) as opened:
            infos = opened.infolist()
            if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
                raise InvalidModel(f"{archive} is no archive of models: it is compressed, and might unpack to anything")
            sums = _sums(archive, opened, {info.filename for info in infos}, len(infos))
            for info in infos:
                if info.filename != SUMS:
                    _write(archive, opened, info, scratch / info.filename, sums[info.filename])
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, UnicodeError) as error:
        raise InvalidModel(f"{archive} is no archive of models: {error}") from error
    return sorted({member.split("/")[0] for member in sums})


def _sums(archive: Path, opened: zipfile.ZipFile, members: set[str], number: int) -> dict[str, str]:
    """Member -> SHA-256, once the names are those of models' files and each comes once."""
    allowed = "|".join(re.escape(name) for name in MEMBERS)
    strange = [name for name in members if name != SUMS and not re.fullmatch(rf"{NAME.pattern}/({allowed})", name, re.ASCII)]
    if strange or len(members) < number or SUMS not in members:
        what = f"holds {min(strange)!r}" if strange else "holds a file twice" if len(members) < number else f"has no {SUMS}"
        raise InvalidModel(f"{archive} is no archive of models: it {what}")
    if opened.getinfo(SUMS).file_size > PIECE:
        raise InvalidModel(f"{archive} is no archive of models: its {SUMS} is too large")
    sums = parse_sums(opened.read(SUMS))
    if sums is None or set(sums) != members - {SUMS}:
        raise InvalidModel(f"{archive} is not what was written: its {SUMS} lists other files")
    return sums


def _write(archive: Path, opened: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, expected: str) -> None:
    """Unpacks a file of at most `LARGEST_FILE` bytes, whatever the archive says of its size."""
    path.parent.mkdir(exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with opened.open(info) as packed, path.open("xb") as file:
        while piece := packed.read(PIECE):
            size += len(piece)
            if size > LARGEST_FILE:
                raise InvalidModel(f"{archive}: {info.filename} is larger than {LARGEST_FILE >> 20} MiB")
            digest.update(piece)
            file.write(piece)
    if digest.hexdigest() != expected:
        raise InvalidModel(f"{archive}: {info.filename} is not what was written. Copy the archive again")
