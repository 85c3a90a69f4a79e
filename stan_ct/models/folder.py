"""A trained model as a folder: `config.json`, `generator.npz`, `discriminator.npz`, `judge.npz`; and the models that ship."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stan_ct.errors import StanCTError
from stan_ct.models.config import ModelConfig, Storage

if TYPE_CHECKING:
    import keras

    from stan_ct.models.judge import Judge
    from stan_ct.networks.discriminator import Discriminator
    from stan_ct.networks.generator import Generator

CONFIG = "config.json"
JUDGE = "judge.npz"
SHIPPED = Path(__file__).resolve().parent


class ModelNotFound(StanCTError, FileNotFoundError):
    """There is no complete model under a name."""


class InvalidModel(StanCTError, ValueError):
    """A model folder is not one of this version."""


@dataclass(frozen=True)
class ShippedModel:
    """A model that ships with STAN-CT.

    Attributes:
        name: Name by which it is found, that of its folder.
        source_kernels: Kernels that it standardizes.
        target_kernel: Kernel of the standard protocol.
        slice_thickness: Smallest and largest slice thickness of its sources, mm; None if not known.
        hash: SHA-256 of its files.
    """

    name: str
    source_kernels: tuple[str, ...]
    target_kernel: str
    slice_thickness: tuple[float, float] | None
    hash: str


def shipped_models() -> list[ShippedModel]:
    """The models that ship with STAN-CT, by name."""
    return [_shipped(path.parent) for path in sorted(SHIPPED.glob(f"*/{CONFIG}"))]


def _shipped(folder: Path) -> ShippedModel:
    config = read_config(folder)
    sides = [side for source in config.sources for side in source.slice_thickness]
    thickness = (min(sides), max(sides)) if sides else None
    kernels = tuple(config.source_kernel.split(", "))
    return ShippedModel(folder.name, kernels, config.target_kernel, thickness, model_hash(folder))


def find_model(name: Path | str) -> Path:
    """A model folder, or the folder of a model that ships with STAN-CT, by its name.

    Raises:
        ModelNotFound: If there is neither; the message names those that ship.
    """
    shipped = SHIPPED / name
    if Path(name).exists() or not (shipped / CONFIG).is_file():
        _require_config(Path(name))
        return Path(name)
    return shipped


def _require_config(folder: Path) -> Path:
    """Path of a folder's `config.json`.

    Raises:
        ModelNotFound: If there is none.
    """
    if not (folder / CONFIG).is_file():
        names = ", ".join(path.parent.name for path in sorted(SHIPPED.glob(f"*/{CONFIG}")))
        raise ModelNotFound(
            f"{folder} holds no model: expected {CONFIG}, as train.py writes it, or the name of a model that ships ({names})"
        )
    return folder / CONFIG


def save_model(
    folder: Path | str,
    config: ModelConfig,
    generator: Generator | None = None,
    discriminator: Discriminator | None = None,
    storage: Storage = "float32",
    judge: Judge | None = None,
) -> None:
    """Writes a model folder; the same networks give the same bytes.

    Args:
        folder: Destination; created if it does not exist.
        config: Architecture and provenance.
        generator: G; None for the classical baselines.
        discriminator: D; None for the classical baselines and `unet`.
        storage: Number type of the weights on disk; float16 halves their size.
        judge: Judge of check 2; None for a model whose discriminator judges.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for label, network in (("generator", generator), ("discriminator", discriminator)):
        if network is not None:
            weights = {f"{i:03}": np.asarray(w, storage) for i, w in enumerate(network.get_weights())}
            np.savez(folder / f"{label}.npz", **weights)  # type: ignore[arg-type]  # NumPy types keywords as `allow_pickle`
    (folder / JUDGE).unlink(missing_ok=True)
    if judge is not None:
        judge.save(folder / JUDGE)
    (folder / CONFIG).write_text(config.to_json())


def read_config(folder: Path | str) -> ModelConfig:
    """Reads `config.json`.

    Raises:
        ModelNotFound: If the folder holds no model.
        InvalidModel: If the configuration is not one of this version.
    """
    path = _require_config(Path(folder))
    try:
        return ModelConfig.from_json(path.read_text())
    except ValueError as error:
        raise InvalidModel(f"{path} is {error}") from error


def load_weights(folder: Path | str, label: str, network: keras.Model) -> None:
    """Loads `<label>.npz` into a network of the same architecture.

    Raises:
        ModelNotFound: If the file is missing.
        ValueError: If the weights do not fit.
    """
    path = Path(folder) / f"{label}.npz"
    if not path.is_file():
        raise ModelNotFound(f"{path} is missing: the model folder is incomplete")
    with np.load(path) as stored:
        weights = [stored[key].astype(np.float32) for key in sorted(stored.files)]
    network.set_weights(weights)


def model_hash(folder: Path | str) -> str:
    """SHA-256 of a model's configuration and weights, with their names; other files beside them do not count."""
    digest = hashlib.sha256()
    for path in sorted(Path(folder).glob("*")):
        if path.name in (CONFIG, "generator.npz", "discriminator.npz", JUDGE):
            digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
