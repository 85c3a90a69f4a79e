"""The exported networks of a model folder: `networks.onnx`, and `networks.json`, which tells of what they were made."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from stan_ct.models.checksums import GRAPH, RECORD, SHIPPED, read_file
from stan_ct.models.folder import load_judge, read_config


@dataclass(frozen=True)
class Export:
    """What is known of exported networks.

    Attributes:
        model: Hash of the model, see :func:`stan_ct.models.folder.model_hash`.
        graph: SHA-256 of `networks.onnx`.
        largest_difference: From TensorFlow's output, HU, over the patches of the comparison.
        compared: Engine -> its version, and TensorFlow's and Keras's.
    """

    model: str
    graph: str
    largest_difference: float
    compared: dict[str, str]

    def to_json(self) -> str:
        """Text of `networks.json`."""
        return json.dumps(asdict(self), indent=1) + "\n"


def not_exported(folder: Path, model: str) -> str:
    """Why the exported networks of a model folder cannot be used; empty if they can.

    Args:
        folder: Model folder.
        model: Hash of the model.
    """
    graph, record = folder / GRAPH, folder / RECORD
    if not (graph.is_file() and record.is_file()):
        return f"{folder} has no {GRAPH} with its {RECORD}"
    try:
        made = json.loads(read_file(record))
        found = made["model"], made["graph"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return f"{record} is damaged"
    if found[0] != model:
        return f"{graph} was made of another state of the model"
    content = read_file(graph)
    if found[1] != hashlib.sha256(content).hexdigest():
        return f"{graph} is not what was exported"
    return "" if folder.resolve().parent == SHIPPED else _foreign(graph, content)


def _foreign(graph: Path, content: bytes) -> str:
    """Why a graph is not the one that this version makes of the model's configuration and weights; empty if it is.

    A graph may name any operators, and any files beside it: one from elsewhere is not run.
    """
    if not find_spec("onnx"):
        return f"onnx is not installed, with which {graph} is checked"
    from stan_ct.engines.graph import networks_graph

    config = read_config(graph.parent)
    judged = config.method == "stan_ct" and load_judge(graph.parent) is None
    made = networks_graph(graph.parent, config, judged).SerializeToString(deterministic=True)
    return "" if made == content else f"{graph} is not what this version exports"
