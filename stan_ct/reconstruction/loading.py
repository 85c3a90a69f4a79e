"""Model folders -> models that are ready to standardize; networks are loaded when the first slice needs them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from stan_ct.baselines.loading import load_baseline
from stan_ct.ct.protocol import same_thickness
from stan_ct.engines.engine import EngineName, choose_engine
from stan_ct.errors import UsageError
from stan_ct.models.config import ModelConfig
from stan_ct.models.folder import (
    NETWORKS,
    SHIPPED,
    InvalidModel,
    check_model,
    find_model,
    model_hash,
    read_training_slices,
    shipped_names,
)
from stan_ct.networks.precision import Precision, resolved_precision
from stan_ct.patches.sampling import Patch
from stan_ct.reconstruction.guard import Guard
from stan_ct.reconstruction.qualification import Explaining, Synthesizer, synthesize_whole
from stan_ct.reconstruction.selection import ModelSet
from stan_ct.reconstruction.settings import FusionMethod, method_settings
from stan_ct.reconstruction.standardize import Model, ModelIdentity


class LazySynthesizer:
    """Synthesizer of a model folder that is loaded when it is first used, a network with its engine, a baseline without.

    Args:
        folder: Model folder.
        engine: What computes the networks.
        precision: Number type of their hidden layers.
        loading: Context in which it is loaded.
        adjacent_slices: Number of slices before and after each that it is given too.
        shared: Whether slices are under way in several threads.
    """

    def __init__(
        self,
        folder: Path,
        engine: EngineName,
        precision: Precision,
        loading: Callable[[], AbstractContextManager],
        adjacent_slices: int = 0,
        shared: bool = False,
    ) -> None:
        self._folder, self._engine, self._precision, self._loading = folder, engine, precision, loading
        self.adjacent_slices, self._shared = adjacent_slices, shared
        self._lock = Lock()

    @property
    def _loaded(self) -> Synthesizer:
        with self._lock:  # of several threads one loads it
            return self._synthesizer

    @cached_property
    def _synthesizer(self) -> Synthesizer:
        if (baseline := load_baseline(self._folder)) is not None:
            return baseline
        with self._loading():
            from stan_ct.reconstruction.synthesis import load_synthesizer

            return load_synthesizer(self._folder, self._precision, self._shared, self._engine)

    def prepare(self, hu: np.ndarray, pixel_spacing: tuple[float, float], kernel: str = "") -> np.ndarray:
        """Whole-slice step, see :class:`Synthesizer`."""
        return self._loaded.prepare(hu, pixel_spacing, kernel)

    def __call__(self, patches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Synthesizes and judges patches, see :class:`Synthesizer`."""
        return self._loaded(patches)

    def whole(self, image: np.ndarray, places: Sequence[Patch]) -> tuple[np.ndarray, np.ndarray]:
        """Synthesizes a slice at once, see :class:`WholeSlice`."""
        return synthesize_whole(self._loaded, image, places)

    def explain(self, patches: np.ndarray, outputs: np.ndarray) -> list[str]:
        """What is wrong with each output, see :class:`Explaining`; nothing where the model cannot say so."""
        loaded = self._loaded
        return loaded.explain(patches, outputs) if isinstance(loaded, Explaining) else [""] * len(patches)


