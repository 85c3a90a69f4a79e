"""SHA-256 of the files of a model folder: `SHA256SUMS` in the folder, and for the models that ship the hashes known here."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from stan_ct.errors import StanCTError

CONFIG, JUDGE, SUMS, SLICES = "config.json", "judge.npz", "SHA256SUMS", "training_slices.txt"
FILES = (CONFIG, "generator.npz", "discriminator.npz", JUDGE)
"""Files that determine what a model makes; others in its folder do not count."""

SHIPPED = Path(__file__).resolve().parent
"""Folder of the folders of the models that ship."""

SHIPPED_SUMS = {
    "default": {
        "config.json": "a54316869208bfc6e808dc656f1bb39b364ce126535967a78973a76f058b0a5d",
        "discriminator.npz": "6519bdb2906f38e2721a4fe35367756eed0174aedb66b757152392455b5256ba",
        "generator.npz": "b2133487a939057d632fc3c94f37a10b426fd383c9726bc4b331b10b6b0ff715",
        "training_slices.txt": "3e96122255a1663e8b9e3589899da77598f421fb198b0edd22ece24fd752748b",
    },
    "philips_b_l": {
        "config.json": "b4bd1fa4c8066416b991377c81918453da6f07c203ecb072b4071c6d9b81402b",
        "discriminator.npz": "a9304f54a97a8390ec1303dffed5264783628309859772756403cb5e473be73f",
        "generator.npz": "e417eacec1ae43c87eea7494a18cb2ab9411acb3e00fb9ac8c67380109147709",
        "training_slices.txt": "ff075260758071cf4d45276afddc833de95c662a46c8611f7943bf0c478dbbf1",
    },
}
"""Model that ships -> its files -> SHA-256."""


class ModelNotFound(StanCTError, FileNotFoundError):
    """There is no complete model under a name."""


class InvalidModel(StanCTError, ValueError):
    """A model folder is damaged, or not one of this version."""


def sums_text(files: Mapping[str, bytes]) -> str:
    """Text of `SHA256SUMS` for files by name, as `sha256sum` writes and checks it."""
    return "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(files.items()))


def check_file(path: Path) -> None:
    """Compares a file of a model folder with the hash that is known of it, if there is one.

    Raises:
        InvalidModel: If it is not what was written, or `SHA256SUMS` is not readable.
    """
    expected = (_known_sums(path.parent) or {}).get(path.name)
    if expected is None:
        return
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != expected:
        raise InvalidModel(
            f"{path} is not what was written, its SHA-256 begins {found[:8]}, not {expected[:8]}. {_advice(path.parent)}"
        )


def check_complete(folder: Path) -> None:
    """Checks that a model folder holds the files whose hashes are known, and no other file of a model.

    Raises:
        ModelNotFound: If a file is missing.
        InvalidModel: If there is one too many.
    """
    sums = _known_sums(folder)
    if sums is None:
        return
    for name in (*FILES, SLICES):
        if name in sums and not (folder / name).is_file():
            raise ModelNotFound(f"{folder / name} is missing: the model folder is incomplete. {_advice(folder)}")
        if name not in sums and (folder / name).exists():
            raise InvalidModel(f"{folder / name} is no file of this model: its hash is not known. {_advice(folder)}")


def _known_sums(folder: Path) -> Mapping[str, str] | None:
    """File -> SHA-256, of a model that ships or from `SHA256SUMS`; None if nothing is known."""
    if folder.resolve().parent == SHIPPED:
        return SHIPPED_SUMS.get(folder.resolve().name, {})
    path = folder / SUMS
    if not path.is_file():
        return None
    lines = path.read_bytes().decode("ascii", "replace").splitlines()
    found = [re.fullmatch(r"([0-9a-f]{64})  ([\w.]+)", line) for line in lines]
    if not lines or not all(found):
        raise InvalidModel(f"{path} does not list a SHA-256 and a file on each line. {_advice(folder)}")
    return {match[2]: match[1] for match in found if match}


def _advice(folder: Path) -> str:
    if folder.resolve().parent == SHIPPED:
        return "Install STAN-CT again"
    return f"Copy the model folder again; if its files were changed on purpose, remove its {SUMS}"
