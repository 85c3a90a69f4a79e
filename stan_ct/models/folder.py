"""A trained model as a folder: `config.json`, `generator.npz`, `discriminator.npz`."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, get_args

import keras
import numpy as np

from stan_ct.ct.filters import FrontEnd
from stan_ct.ct.fingerprint import Fingerprint
from stan_ct.ct.hounsfield import HUWindow
from stan_ct.networks.blocks import Initialization, Normalization
from stan_ct.networks.discriminator import Discriminator, build_discriminator
from stan_ct.networks.generator import Generator, build_generator

CONFIG = "config.json"
Method = Literal["stan_ct", "unet", "kernel_filter", "histogram"]
Storage = Literal["float32", "float16"]


@dataclass(frozen=True)
class ModelConfig:
    """Everything but the weights.

    Attributes:
        name: What people call the model.
        method: `stan_ct`; `unet` for a G without D; `kernel_filter` for the front end alone; `histogram` for
            histogram matching.
        source_kernel: Kernel it was trained to standardize.
        target_kernel: Kernel of the standard protocol.
        sharpens: Whether the target kernel is the sharper one.
        window: HU <-> [-1, 1].
        base_filters: Width of G.
        discriminator_filters: Width of D.
        normalization: Of G's hidden layers.
        residual: Whether G adds its output to its input.
        spectral: Whether D's convolutions are spectrally normalized.
        conditional: Whether D sees the source beside the patch that it judges.
        high_pass: Whether D sees fine detail alone.
        front_end: Radial filters that whole slices pass first, or None.
        sources: What series look like that it is made for, a fingerprint for each source kernel; empty if not known.
        standard: What series of the standard protocol look like; None if not known.
        histogram: Quantiles of target patches, HU, for `histogram`.
        qc_threshold: A synthesized patch with P(real) below this is not qualified.
        training: Settings, data and versions of the training run, for the record.
    """

    name: str
    method: Method
    source_kernel: str
    target_kernel: str
    sharpens: bool
    window: HUWindow = field(default_factory=HUWindow)
    base_filters: int = 64
    discriminator_filters: int = 64
    normalization: Normalization = "none"
    residual: bool = False
    spectral: bool = False
    conditional: bool = False
    high_pass: bool = False
    front_end: FrontEnd | None = None
    sources: tuple[Fingerprint, ...] = ()
    standard: Fingerprint | None = None
    histogram: tuple[float, ...] = ()
    qc_threshold: float = 0.99
    training: dict = field(default_factory=dict)

    def generator(self, compute_dtype: str = "float32", initialization: Initialization = "normal") -> Generator:
        """A new generator of this shape."""
        return build_generator(
            base_filters=self.base_filters,
            normalization=self.normalization,
            residual=self.residual,
            initialization=initialization,
            compute_dtype=compute_dtype,
        )

    def discriminator(self, compute_dtype: str = "float32", initialization: Initialization = "normal") -> Discriminator:
        """A new discriminator of this shape."""
        return build_discriminator(
            base_filters=self.discriminator_filters,
            spectral=self.spectral,
            channels=1 + self.conditional,
            high_pass=self.high_pass,
            initialization=initialization,
            compute_dtype=compute_dtype,
        )


def shipped_models() -> list[str]:
    """Names of the models that ship with STAN-CT."""
    return sorted(path.parent.name for path in Path(__file__).parent.glob(f"*/{CONFIG}"))


def find_model(name: Path | str) -> Path:
    """A model folder, or one that ships with STAN-CT by its name, as `default`."""
    shipped = Path(__file__).resolve().parent / name
    return shipped if not Path(name).exists() and (shipped / CONFIG).is_file() else Path(name)


def save_model(
    folder: Path | str,
    config: ModelConfig,
    generator: Generator | None = None,
    discriminator: Discriminator | None = None,
    storage: Storage = "float32",
) -> None:
    """Writes a model folder; the same networks give the same bytes.

    Args:
        folder: Where to; made if it does not exist.
        config: Shape and provenance.
        generator: G; None for `kernel_filter`.
        discriminator: D; None for `kernel_filter` and `unet`.
        storage: Type of the weights on disk; float16 halves their size.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for label, network in (("generator", generator), ("discriminator", discriminator)):
        if network is not None:
            weights = {f"{i:03}": np.asarray(w, storage) for i, w in enumerate(network.get_weights())}
            np.savez(folder / f"{label}.npz", **weights)
    front_end = config.front_end.to_json() if config.front_end else {}
    (folder / CONFIG).write_text(_readable_json(asdict(config) | {"front_end": front_end}) + "\n")


def read_config(folder: Path | str) -> ModelConfig:
    """Reads `config.json`.

    Raises:
        FileNotFoundError: If the folder holds no model.
        ValueError: If the configuration is not one of this version.
    """
    path = Path(folder) / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no model: expected {CONFIG}, as train.py writes it")
    try:
        values = json.loads(path.read_text())
        values["window"] = HUWindow(**values["window"])
        values["histogram"] = tuple(values.get("histogram", ()))
        values["front_end"] = FrontEnd.from_json(values["front_end"])
        values["sources"] = tuple(map(Fingerprint.from_json, values.get("sources", ())))
        values["standard"] = Fingerprint.from_json(values["standard"]) if values.get("standard") else None
        if values["method"] not in get_args(Method):
            raise TypeError(f"method {values['method']!r}")
        return ModelConfig(**values)
    except (AttributeError, TypeError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not a model configuration of this version: {error}") from error


def load_weights(folder: Path | str, label: str, network: keras.Model) -> None:
    """Loads `<label>.npz` into a network of the same shape.

    Raises:
        FileNotFoundError: If the file is missing.
        ValueError: If the weights do not fit.
    """
    path = Path(folder) / f"{label}.npz"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: the model folder is incomplete")
    with np.load(path) as stored:
        weights = [stored[key].astype(np.float32) for key in sorted(stored.files)]
    network.set_weights(weights)


def model_hash(folder: Path | str) -> str:
    """SHA-256 over the files of a model folder, by name."""
    digest = hashlib.sha256()
    for path in sorted(Path(folder).glob("*")):
        if path.name in (CONFIG, "generator.npz", "discriminator.npz"):
            digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _readable_json(values: dict) -> str:
    """JSON with one line a key, however long its value."""
    lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in values.items()]
    return "{\n" + ",\n".join(lines) + "\n}"
