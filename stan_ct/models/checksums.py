"""SHA-256 of the files of a model folder: `SHA256SUMS` in the folder, and for the models that ship the hashes known here."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from stan_ct.errors import StanCTError

CONFIG, JUDGE, SUMS, SLICES = "config.json", "judge.npz", "SHA256SUMS", "training_slices.txt"
EXPORT = GRAPH, RECORD = "networks.onnx", "networks.json"
"""Exported networks, which other files than a model's own make again, and what is known of them."""
FILES = (CONFIG, "generator.npz", "discriminator.npz", JUDGE)
"""Files that determine what a model makes; others in its folder do not count."""

LARGEST_FILE, LARGEST_TEXT = 1 << 30, 1 << 26
"""Most bytes of a file of a model folder, and of one that is text; the weights that ship have 5 MB."""

SHIPPED = Path(__file__).resolve().parent
"""Folder of the folders of the models that ship."""

SHIPPED_SUMS = {
    "default": {
        "config.json": "24b9b5eb933c57f42ed642d20e08201ac2e2c9c7e05994a56c754b50610a6e92",
        "discriminator.npz": "f97d31eee15b46d787c3e0ca71105de126714cdfa982bd57c2a7e709251fcfc6",
        "generator.npz": "e09799ef3c429ecf5f6af790324b261dd9b611e6715a85170d1fa653156fe284",
        "judge.npz": "6eafd96cb3f67fc7c360fbcac93ad306d23c8de42f0a4709b6fa7f776d353670",
        "training_slices.txt": "add34e6fe5001aec44b55d5a01c2f699feacd7db383e41e3dd10e19de00f0da0",
    },
    "philips_b_l": {
        "config.json": "257f1304323c0baf3d65ee17edbb2f00d2ac9ac6ad8feaffa71cdce0c92eb68c",
        "discriminator.npz": "5e4e1297c9fc1c8317b3ba51f246e0cc499e3d9192046df48d3402db4a10cd30",
        "generator.npz": "af5653387b690ddfd651162964a27334e7d6ec28ae757b3d512fe7e287fc3645",
        "judge.npz": "d1a444f6ae7ad53b79ecdbbbbac44cc94d3b0a26ea3ffc1b34f8425e9b13f344",
        "training_slices.txt": "ff075260758071cf4d45276afddc833de95c662a46c8611f7943bf0c478dbbf1",
    },
    "thin": {
        "config.json": "00b46e910732e4bc20cf96640bb2f830b7b34245f9836735a595baa19880e906",
        "discriminator.npz": "7397ffca23c8704f946e9f8d18a31f22a09a7c4b9496985bb847c269bc042f19",
        "generator.npz": "f016bab652b5a78cc8242069011ff3176558a278b08383ccb9fac4f082391a61",
        "judge.npz": "d71baae926f3ed064ebb3b4a1b4280d6b6bdd7e8ba08d4ba1423ba6350771d7f",
        "training_slices.txt": "bc847133f3e38ac2af864f6194a247b50b8869de79f68751988eacf8e3bd87b6",
    },
}
"""Model that ships -> its files -> SHA-256."""


class ModelNotFound(StanCTError, FileNotFoundError):
    """There is no complete model under a name."""


class InvalidModel(StanCTError, ValueError):
    """A model folder is damaged, or not one of this version."""


def read_file(path: Path) -> bytes:
    """The bytes of a file of a model folder.

    Raises:
        InvalidModel: If they are more than any such file has.
        OSError: If it cannot be read.
    """
    largest = LARGEST_FILE if path.suffix == ".npz" else LARGEST_TEXT
    with open(path, "rb") as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise InvalidModel(f"{path} has more than {largest} bytes, which no file of a model has")
    return content


def sums_text(files: Mapping[str, bytes]) -> str:
    """Text of `SHA256SUMS` for files by name, as `sha256sum` writes and checks it."""
    return "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(files.items()))


def parse_sums(content: bytes) -> dict[str, str] | None:
    """File -> SHA-256 of what :func:`sums_text` wrote; None if a line is none of its lines, or there is none."""
    lines = content.decode("ascii", "replace").splitlines()
    found = [match for line in lines if (match := re.fullmatch(r"([0-9a-f]{64})  ([\w./-]+)", line, re.ASCII))]
    return {match[2]: match[1] for match in found} if lines and len(found) == len(lines) else None


def check_file(path: Path) -> None:
    """Compares a file of a model folder with the hash that is known of it, if there is one.

    Raises:
        InvalidModel: If it is not what was written, or `SHA256SUMS` is not readable.
    """
    expected = (_known_sums(path.parent) or {}).get(path.name)
    if expected is None:
        return
    found = hashlib.sha256(read_file(path)).hexdigest()
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
    if (sums := parse_sums(read_file(path))) is None:
        raise InvalidModel(f"{path} does not list a SHA-256 and a file on each line. {_advice(folder)}")
    return sums


def _advice(folder: Path) -> str:
    if folder.resolve().parent == SHIPPED:
        return "Install STAN-CT again"
    return f"Copy the model folder again; if its files were changed on purpose, remove its {SUMS}"
