"""Generator and discriminator as one ONNX graph, built from the configuration and the stored weights, without Keras.

The graph computes what :class:`stan_ct.engines.tensorflow.TensorFlowNetworks` does at inference, with the same layouts at its
ends: gray (N, H, W, C) -> synthesized (N, H, W, 1) in [-1, 1] and, where a discriminator judges, P(real), (N,). Its weights lie
outside it, in the model's own `.npz` files, which hold them uncompressed (ONNX calls this external data): a graph is a few KB,
and it cannot have other weights than the model.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from stan_ct.models.checksums import InvalidModel
from stan_ct.models.config import ModelConfig
from stan_ct.networks.config import DiscriminatorConfig, GeneratorConfig, Normalization, Upsampling
from stan_ct.networks.shapes import (
    DETAIL_GAIN,
    DETAIL_SIZE,
    ENCODER_FILTERS,
    GROUPS,
    HIDDEN_STRIDES,
    LEAK,
    NORMALIZATION_EPSILON,
    VECTORS,
)

OPSET, IR = 21, 10
"""Versions of ONNX's operators and of its files: old enough for the oldest engines that are supported."""
GRAY, SYNTHESIZED, P_REAL = "gray", "synthesized", "p_real"
"""Names of the input and of the outputs."""


def networks_graph(folder: Path, config: ModelConfig, judged: bool) -> onnx.ModelProto:
    """The graph of a model folder.

    Args:
        folder: Model folder; its `.npz` files are what the graph's weights refer to.
        config: Its configuration.
        judged: Whether the discriminator is part of the graph.
    Raises:
        InvalidModel: If an `.npz` file holds other types than float16 and float32.
    """
    graph = _Graph(folder)
    gray = graph("Transpose", GRAY, perm=(0, 3, 1, 2))
    synthesized = graph("Clip", _generator(graph, config.generator, gray), graph.constant(-1.0), graph.constant(1.0))
    graph.name(graph("Transpose", synthesized, perm=(0, 2, 3, 1)), SYNTHESIZED)
    outputs = [_value(SYNTHESIZED, ("N", "H", "W", 1))]
    if judged:
        source = [graph.first_channel(gray)] if config.discriminator.conditional else []
        seen = graph("Concat", *source, synthesized, axis=1) if source else synthesized
        graph.name(_p_real(graph, _discriminator(graph, config.discriminator, seen)), P_REAL)
        outputs.append(_value(P_REAL, ("N",)))
    inputs = [_value(GRAY, ("N", "H", "W", config.generator.channels))]
    made = helper.make_graph(graph.nodes, "networks", inputs, outputs, graph.initializers)
    return helper.make_model(made, producer_name="stan-ct", opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)


class _Graph:
    """Nodes and weights under way; a call adds a node and returns the name of its output."""

    def __init__(self, folder: Path) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._folder = folder

    def __call__(self, operator: str, *inputs: str, **attributes: Any) -> str:
        output = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def name(self, value: str, name: str) -> None:
        """Gives a value a name of its own."""
        self.nodes.append(helper.make_node("Identity", [value], [name]))

    def constant(self, value: float | Sequence[int]) -> str:
        """A float32 number, or int64 numbers."""
        array = np.float32(value) if isinstance(value, float) else np.array(value, np.int64)
        self.initializers.append(numpy_helper.from_array(np.asarray(array), f"constant_{len(self.initializers)}"))
        return self.initializers[-1].name

    def first_channel(self, x: str) -> str:
        """(N, C, H, W) -> (N, 1, H, W)."""
        return self("Slice", x, *map(self.constant, ([0], [1], [1])))

    def weights(self, label: str) -> Iterator[str]:
        """The weights of a network in float32, one after the other, as they are stored."""
        for tensor in stored_weights(self._folder / f"{label}.npz"):
            self.initializers.append(tensor)
            half = tensor.data_type == TensorProto.FLOAT16
            yield self("Cast", tensor.name, to=TensorProto.FLOAT) if half else tensor.name


def stored_weights(path: Path) -> Iterator[onnx.TensorProto]:
    """Arrays of an `.npz` file of a model, in their order, as tensors that refer to where it holds them.

    Raises:
        InvalidModel: If it holds other types than float16 and float32.
    """
    types = {"<f2": TensorProto.FLOAT16, "<f4": TensorProto.FLOAT}
    with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
        for entry in sorted(archive.infolist(), key=lambda each: each.filename):
            file.seek(entry.header_offset + 26)
            name_size, extra_size = np.frombuffer(file.read(4), "<u2")
            file.seek(entry.header_offset + 30 + int(name_size) + int(extra_size))
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(file)
            if fortran or dtype.str not in types:  # they are uncompressed: no model with others is loaded
                raise InvalidModel(
                    f"{path}: array {entry.filename} is {dtype.str}{' in Fortran order' * fortran}, expected float16 or "
                    "float32 in C order, as train.py writes them: save the model with it"
                )
            tensor = TensorProto(name=f"{path.stem}/{Path(entry.filename).stem}", data_type=types[dtype.str], dims=shape)
            tensor.data_location = TensorProto.EXTERNAL
            length = int(np.prod(shape)) * dtype.itemsize
            for key, value in (("location", path.name), ("offset", file.tell()), ("length", length)):
                tensor.external_data.add(key=key, value=str(value))
            yield tensor


