"""A trained model as a folder: `config.json`, `generator.npz`, `discriminator.npz`, `judge.npz`, and their SHA-256.

`training_slices.txt` beside them tells which slices the model was trained on.

A model folder is data that may come from anywhere: whatever its files hold, they are refused by name or loaded, and nothing in
them is executed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stan_ct.arrays import DamagedArrays, read_arrays
from stan_ct.files import write_together
from stan_ct.models.checksums import (
    CONFIG,
    EXPORT,
    FILES,
    JUDGE,
    LARGEST_FILE,
    SHIPPED,
    SLICES,
    SUMS,
    InvalidModel,
    ModelNotFound,
    check_complete,
    check_file,
    read_file,
    sums_text,
)
from stan_ct.models.config import ModelConfig, Storage
from stan_ct.networks.shapes import discriminator_shapes, generator_shapes
from stan_ct.patches.training_slices import TrainingSlices

if TYPE_CHECKING:
    import keras

    from stan_ct.models.judge import Judge
    from stan_ct.networks.discriminator import Discriminator
    from stan_ct.networks.generator import Generator

NETWORKS = ("stan_ct", "unet")
"""Methods with a generator."""


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


def shipped_names() -> list[str]:
    """Names of the models that ship with STAN-CT."""
    return [path.parent.name for path in sorted(SHIPPED.glob(f"*/{CONFIG}"))]


def shipped_models() -> list[ShippedModel]:
    """The models that ship with STAN-CT, by name."""
    return [_shipped(SHIPPED / name) for name in shipped_names()]


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
        names = ", ".join(shipped_names())
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
    slices: TrainingSlices | None = None,
) -> None:
    """Writes a model folder; the same networks give the same bytes.

    Args:
        folder: Destination; created if it does not exist.
        config: Architecture and provenance.
        generator: G; None for the classical baselines.
        discriminator: D; None for the classical baselines and `unet`.
        storage: Number type of the weights on disk; float16 halves their size.
        judge: Judge of check 2; None for a model whose discriminator judges.
        slices: Slices that it was trained on; None if they are not known.
    """
    folder, files = Path(folder), {}
    for label, network in (("generator", generator), ("discriminator", discriminator)):
        if network is not None:
            files[f"{label}.npz"] = _archive({f"{i:03}": np.asarray(w, storage) for i, w in enumerate(network.get_weights())})
    if judge is not None:
        files[JUDGE] = _archive(judge.arrays())
    if slices is not None:
        files[SLICES] = slices.to_text().encode()
    files[CONFIG] = config.to_json().encode()
    write_together(folder, files | {SUMS: sums_text(files)})
    for name in {*FILES, SLICES, *EXPORT} - set(files):  # of the model that the folder held
        (folder / name).unlink(missing_ok=True)


def write_judge(folder: Path, destination: Path, config: ModelConfig, judge: Judge) -> None:
    """Writes a model with another judge, by which its patches are judged from then on; `destination` may be its `folder`."""
    from stan_ct.models.judge import THRESHOLD

    files = {name: (folder / name).read_bytes() for name in (*FILES, SLICES) if (folder / name).is_file()}
    files |= {JUDGE: _archive(judge.arrays()), CONFIG: replace(config, qc_threshold=THRESHOLD).to_json().encode()}
    write_together(destination, files | {SUMS: sums_text(files)})
    for name in {*FILES, SLICES, *EXPORT} - set(files):  # of the model without this judge, or that the folder held
        (destination / name).unlink(missing_ok=True)


def _archive(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Bytes of an `.npz` file."""
    file = BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    return file.getvalue()


def read_config(folder: Path | str) -> ModelConfig:
    """Reads `config.json`.

    Raises:
        ModelNotFound: If the folder holds no model, or not all of it.
        InvalidModel: If the configuration is not one of this version, or not what was written.
    """
    path = _require_config(Path(folder))
    try:
        config = ModelConfig.from_json(read_file(path).decode("utf-8"))
    except ValueError as error:
        raise InvalidModel(f"{path} is {error}" if str(error).startswith("not ") else f"{path}: {error}") from error
    check_file(path)
    check_complete(path.parent)
    return config


