"""Activations shifted to be centred at zero, for symmetric INT8.

The output of a ReLU is never negative, so symmetric INT8 uses only its upper half: 7 bits. With
its centre subtracted it uses all 8. The layer that reads it adds the centre back in its bias,
exactly, unless it pads its input with zeros. The layer before the ReLU subtracts the centre in its
own bias and the ReLU becomes a Clip; after other pointwise operators a Sub is added.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from agent.graphs.edits import (
    add_to_bias,
    copy_of,
    drop_unused_initializers,
    group_of,
    has_padding,
    has_subgraphs,
    initializer_values,
    set_input,
)
from agent.graphs.smoothing import pointwise_tensors

_CLIPS = ("Clip", "Relu")


@dataclass(frozen=True, slots=True)
class CenterableTensor:
    """An activation that can be centred.

    Attributes:
        name: The tensor.
        readers: Names of the layers that read it centred.
        clip: The Relu or Clip that outputs it, if the layer before it subtracts the centre.
        maker: That layer.
    """

    name: str
    readers: tuple[str, ...]
    clip: str = ""
    maker: str = ""


def centerable(model: onnx.ModelProto) -> tuple[CenterableTensor, ...]:
    """Return the activations of an inferred model that can be centred."""
    return () if has_subgraphs(model.graph) else tuple(_places(model.graph))


def centered(model: onnx.ModelProto, centers: Mapping[str, float]) -> onnx.ModelProto:
    """Return a copy with centred activations.

    Args:
        model: From `qdq.load_inferred`.
        centers: The value that becomes zero, by tensor; the tensors are among `centerable`.
    """
    whole = copy_of(model)
    graph = whole.graph
    nodes = {node.name: node for node in graph.node}
    for place in centerable(model):
        center = centers.get(place.name, 0.0)
        if not center:
            continue
        for reader in place.readers:
            weight = initializer_values(graph, nodes[reader].input[1])
            sums = weight.reshape(len(weight), -1).sum(axis=1, dtype=np.float64)
            add_to_bias(graph, nodes[reader], sums * center)
        if place.clip:
            maker = nodes[place.maker]
            channels = initializer_values(graph, maker.input[1]).shape[maker.op_type != "Conv"]
            add_to_bias(graph, maker, np.full(channels, -center))
            _move_clip(graph, nodes[place.clip], center)
        else:
            _subtract(graph, place, nodes, center)
    drop_unused_initializers(graph)
    return whole


def _places(graph: onnx.GraphProto) -> Iterator[CenterableTensor]:
    constants = {tensor.name for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {value.name: [] for value in graph.output}
    ends = frozenset(readers)
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    loose = pointwise_tensors(graph)
    for name, read_by in readers.items():
        taking = tuple(
            n.name for n in read_by if n.input[0] == name and _reads_unpadded(n, constants)
        )
        if not taking or name not in makers:
            continue
        clip = makers[name]
        if name in loose:
            yield CenterableTensor(name, taking)
        elif clip.op_type in _CLIPS and len(taking) == len(read_by) and name not in ends:
            maker = makers.get(clip.input[0])
            alone = len(readers[clip.input[0]]) == 1 and clip.input[0] not in ends
            if maker is not None and alone and _has_own_bias(maker, clip, constants):
                yield CenterableTensor(name, taking, clip.name, maker.name)


def _reads_unpadded(node: onnx.NodeProto, constants: set[str]) -> bool:
    """Return True for a convolution without padding whose bias can be changed."""
    if node.op_type != "Conv" or any(name not in constants for name in node.input[1:] if name):
        return False
    return not has_padding(node)


def _has_own_bias(maker: onnx.NodeProto, clip: onnx.NodeProto, constants: set[str]) -> bool:
    """Return True for a layer with a changeable bias in front of a clip with constant bounds."""
    grouped = maker.op_type == "ConvTranspose" and group_of(maker) != 1
    if maker.op_type not in ("Conv", "ConvTranspose") or grouped:
        return False
    known = (*maker.input[1:], *clip.input[1:])
    return all(name in constants for name in known if name)


def _move_clip(graph: onnx.GraphProto, node: onnx.NodeProto, center: float) -> None:
    bounds: list[float | None] = [0.0, None]
    if node.op_type == "Clip":
        given = [*node.input[1:], "", ""][:2]
        bounds = [initializer_values(graph, name).item() if name else None for name in given]
    moved = helper.make_node("Clip", [node.input[0]], [node.output[0]], node.name)
    for index, (end, bound) in enumerate(zip(("low", "high"), bounds, strict=True), 1):
        if bound is not None:
            set_input(graph, moved, index, end, np.array(bound - center))
        elif end == "low":
            moved.input.append("")
    node.CopyFrom(moved)


def _subtract(
    graph: onnx.GraphProto,
    place: CenterableTensor,
    nodes: Mapping[str, onnx.NodeProto],
    center: float,
) -> None:
    moved = f"{place.name}:centered"
    middle = numpy_helper.from_array(np.float32(center), f"{place.name}:center")
    graph.initializer.append(middle)
    for reader in place.readers:
        nodes[reader].input[0] = moved
    index = next(i for i, node in enumerate(graph.node) if place.name in node.output)
    node = helper.make_node("Sub", [place.name, middle.name], [moved], moved)
    graph.node.insert(index + 1, node)
