"""Model folder -> its networks as an ONNX graph, whose output is compared with TensorFlow's before it is written."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx

from stan_ct.engines.engine import EXPORTED, Engine, load_engine, load_exported
from stan_ct.engines.exported import Export
from stan_ct.engines.graph import networks_graph
from stan_ct.errors import StanCTError, UsageError
from stan_ct.files import open_atomically, write_atomically
from stan_ct.models.checksums import GRAPH, RECORD
from stan_ct.models.config import ModelConfig
from stan_ct.models.folder import NETWORKS, check_model, load_judge, model_hash

LARGEST_DIFFERENCE, LARGEST_DIFFERENCE_OF_P_REAL = 0.05, 1e-3
"""From TensorFlow's output at most, HU and P(real); the rounding of float32 makes less than a hundredth of it."""


class DifferentOutput(StanCTError):
    """Exported networks do not compute what TensorFlow computes."""


def export_model(folder: Path, output_dir: Path | None = None) -> Export:
    """Writes `networks.onnx` and `networks.json`, once all engines that are installed give TensorFlow's output.

    Args:
        folder: Model folder.
        output_dir: Folder of a graph that holds its weights, for use elsewhere; None: in the model folder, with the weights in
            the model's own files.
    Raises:
        UsageError: If the model is a baseline, which has no networks, or no engine is installed that could compare.
        DifferentOutput: If an engine's output differs from TensorFlow's; nothing is written then.
        InvalidModel: If the model is damaged.
        OSError: If the output cannot be written.
    """
    config = check_model(folder)
    if config.method not in NETWORKS:
        raise UsageError(f"{folder} is a {config.method} model: it has no networks, and needs no engine")
    engines = [name for name in EXPORTED if find_spec(name)]
    if not engines:
        raise UsageError(
            f"neither {' nor '.join(EXPORTED)} is installed, to compare with TensorFlow: pip install 'stan-ct[onnx]'"
        )
    judged = config.method == "stan_ct" and load_judge(folder) is None
    graph = networks_graph(folder, config, judged)
    if output_dir is not None:
        onnx.load_external_data_for_model(graph, str(folder))
        output_dir.mkdir(parents=True, exist_ok=True)
    destination, content = output_dir or folder, graph.SerializeToString(deterministic=True)
    reference, differences = load_engine("tensorflow", folder, "float32", judged), {}
    with open_atomically(destination / GRAPH) as file:
        file.write(content)
        file.flush()
        onnx.checker.check_model(file.name)
        for name in engines:
            differences[name] = _difference(name, load_exported(name, Path(file.name)), reference, config)
    packages = {name: version(name) for name in ("tensorflow", "keras", *engines)}
    export = Export(model_hash(folder), hashlib.sha256(content).hexdigest(), max(differences.values()), packages)
    write_atomically(destination / RECORD, export.to_json())
    return export


def _difference(name: str, engine: Engine, reference: Engine, config: ModelConfig) -> float:
    """Largest difference of an engine's output from the reference's, HU.

    Raises:
        DifferentOutput: If it is above `LARGEST_DIFFERENCE`, or that of P(real) is.
    """
    hu = p_real = 0.0
    for gray in _compared(config.generator.channels):
        (made, judged), (expected, rightly) = engine(gray), reference(gray)
        hu = max(hu, float(np.abs(config.hu_window.to_hu(made) - config.hu_window.to_hu(expected)).max()))
        p_real = max(p_real, float(np.abs(judged - rightly).max()))
    if not (hu <= LARGEST_DIFFERENCE and p_real <= LARGEST_DIFFERENCE_OF_P_REAL):
        raise DifferentOutput(
            f"{name} {version(name)} differs from TensorFlow by {hu:.3g} HU and {p_real:.3g} in P(real), expected "
            f"{LARGEST_DIFFERENCE:g} HU and {LARGEST_DIFFERENCE_OF_P_REAL:g} at most: nothing was exported; use "
            "--engine=tensorflow, and report it with the output of stan-ct --version"
        )
    return hu


def _compared(channels: int) -> Iterator[np.ndarray]:
    """Patches, (N, H, W, C) in [-1, 1]: noise of several strengths and scales, a flat one, and an image of 512 x 512."""
    rng = np.random.default_rng(0)
    for number, side in ((3, 256), (1, 512)):
        coarse = rng.uniform(-1, 1, (number, side // 32, side // 32, channels)).repeat(32, 1).repeat(32, 2)
        fine = rng.normal(size=(number, side, side, channels))
        strength = np.array([0.02, 0.1, 0.5])[:number, None, None, None]
        yield np.clip(coarse + strength * fine, -1, 1).astype(np.float32)
    yield np.full((1, 256, 256, channels), -1, np.float32)
