"""Rounding of single weights and activations to INT8, for trials of one place at a time."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from agent.graphs.compute import WEIGHTED
from agent.graphs.edits import copy_of, drop_unused_initializers, set_inputs
from agent.graphs.qdq import quantized_tensors, with_qdq

Range = tuple[float, float]
Weights = Mapping[str, NDArray[np.float32]]
"""By layer."""


def rounded_weights(clean: onnx.ModelProto, scheme: str) -> dict[str, NDArray[np.float32]]:
    """Return each layer's weights rounded to the nearest INT8 code and back."""
    known = dict.fromkeys(quantized_tensors(clean, scheme), (-1.0, 1.0))
    placed = with_qdq(clean, scheme, known).graph
    constants = {t.name: t for t in placed.initializer}
    dequantizers = {n.output[0]: n for n in placed.node if n.op_type == "DequantizeLinear"}
    weights = {t.name for t in clean.graph.initializer}
    before = {n.name: n for n in clean.graph.node}
    found = {}
    for node in placed.node:
        if node.op_type not in WEIGHTED or node.name not in before:
            continue
        original, maker = before[node.name].input[1], dequantizers.get(node.input[1])
        if original in weights and maker is not None and maker.input[0] in constants:
            found[node.name] = _dequantized_weight(maker, constants)
    return found


def with_weights(model: onnx.ModelProto, weights: Weights) -> onnx.ModelProto:
    """Return a copy in which some layers have other weights."""
    whole = copy_of(model)
    changes = [(node, weights[node.name]) for node in whole.graph.node if node.name in weights]
    set_inputs(whole.graph, changes, 1, "rounded")
    drop_unused_initializers(whole.graph)
    return whole


def insert_qdq(
    graph: onnx.GraphProto, tensor: str, span: Range, readers: Collection[str] | None
) -> None:
    """Insert Q/DQ between an activation and its readers.

    Args:
        graph: Changed in place.
        tensor: The activation.
        span: Its range.
        readers: Names of the nodes that read INT8, with symmetric codes; None for all readers and
            the outputs of the model, with asymmetric codes.
    """
    low, high = span
    if readers is not None:
        scale, zero = max(-low, high) / 127, np.int8(0)
    else:
        scale = (high - low) / 255
        zero = np.uint8(round(-low / scale))
    made = [i for i, node in enumerate(graph.node) if tensor in node.output]
    source, target = tensor, f"{tensor}:rounded"
    if readers is None and made:  # the new tensor gets the old one's name, also as an output
        source, target = f"{tensor}:float", tensor
        _rename(graph.node[made[0]].output, tensor, source)
    else:
        for node in graph.node:
            if readers is None or node.name in readers:
                _rename(node.input, tensor, target)
    graph.initializer.append(numpy_helper.from_array(np.float32(scale), f"{tensor}:scale"))
    graph.initializer.append(numpy_helper.from_array(np.array(zero), f"{tensor}:zero"))
    pair = [
        helper.make_node(
            kind, [read, f"{tensor}:scale", f"{tensor}:zero"], [written], f"{tensor}:{kind}"
        )
        for kind, read, written in (
            ("QuantizeLinear", source, f"{tensor}:codes"),
            ("DequantizeLinear", f"{tensor}:codes", target),
        )
    ]
    nodes = list(graph.node)
    place = made[0] + 1 if made else 0
    del graph.node[:]
    graph.node.extend([*nodes[:place], *pair, *nodes[place:]])


def _dequantized_weight(
    maker: onnx.NodeProto, constants: dict[str, onnx.TensorProto]
) -> NDArray[np.float32]:
    codes = numpy_helper.to_array(constants[maker.input[0]])
    scale = numpy_helper.to_array(constants[maker.input[1]])
    if scale.ndim:
        axis = next((a.i for a in maker.attribute if a.name == "axis"), 1) % codes.ndim
        scale = scale.reshape([-1 if i == axis else 1 for i in range(codes.ndim)])
    values: NDArray[np.float32] = (codes * scale).astype(np.float32)
    return values


def _rename(names: Any, old: str, new: str) -> None:
    for index, name in enumerate(names):
        if name == old:
            names[index] = new