def _generator(graph: _Graph, config: GeneratorConfig, gray: str) -> str:
    """(N, C, H, W) -> (N, 1, H, W), as :class:`stan_ct.networks.generator.Generator` does."""
    weights, normalization, upsampling = graph.weights("generator"), config.normalization, config.upsampling
    skips, x = [], gray
    for i in range(len(ENCODER_FILTERS)):
        x = _hidden(graph, _convolution(graph, weights, x, 2, (1, 1)), weights, normalization if i else "none")
        skips.append(x)
    x = _hidden(graph, _convolution(graph, weights, x, 2, (1, 1)), weights, "none")
    for skip in reversed(skips):
        up = _hidden(graph, _upsampled(graph, weights, x, upsampling), weights, normalization)
        x = graph("Concat", up, skip, axis=1)
    if config.full_resolution:
        detail = _hidden(graph, _convolution(graph, weights, gray, 1, (1, 1)), weights, "none")
        full_size = _hidden(graph, _upsampled(graph, weights, x, upsampling), weights, "none")
        x = _convolution(graph, weights, graph("Concat", full_size, detail, axis=1), 1, (1, 1))
    else:
        x = _upsampled(graph, weights, x, upsampling)
    change = graph("Tanh", x)
    return graph("Add", graph.first_channel(gray), change) if config.residual else change


def _discriminator(graph: _Graph, config: DiscriminatorConfig, x: str) -> str:
    """(N, C, H, W) -> logits (N, 2, H / 8, W / 8), as :class:`stan_ct.networks.discriminator.Discriminator` does."""
    weights = graph.weights("discriminator")
    if config.high_pass:
        side = DETAIL_SIZE // 2
        mean = graph("AveragePool", x, kernel_shape=[DETAIL_SIZE] * 2, pads=[side] * 4, count_include_pad=0)
        x = graph("Mul", graph("Sub", x, mean), graph.constant(DETAIL_GAIN))
    for stride in HIDDEN_STRIDES:
        x = graph("LeakyRelu", _convolution(graph, weights, x, stride, (1, stride % 2 + 1), config.spectral), alpha=LEAK)
    return _convolution(graph, weights, x, 1, (1, 2), config.spectral)


def _p_real(graph: _Graph, logits: str) -> str:
    """Logits [fake, real] -> mean P(real), (N,)."""
    fake, real = (graph("Slice", logits, *map(graph.constant, ([i], [i + 1], [1]))) for i in range(2))
    return graph("ReduceMean", graph("Sigmoid", graph("Sub", real, fake)), graph.constant([1, 2, 3]), keepdims=0)


def _convolution(
    graph: _Graph, weights: Iterator[str], x: str, stride: int, padding: tuple[int, int], spectral: bool = False
) -> str:
    """Keras's `Conv2D` with `same` padding; a spectrally normalized one holds its normalized kernel, and a vector too."""
    kernel = graph("Transpose", next(weights), perm=(3, 2, 0, 1))
    if spectral:
        next(weights)
    before, after = padding
    return graph("Conv", x, kernel, next(weights), strides=[stride] * 2, pads=[before, before, after, after])


def _upsampled(graph: _Graph, weights: Iterator[str], x: str, kind: Upsampling) -> str:
    """(N, c, h, w) -> (N, filters, 2 h, 2 w), see :func:`stan_ct.networks.blocks.upsampling_layer`."""
    if kind == "pixel_shuffle":
        return graph("DepthToSpace", _convolution(graph, weights, x, 1, (1, 1)), blocksize=2, mode="DCR")
    if kind == "transposed":
        kernel = graph("Transpose", next(weights), perm=(3, 2, 0, 1))
    else:  # the 3 x 3 kernel, turned around and summed over shifts, see ResizeConvolution
        kernel = graph("Transpose", next(weights), perm=(2, 3, 0, 1))
        last, first = [-1, -1], [-(2**31)] * 2
        kernel = graph("Slice", kernel, *map(graph.constant, (last, first, [2, 3], [-1, -1])))
        pads = [(1 - row, 1 - column, row, column) for row in (0, 1) for column in (0, 1)]
        padded = [graph("Pad", kernel, graph.constant([0, 0, top, left, 0, 0, low, right])) for top, left, low, right in pads]
        kernel = graph("Sum", *padded)
    return graph("ConvTranspose", x, kernel, next(weights), strides=[2, 2], pads=[1] * 4)


def _hidden(graph: _Graph, x: str, weights: Iterator[str], normalization: Normalization) -> str:
    """Normalization, if any, and activation of a hidden layer."""
    vectors = [next(weights) for _ in range(VECTORS[normalization])]
    if normalization == "batch":
        x = graph("BatchNormalization", x, *vectors, epsilon=NORMALIZATION_EPSILON)
    elif normalization == "group":
        x = graph("GroupNormalization", x, *vectors, num_groups=GROUPS, epsilon=NORMALIZATION_EPSILON)
    return graph("LeakyRelu", x, alpha=LEAK)


def _value(name: str, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
