"""Channels evened by a factor of their own in front of a layer, where no weights can take it.

Behind what is not homogeneous (a hard-swish, a gate, a shift) equalization cannot reach the
layers that made the channels. There the activation itself is divided channel by channel on its
way into the quantized layers, and their weights are multiplied. The division is one more
pointwise operator behind pointwise operators, which a runtime computes in one go; behind a
convolution or an addition of branches it would break a fusion, so there it is not put.

Source: Xiao et al. 2022, arXiv:2211.10438 (SmoothQuant).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from agent.graphs.edits import copied, drop_unused, give
from agent.graphs.equalization import along_inputs, changes, factors, read, scalable

_ALONE = (
    "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "Mish", "Selu", "Sigmoid", "Softplus",
    "Tanh",
)  # fmt: skip
_WITH_CONSTANT = ("Add", "Div", "Sub")

Readers = Mapping[str, tuple[onnx.NodeProto, ...]]


def pointwise(graph: onnx.GraphProto) -> frozenset[str]:
    """Return the tensors that operators make which work value by value; of branches only gates."""
    constants = {tensor.name for tensor in graph.initializer}
    return frozenset(
        node.output[0]
        for node in graph.node
        if node.op_type in (*_ALONE, "Mul")
        or (node.op_type in _WITH_CONSTANT and not constants.isdisjoint(node.input))
    )


def smoothable(model: onnx.ModelProto) -> Readers:
    """Return the tensors that can be divided, and the layers that read them.

    Args:
        model: From `qdq.inferred`.
    """
    graph = model.graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    reached = pointwise(graph) - set(read(model))
    found: dict[str, tuple[onnx.NodeProto, ...]] = {}
    for node in graph.node:
        if node.op_type in ("Conv", "ConvTranspose") and scalable(node, shapes):
            name = node.input[0]
            if name in reached:
                found[name] = (*found.get(name, ()), node)
    return found


def smoothed(
    model: onnx.ModelProto, maxima: Mapping[str, NDArray[np.float32]]
) -> tuple[onnx.ModelProto, int]:
    """Return a copy with even channels in front of layers, and at how many places.

    Args:
        model: From `qdq.inferred`.
        maxima: Largest magnitude per channel of the tensors that `smoothable` names.
    """
    whole = copied(model)
    weights = {t.name: numpy_helper.to_array(t) for t in whole.graph.initializer}
    nodes = {node.name: node for node in whole.graph.node}
    changed = 0
    for name, readers in smoothable(model).items():
        by = factors(maxima[name], readers, weights)
        if not changes(by):
            continue
        for reader in readers:
            node = nodes[reader.name]
            values = weights[node.input[1]] * along_inputs(by, node)
            give(whole.graph, node, 1, "weight", values)
            node.input[0] = f"{name}:even"
        _divide(whole.graph, name, by)
        changed += 1
    drop_unused(whole.graph)
    return whole, changed


def _divide(graph: onnx.GraphProto, name: str, by: NDArray[np.float32]) -> None:
    inverse = (1 / by).reshape(1, -1, 1, 1).astype(np.float32)
    graph.initializer.append(numpy_helper.from_array(inverse, f"{name}:factors"))
    place = next(i for i, node in enumerate(graph.node) if name in node.output)
    inputs, outputs = [name, f"{name}:factors"], [f"{name}:even"]
    graph.node.insert(place + 1, helper.make_node("Mul", inputs, outputs, f"{name}:even"))