def load_weights(folder: Path | str, label: str, network: keras.Model) -> None:
    """Loads `<label>.npz` into a network of the same architecture.

    Raises:
        ModelNotFound: If the file is missing.
        InvalidModel: If it is damaged, or the weights do not fit.
    """
    network.set_weights(read_weights(Path(folder), label, [tuple(w.shape) for w in network.weights]))


def read_weights(folder: Path, label: str, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    """Reads `<label>.npz`: float32 arrays of these shapes, in their order.

    Raises:
        ModelNotFound: If the file is missing.
        InvalidModel: If it is damaged, or holds anything else.
    """
    arrays = _read_arrays(folder / f"{label}.npz")
    weights = [arrays[name].astype(np.float32) for name in sorted(arrays)]
    found = [w.shape for w in weights]
    if found != list(shapes):
        differing = [(i, a, b) for i, (a, b) in enumerate(zip(found, shapes, strict=False)) if a != b]
        detail = f"array {differing[0][0]} has shape {differing[0][1]}, expected {differing[0][2]}" if differing else ""
        raise InvalidModel(
            f"{folder / label}.npz does not fit {CONFIG}: {detail or f'{len(found)} arrays, expected {len(shapes)}'}"
        )
    return weights


def load_judge(folder: Path | str) -> Judge | None:
    """The judge of a model folder, None if it has none.

    Raises:
        InvalidModel: If its file is damaged.
    """
    from stan_ct.models.judge import Judge

    path = Path(folder) / JUDGE
    if not path.is_file():
        return None
    arrays = _read_arrays(path)
    try:
        return Judge.from_arrays(arrays)
    except ValueError as error:
        raise InvalidModel(f"{path} holds no judge of this version: {error}") from error


def read_training_slices(folder: Path | str) -> TrainingSlices:
    """Slices that a model was trained on; of an earlier version's model its series alone are known.

    Raises:
        ModelNotFound: If the folder holds no model.
        InvalidModel: If a file is damaged.
    """
    config, path = read_config(folder), Path(folder) / SLICES
    if path.is_file():
        return _read_slices(path)
    data = config.training.get("data")
    return TrainingSlices.from_pairs(data.get("pairs") if isinstance(data, Mapping) else ())


def _read_slices(path: Path) -> TrainingSlices:
    check_file(path)
    try:
        return TrainingSlices.from_text(read_file(path).decode("ascii", "replace"))
    except ValueError as error:
        raise InvalidModel(f"{path}: {error}") from error


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Arrays of a file of a model folder, all of them finite."""
    if not path.is_file():
        raise ModelNotFound(f"{path} is missing: the model folder is incomplete")
    check_file(path)
    try:
        arrays = read_arrays(path, LARGEST_FILE)
    except DamagedArrays as error:
        raise InvalidModel(f"{error}: copy the model folder again, or train the model again") from error
    for name, values in arrays.items():
        if not np.isfinite(values).all():
            raise InvalidModel(f"{path} holds values in array {name} that are not finite: train the model again")
    return arrays


def check_model(folder: Path | str) -> ModelConfig:
    """Checks all files of a model folder, without Keras, and returns its configuration.

    Raises:
        ModelNotFound: If a file is missing.
        InvalidModel: If one is damaged, is not what was written, or does not fit the configuration.
    """
    folder = Path(folder)
    config = read_config(folder)
    if (folder / SLICES).is_file():
        _read_slices(folder / SLICES)
    if config.method not in NETWORKS:
        return config
    read_weights(folder, "generator", generator_shapes(config.generator))
    judge = load_judge(folder)
    if config.method == "stan_ct" and judge is None:
        if not config.discriminator.base_filters:
            raise InvalidModel(f"{folder / CONFIG}: a discriminator must have base_filters")
        read_weights(folder, "discriminator", discriminator_shapes(config.discriminator))
    elif (unused := folder / "discriminator.npz").is_file():  # it does not judge, but it is part of the model's hash
        check_file(unused)
    return config


def model_hash(folder: Path | str) -> str:
    """SHA-256 of a model's configuration and weights, with their names; other files beside them do not count."""
    digest = hashlib.sha256()
    for path in sorted(Path(folder).glob("*")):
        if path.name in FILES:
            digest.update(path.name.encode() + hashlib.sha256(read_file(path)).digest())
    return digest.hexdigest()
