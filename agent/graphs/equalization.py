"""Cross-layer equalization: channels scaled to one size before quantization.

An activation has one scale for all its channels, so a channel far smaller than the largest keeps
few of the 256 levels. Each channel is divided in the layers that output it and multiplied in the
layers that read it, which is exact if everything in between is homogeneous
(f(a x) = a f(x) for a > 0). With one weight scale per output channel neither the makers nor
depthwise readers lose precision; dense readers get less even weights, so they get the square root.

The float outputs stay the same, but for float rounding.

Sources: Nagel et al. 2019, arXiv:1906.04721, section 4.1 (cross-layer equalization); Xiao et al.
2022, arXiv:2211.10438, equation 4 (activations weighed against the weights that read them).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from agent.graphs.compute import WEIGHTED, shapes
from agent.graphs.edits import copy_of, drop_unused_initializers, group_of, has_subgraphs, set_input
from agent.graphs.regions import regions

_HOMOGENEOUS = (
    "Add", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Identity", "LeakyRelu", "Max",
    "MaxPool", "Min", "PRelu", "Relu", "Sub", "Sum",
)  # fmt: skip
_JOINING = ("Add", "Max", "Min", "Sub", "Sum")
_RANK = 4
_LARGEST_EXPONENT = 12  # a channel 4096 times smaller than another is noise
_UNCHANGED = 0.01  # distance of factors from 1 below which they have no effect


@dataclass(frozen=True, slots=True)
class EqualizableRegion:
    """Tensors whose channels can be scaled, by the layers that output and that read them.

    Attributes:
        channels: Size of axis 1 of all its tensors.
    """

    channels: int
    makers: tuple[onnx.NodeProto, ...] = field(repr=False)
    readers: tuple[onnx.NodeProto, ...] = field(repr=False)


def equalizable_regions(model: onnx.ModelProto) -> Iterator[EqualizableRegion]:
    """Yield the regions of an inferred model where equalization is exact."""
    graph = model.graph
    if has_subgraphs(graph):
        return
    weights = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    region = regions(graph)
    barred = {region.get(value.name) for value in (*graph.input, *graph.output)}
    makers: dict[str, list[onnx.NodeProto]] = {}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        if node.op_type not in WEIGHTED:
            if not _is_homogeneous(node, weights):
                barred.update(region.get(name) for name in (*node.input, *node.output))
            continue
        if has_scalable_weights(node, weights):
            makers.setdefault(region[node.output[0]], []).append(node)
            readers.setdefault(region[node.input[0]], []).append(node)
        else:
            barred.update(region.get(name) for name in (*node.input, *node.output))
    known = shapes(graph)
    sizes: dict[str, set[int]] = {}
    for name, root in region.items():
        shape = known.get(name, ())
        sizes.setdefault(root, set()).add(shape[1] if len(shape) == _RANK else 0)
    for root, made_by in makers.items():
        channels = max(sizes[root])
        if root in readers and root not in barred and sizes[root] == {channels} and channels:
            yield EqualizableRegion(channels, tuple(made_by), tuple(readers[root]))


def tensors_to_equalize(model: onnx.ModelProto) -> tuple[str, ...]:
    """Return the tensors whose channel maxima `equalized` needs."""
    return tuple(dict.fromkeys(n.input[0] for p in equalizable_regions(model) for n in p.readers))


def equalized(
    model: onnx.ModelProto, maxima: Mapping[str, NDArray[np.float32]]
) -> tuple[onnx.ModelProto, int]:
    """Return a copy of an inferred model with equalized channels, and how many regions changed.

    Args:
        model: From `qdq.load_inferred`.
        maxima: Largest magnitude per channel of the tensors that `tensors_to_equalize` names.
    """
    whole = copy_of(model)
    nodes = {node.name: node for node in whole.graph.node}
    weights = {t.name: numpy_helper.to_array(t) for t in whole.graph.initializer}

    def scale(node: onnx.NodeProto, index: int, by: NDArray[Any]) -> None:
        name = ("weight", "bias")[index - 1]
        values = weights[nodes[node.name].input[index]] * by
        set_input(whole.graph, nodes[node.name], index, name, values)
        weights[nodes[node.name].input[index]] = values

    changed = 0
    for passage in equalizable_regions(model):
        if any(node.input[0] not in maxima for node in passage.readers):
            continue
        largest = np.max([maxima[node.input[0]] for node in passage.readers], axis=0)
        by = channel_factors(largest, passage.readers, weights)
        changed += worth_applying(by)
        for node in passage.makers:
            scale(node, 1, _along_outputs(1 / by, node))
            if len(node.input) > 2 and node.input[2]:
                scale(node, 2, 1 / by)
        for node in passage.readers:
            scale(node, 1, along_inputs(by, node))
    drop_unused_initializers(whole.graph)
    return whole, changed


def channel_factors(
    largest: NDArray[np.float32],
    readers: Sequence[onnx.NodeProto],
    weights: Mapping[str, NDArray[Any]],
) -> NDArray[np.float32]:
    """Return the divisor of each channel of an activation, shape (channels,).

    Args:
        largest: Largest magnitude in each channel, shape (channels,).
        readers: The layers that read it.
        weights: By name.
    """
    exponent = np.log2(np.maximum(largest.astype(np.float64), 1e-30))
    needed = [
        _largest_relative_weight(node, weights[node.input[1]])
        for node in readers
        if group_of(node) == 1
    ]
    alive = largest > 0
    if needed:
        strongest = np.max(needed, axis=0)
        exponent = (exponent - np.log2(np.maximum(strongest, 1e-30))) / 2
        alive &= strongest > 0
    if not alive.any():
        return np.ones(len(largest), np.float32)
    exponent = np.where(alive, exponent - np.median(exponent[alive]), 0)
    limited = np.clip(exponent, -_LARGEST_EXPONENT, _LARGEST_EXPONENT)
    return np.asarray(np.exp2(limited), np.float32)


def worth_applying(by: NDArray[np.float32]) -> bool:
    """Return True if these factors are worth applying."""
    return bool((np.abs(by - 1) > _UNCHANGED).any())


def _largest_relative_weight(node: onnx.NodeProto, weight: NDArray[Any]) -> NDArray[np.float64]:
    """Return per input channel the largest ratio of a weight to its output channel's largest."""
    rows = np.abs(weight.astype(np.float64)).max(axis=(2, 3))
    if node.op_type == "ConvTranspose":  # (in, out, kernel...)
        rows = rows.T
    even = rows / np.maximum(rows.max(axis=1, keepdims=True), 1e-30)
    return np.asarray(even.max(axis=0))


