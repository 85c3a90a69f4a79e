"""Exported networks in OpenVINO."""

from __future__ import annotations

from pathlib import Path
from threading import local

import numpy as np
import openvino

from stan_ct.engines.engine import BATCH_PIXELS, BATCH_PIXELS_OF_A_THREAD
from stan_ct.models.checksums import InvalidModel
from stan_ct.parallel import usable_cores


class OpenVINONetworks:
    """See :class:`stan_ct.engines.engine.Engine`.

    Args:
        graph: Exported networks.
        shared: Whether several threads call it: each then has a thread of OpenVINO's, rather than all cores.
    Raises:
        InvalidModel: If OpenVINO cannot load the graph.
    """

    def __init__(self, graph: Path, shared: bool = False) -> None:
        self.batch_pixels = BATCH_PIXELS_OF_A_THREAD if shared else BATCH_PIXELS
        cores = usable_cores()
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",  # bfloat16, its own choice on some processors, rounds HU to 8 bits
            "INFERENCE_NUM_THREADS": cores,
            "NUM_STREAMS": cores if shared else 1,
        }
        try:
            self._compiled = openvino.Core().compile_model(graph, "CPU", settings)
        except RuntimeError as error:
            raise InvalidModel(
                f"OpenVINO cannot load {graph}: {' '.join(str(error).split())}. Export the model again"
            ) from error
        # Two threads that are the first to pass it an array would wait for each other forever.
        openvino.Tensor(np.zeros(1, np.float32)).data[:] = 0
        self._own = local()

    def __call__(self, gray: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, H, W, C) -> (N, H, W, 1), and P(real), (N,)."""
        if not hasattr(self._own, "request"):
            self._own.request = self._compiled.create_infer_request()  # of this thread alone
        results = self._own.request.infer({"gray": gray})
        synthesized, *judged = (results[output].copy() for output in self._compiled.outputs)
        return synthesized, judged[0] if judged else np.ones(len(gray), np.float32)
