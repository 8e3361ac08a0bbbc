"""Folding of constant scales and shifts after a convolution into its weights.

ONNX Runtime folds BatchNormalization after Conv. What remains are those after ConvTranspose and
the learned scale and shift of re-parametrized blocks, each an operator of its own between
integers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from agent.graphs.edits import copy_of, drop_unused_initializers, group_of, has_subgraphs, set_input

_FOLDED = ("Add", "BatchNormalization", "Div", "Mul", "Sub")
Pair = tuple[NDArray[np.float64], NDArray[np.float64]]


def fold_scales_and_shifts(model: onnx.ModelProto) -> tuple[onnx.ModelProto, int]:
    """Return a copy of an inferred model without such operators, and how many were folded.

    The outputs differ by float rounding only.
    """
    whole = copy_of(model)
    count = 0
    while _fold_one(whole.graph):
        count += 1
    drop_unused_initializers(whole.graph)
    return whole, count


def _fold_one(graph: onnx.GraphProto) -> bool:
    if has_subgraphs(graph):
        return False
    weights = {tensor.name: tensor for tensor in graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = {value.name: [] for value in graph.output}
    ends = frozenset(readers)
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for node in graph.node:
        if not _has_own_weights(node, weights) or node.output[0] in ends:
            continue
        after = readers.get(node.output[0], [])
        if len(after) != 1 or after[0].op_type not in _FOLDED:
            continue
        weight = numpy_helper.to_array(weights[node.input[1]]).astype(np.float64)
        axis = 0 if node.op_type == "Conv" else 1
        pair = _affine(after[0], node.output[0], weights, weight.shape[axis], weight.ndim)
        if pair is None:
            continue
        scale, shift = pair
        before = weights.get(node.input[2]) if len(node.input) > 2 else None
        bias = numpy_helper.to_array(before).astype(np.float64) if before is not None else 0.0
        along = [-1 if i == axis else 1 for i in range(weight.ndim)]
        set_input(graph, node, 1, "weight", weight * scale.reshape(along))
        set_input(graph, node, 2, "bias", bias * scale + shift)
        node.output[0] = after[0].output[0]
        graph.node.remove(after[0])
        return True
    return False


def _has_own_weights(node: onnx.NodeProto, weights: Mapping[str, onnx.TensorProto]) -> bool:
    if node.op_type not in ("Conv", "ConvTranspose"):
        return False
    if any(name not in weights for name in node.input[1:]):
        return False
    return node.op_type == "Conv" or group_of(node) == 1


def _affine(
    node: onnx.NodeProto,
    source: str,
    weights: Mapping[str, onnx.TensorProto],
    channels: int,
    rank: int,
) -> Pair | None:
    """Return scale and shift per channel that a node applies to a tensor; None for other nodes."""
    others = [name for name in node.input if name != source]
    if any(name not in weights for name in others) or list(node.input).count(source) != 1:
        return None
    constants = [numpy_helper.to_array(weights[name]).astype(np.float64) for name in others]
    first = node.input[0] == source
    if node.op_type == "BatchNormalization":
        return _batchnorm(node, constants) if first and len(node.output) == 1 else None
    constant = _per_channel(constants[0], channels, rank)
    if constant is None or (node.op_type == "Div" and not (first and constant.all())):
        return None
    scale, shift = np.ones(channels), np.zeros(channels)
    if node.op_type in ("Mul", "Div"):
        scale = constant if node.op_type == "Mul" else 1 / constant
    else:
        scale = scale if first or node.op_type == "Add" else -scale
        shift = -constant if first and node.op_type == "Sub" else constant
    return scale, shift


def _batchnorm(node: onnx.NodeProto, constants: Sequence[NDArray[np.float64]]) -> Pair:
    gamma, beta, mean, variance = constants
    epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
    scale = gamma / np.sqrt(variance + epsilon)
    return scale, beta - mean * scale


def _per_channel(
    constant: NDArray[np.float64], channels: int, rank: int
) -> NDArray[np.float64] | None:
    if constant.size == 1 and constant.ndim <= rank:
        return np.full(channels, float(constant.reshape(-1)[0]))
    whole = (1,) * (rank - constant.ndim) + constant.shape
    if whole == (1, channels) + (1,) * (rank - 2):
        return constant.reshape(-1)
    return None
