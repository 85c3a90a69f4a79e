"""Exported networks in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime

from stan_ct.engines.engine import BATCH_PIXELS, BATCH_PIXELS_OF_A_THREAD
from stan_ct.models.checksums import InvalidModel
from stan_ct.parallel import usable_cores


class OnnxRuntimeNetworks:
    """See :class:`stan_ct.engines.engine.Engine`.

    Args:
        graph: Exported networks.
        single_thread: Whether it keeps to one thread for each that calls it, rather than to all cores for one.
    Raises:
        InvalidModel: If ONNX Runtime cannot load the graph.
    """

    def __init__(self, graph: Path, single_thread: bool = False) -> None:
        self.batch_pixels = BATCH_PIXELS_OF_A_THREAD if single_thread else BATCH_PIXELS
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1 if single_thread else usable_cores()
        options.enable_mem_pattern = False  # plans for shapes seen before: no faster, and twice the memory
        options.log_severity_level = 3  # errors
        try:
            self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # of a dozen classes without a common one
            raise InvalidModel(
                f"ONNX Runtime cannot load {graph}: {' '.join(str(error).split())}. Export the model again"
            ) from error

    def __call__(self, gray: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, H, W, C) -> (N, H, W, 1), and P(real), (N,)."""
        synthesized, *judged = self._session.run(None, {"gray": gray})
        return synthesized, judged[0] if judged else np.ones(len(gray), np.float32)
