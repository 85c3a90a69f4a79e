"""The interface of the engines, and which of them computes a model's networks."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from stan_ct.engines.exported import not_exported
from stan_ct.errors import UsageError
from stan_ct.models.checksums import GRAPH
from stan_ct.networks.precision import Precision, may_have_gpu, resolved_precision

EngineName = Literal["auto", "tensorflow", "onnxruntime", "openvino"]
EXPORTED: tuple[EngineName, ...] = ("onnxruntime", "openvino")
"""Engines of exported models; the one that starts soonest comes first."""
EXTRAS = {"onnxruntime": "onnx", "openvino": "openvino"}
"""Engine -> extra of the package that installs it."""

BATCH_PIXELS, BATCH_PIXELS_OF_A_THREAD = 16 * 256 * 256, 2 * 256 * 256
"""Pixels that go through the networks at once: what all cores or a GPU share, and what one thread keeps in its cache."""


class Engine(Protocol):
    """The networks of one model, ready to run; may be called from several threads at a time.

    Attributes:
        batch_pixels: Number of pixels that it is best given at once.
    """

    batch_pixels: int

    def __call__(self, gray: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, H, W, C) float32 in [-1, 1] -> synthesized (N, H, W, 1) float32 in [-1, 1], and P(real), (N,) float32.

        H and W are multiples of 256. P(real) is 1 where no discriminator judges.
        """


def choose_engine(wanted: EngineName, precision: Precision, folder: Path, model: str) -> tuple[EngineName, Precision]:
    """The engine of a model with networks, and the number type of its hidden layers.

    `auto` takes an engine that is installed and needs no TensorFlow where the model is exported, unless there is a GPU or
    another number type than float32 is asked for: exported networks compute in float32, so that HU are those of any processor.

    Args:
        wanted: Name of the engine, or `auto`.
        precision: Number type, or `auto`.
        folder: Model folder.
        model: Hash of the model.
    Raises:
        UsageError: If the engine cannot compute this model; the message says what to do.
    """
    if wanted == "tensorflow":
        return wanted, resolved_precision(precision)
    if wanted == "auto":
        found = [name for name in EXPORTED if find_spec(name)]
        if precision not in ("auto", "float32") or not found or may_have_gpu() or not_exported(folder, model):
            return "tensorflow", resolved_precision(precision)
        return found[0], "float32"
    if wanted not in EXPORTED:
        raise UsageError(f"engine must be auto, tensorflow, {' or '.join(EXPORTED)}, not {wanted!r}")
    if not find_spec(wanted):
        raise UsageError(
            f"engine {wanted} is not installed: pip install 'stan-ct[{EXTRAS[wanted]}]', or use --engine=tensorflow"
        )
    if precision not in ("auto", "float32"):
        raise UsageError(f"engine {wanted} computes in float32, not in {precision}: use --engine=tensorflow, or no --precision")
    if reason := not_exported(folder, model):
        raise UsageError(f"engine {wanted} needs an exported model, and {reason}: stan-ct export {folder}")
    return wanted, "float32"


def load_engine(name: EngineName, folder: Path, precision: Precision, judged: bool, shared: bool = False) -> Engine:
    """Loads the networks of a model folder.

    Args:
        name: Name of the engine, as :func:`choose_engine` returned it.
        folder: Model folder; one that is exported, for other engines than TensorFlow.
        precision: Number type of the hidden layers.
        judged: Whether the discriminator judges.
        shared: Whether several threads call it at a time.
    """
    if name in EXPORTED:
        return load_exported(name, folder / GRAPH, shared)
    from stan_ct.engines.tensorflow import TensorFlowNetworks

    return TensorFlowNetworks(folder, precision, judged, shared)


def load_exported(name: EngineName, graph: Path, shared: bool = False) -> Engine:
    """Loads exported networks, see :func:`load_engine`."""
    if name == "onnxruntime":
        from stan_ct.engines.onnxruntime import OnnxRuntimeNetworks

        return OnnxRuntimeNetworks(graph, shared)
    from stan_ct.engines.openvino import OpenVINONetworks

    return OpenVINONetworks(graph, shared)
