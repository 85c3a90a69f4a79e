"""Exported networks in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from threading import BoundedSemaphore

import numpy as np
import onnxruntime

from stan_ct.engines.engine import BATCH_PIXELS, BATCH_PIXELS_OF_A_THREAD
from stan_ct.models.checksums import InvalidModel
from stan_ct.parallel import usable_cores


class OnnxRuntimeNetworks:
    """See :class:`stan_ct.engines.engine.Engine`.

    Args:
        graph: Exported networks.
        shared: Whether several threads call it: all cores then serve half as many of them at a time as there are cores, since
            each needs 100 MB for a slice of 512 x 512.
    Raises:
        InvalidModel: If ONNX Runtime cannot load the graph.
    """

    def __init__(self, graph: Path, shared: bool = False) -> None:
        self.batch_pixels = BATCH_PIXELS_OF_A_THREAD if shared else BATCH_PIXELS
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = cores = usable_cores()
        if shared:
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # others have work meanwhile
        self._served = BoundedSemaphore(max(1, cores // 2))
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
        with self._served:
            synthesized, *judged = self._session.run(None, {"gray": gray})
        return synthesized, judged[0] if judged else np.ones(len(gray), np.float32)
