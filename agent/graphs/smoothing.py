"""Channels scaled by an added operator in front of a layer, where no weights can absorb the factor.

After operators that are not homogeneous (a hard-swish, a gate, a shift) equalization cannot reach
the layers that output the channels. There the activation is divided channel by channel in front of
the quantized layers, and their weights are multiplied. The division follows pointwise operators
only, with which a runtime fuses it; after a convolution or an addition of branches it would break a
fusion.

Source: Xiao et al. 2022, arXiv:2211.10438 (SmoothQuant).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from agent.graphs.edits import copy_of, drop_unused_initializers, set_input
from agent.graphs.equalization import (
    along_inputs,
    channel_factors,
    has_scalable_weights,
    tensors_to_equalize,
    worth_applying,
)

_ALONE = (
    "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "Mish", "Selu", "Sigmoid", "Softplus",
    "Tanh",
)  # fmt: skip
_WITH_CONSTANT = ("Add", "Div", "Sub")

Readers = Mapping[str, tuple[onnx.NodeProto, ...]]


def pointwise_tensors(graph: onnx.GraphProto) -> frozenset[str]:
    """Return the outputs of pointwise operators; of those that join branches only gates (Mul)."""
    constants = {tensor.name for tensor in graph.initializer}
    return frozenset(
        node.output[0]
        for node in graph.node
        if node.op_type in (*_ALONE, "Mul")
        or (node.op_type in _WITH_CONSTANT and not constants.isdisjoint(node.input))
    )


def smoothable(model: onnx.ModelProto) -> Readers:
    """Return the tensors of an inferred model that can be divided, and their reading layers."""
    graph = model.graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    reached = pointwise_tensors(graph) - set(tensors_to_equalize(model))
    found: dict[str, tuple[onnx.NodeProto, ...]] = {}
    for node in graph.node:
        if node.op_type in ("Conv", "ConvTranspose") and has_scalable_weights(node, shapes):
            name = node.input[0]
            if name in reached:
                found[name] = (*found.get(name, ()), node)
    return found


def smoothed(
    model: onnx.ModelProto, maxima: Mapping[str, NDArray[np.float32]]
) -> tuple[onnx.ModelProto, int]:
    """Return a copy with equalized channels in front of layers, and how many tensors changed.

    Args:
        model: From `qdq.load_inferred`.
        maxima: Largest magnitude per channel of the tensors that `smoothable` names.
    """
    whole = copy_of(model)
    weights = {t.name: numpy_helper.to_array(t) for t in whole.graph.initializer}
    nodes = {node.name: node for node in whole.graph.node}
    changed = 0
    for name, readers in smoothable(model).items():
        if name not in maxima:
            continue
        by = channel_factors(maxima[name], readers, weights)
        if not worth_applying(by):
            continue
        for reader in readers:
            node = nodes[reader.name]
            values = weights[node.input[1]] * along_inputs(by, node)
            set_input(whole.graph, node, 1, "weight", values)
            node.input[0] = f"{name}:even"
        _divide(whole.graph, name, by)
        changed += 1
    drop_unused_initializers(whole.graph)
    return whole, changed


def _divide(graph: onnx.GraphProto, name: str, by: NDArray[np.float32]) -> None:
    inverse = (1 / by).reshape(1, -1, 1, 1).astype(np.float32)
    graph.initializer.append(numpy_helper.from_array(inverse, f"{name}:factors"))
    place = next(i for i, node in enumerate(graph.node) if name in node.output)
    inputs, outputs = [name, f"{name}:factors"], [f"{name}:even"]
    graph.node.insert(place + 1, helper.make_node("Mul", inputs, outputs, f"{name}:even"))