def load_model(
    name: Path | str = "default",
    *,
    engine: EngineName = "auto",
    precision: Precision = "auto",
    fusion: FusionMethod = "stan_ct",
    loading: Callable[[], AbstractContextManager] = nullcontext,
    slice_thickness: float = 0.0,
    slices_at_once: int = 1,
    **switches: Any,
) -> Model:
    """Loads a model. Its networks, and their engine, are loaded when the first slice needs them; baselines need neither.

    Args:
        name: Model folder, as `train.py` writes it, or the name of a model that ships: `default`, `philips_b_l`, `thin`.
        engine: What computes the networks: `tensorflow`, the reference; `onnxruntime` or `openvino`, which an exported model
            needs, and which start without TensorFlow; `auto` takes one of these, if it is installed and can.
        precision: Number type of the networks' hidden layers: `auto`, `float32`, `bfloat16`; HU are float32 in any case.
        fusion: Row of the paper's Table 2: `stan_ct`, `realfake`, `overlap`, `straightforward`.
        loading: Context in which the engine and the networks are loaded, such as one that silences standard error.
        slice_thickness: Thickness of the model's slices, mm, if slices are to be written between those of the source too, as
            far apart; 0: slices stay where they are.
        slices_at_once: Number of slices under way at a time. With more than one, TensorFlow uses one thread for each, and so
            does whatever else of this process uses it, if it has not started yet.
        switches: Fields of :class:`~stan_ct.reconstruction.settings.PipelineSettings`; None leaves the method's own.
    Raises:
        UsageError: If there is no such model, its engine cannot compute it, or switches exclude each other.
        InvalidModel: If a file of its folder is damaged, is not what was written, or is of a later version.
    """
    try:
        folder = find_model(name)
        config = check_model(folder)
        chosen = {"qc_threshold": config.qc_threshold, **{k: v for k, v in switches.items() if v is not None}}
        settings = method_settings(fusion, **chosen)
        identity, seen = _identity(config, folder), read_training_slices(folder)
        computed_by: EngineName | None = None
        with loading():  # looks for GPUs, which takes TensorFlow where there may be one
            if config.method in NETWORKS:
                computed_by, resolved = choose_engine(engine, precision, folder, identity.sha256)
            else:
                resolved = resolved_precision(precision)
    except InvalidModel:
        raise
    except (FileNotFoundError, ValueError) as error:
        raise UsageError(str(error)) from error
    adjacent_slices = config.generator.adjacent_slices if config.method in NETWORKS else 0
    synthesizer = LazySynthesizer(folder, computed_by or "tensorflow", resolved, loading, adjacent_slices, slices_at_once > 1)
    guard = Guard(config.sources, config.standard, by_thickness=config.target_thickness > 0)
    model = Model(
        identity,
        synthesizer,
        settings,
        resolved,
        guard,
        str(name),
        seen,
        slices_at_once=slices_at_once,
        engine=computed_by or "",
    )
    return _with_slices_between([model], slice_thickness)[0] if slice_thickness else model


def _with_slices_between(models: Sequence[Model], thickness: float) -> list[Model]:
    """Those of some models whose slices have a thickness, mm, so that they write the slices between too.

    Raises:
        UsageError: If there is none; the message says what each makes.
    """
    found = [m for m in models if m.identity.target_thickness and same_thickness(m.identity.target_thickness, thickness)]
    if not found:
        makes = ", ".join(
            f"{m.label} {f'{m.identity.target_thickness:g} mm' if m.identity.target_thickness else 'as thick as the source'}"
            for m in models
        )
        raise UsageError(f"no model makes slices of {thickness:g} mm, between which others could lie; they make: {makes}")
    return [replace(model, slices_between=True) for model in found]


def _identity(config: ModelConfig, folder: Path) -> ModelIdentity:
    kernels = (config.source_kernel, config.target_kernel)
    return ModelIdentity(config.name, model_hash(folder), *kernels, config.sharpens, config.target_thickness)


def load_models(names: Sequence[str], target: str = "", slice_thickness: float = 0.0, **options: Any) -> ModelSet:
    """Loads the models to choose from.

    Args:
        names: Names or folders of models; "auto" stands for all that ship and keep the slice thickness.
        target: Kernel of the standard protocol; models of other targets are left out.
        slice_thickness: As for :func:`load_model`; models of other thicknesses are left out, and "auto" stands for those that
            make this thickness.
        options: As for :func:`load_model`.
    Raises:
        UsageError: If there is no such model, or none with this target or thickness.
    """
    known = {name: _load_shipped(name, "auto" in names, **options) for name in shipped_names()}
    shipped = [model for model in known.values() if model is not None]
    chosen: list[Model] = []
    for name in names:
        if name == "auto":
            chosen += [model for model in shipped if slice_thickness or not model.identity.target_thickness]
        else:
            chosen.append(load_model(name, **options))
    if target:
        makes = sorted({model.identity.target_kernel for model in chosen})
        chosen = [model for model in chosen if model.identity.target_kernel.casefold() == target.casefold()]
        if not chosen:
            raise UsageError(f"no model makes kernel {target}: the chosen ones make {', '.join(makes)}")
    chosen = _with_slices_between(chosen, slice_thickness) if slice_thickness else chosen
    used = {model.identity.sha256 for model in chosen}
    return ModelSet(tuple(chosen), tuple(model for model in shipped if model.identity.sha256 not in used))


def _load_shipped(name: str, needed: bool, **options: Any) -> Model | None:
    """A model that ships; None if it is damaged and not needed but to be recommended."""
    try:
        return replace(load_model(SHIPPED / name, **options), label=name)  # whatever the working directory holds
    except InvalidModel:
        if needed:
            raise
        return None