def along_inputs(by: NDArray[Any], node: onnx.NodeProto) -> NDArray[Any]:
    """Reshape values per input channel to multiply a layer's weight of rank 4."""
    dense = node.op_type == "Conv" and group_of(node) == 1
    return by.reshape((1, -1, 1, 1) if dense else (-1, 1, 1, 1))  # depthwise and transposed: first


def _along_outputs(by: NDArray[Any], node: onnx.NodeProto) -> NDArray[Any]:
    return by.reshape((-1, 1, 1, 1) if node.op_type == "Conv" else (1, -1, 1, 1))


def has_scalable_weights(node: onnx.NodeProto, weights: Mapping[str, tuple[int, ...]]) -> bool:
    """Return True for dense and depthwise convolutions over pictures with constant weights."""
    if any(name and name not in weights for name in node.input[1:]):
        return False
    if node.op_type not in ("Conv", "ConvTranspose") or len(weights[node.input[1]]) != _RANK:
        return False
    first, second = weights[node.input[1]][:2]
    groups = group_of(node)
    return groups == 1 or (node.op_type == "Conv" and second == 1 and groups == first)


def _is_homogeneous(node: onnx.NodeProto, weights: Mapping[str, tuple[int, ...]]) -> bool:
    if node.op_type not in _HOMOGENEOUS:
        return False
    if node.op_type in _JOINING:
        return weights.keys().isdisjoint(node.input)
    return True
