"""Half-precision graphs in float32, with the same weights.

ONNX Runtime would add a Cast in front of every weight, which then looks like an activation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from agent.graphs.edits import bodies_of, unused_name

_NARROW = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
_TYPE_ATTRIBUTES = ("dtype", "output_dtype", "to")


def to_float32(model: onnx.ModelProto) -> int:
    """Make the weights and operators of a graph float32; return how many weights changed.

    Inputs and outputs keep their types, by a Cast each.

    Args:
        model: Changed in place.
    """
    graph = model.graph
    changed = _widen(graph)
    for function in model.functions:
        for node in function.node:
            changed += _widen_node(node)
    if changed:
        _cast_ends(graph)
    return changed


def narrow_types(model: onnx.ModelProto) -> frozenset[int]:
    """Return which half-precision types the weights of a graph have, bodies and functions included."""
    found = set(_types(model.graph.initializer, model.graph.node))
    for function in model.functions:
        found |= set(_types((), function.node))
    return frozenset(found & set(_NARROW))


def _types(tensors: Iterable[onnx.TensorProto], nodes: Iterable[onnx.NodeProto]) -> Iterator[int]:
    yield from (tensor.data_type for tensor in tensors)
    for node in nodes:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t.data_type
        for body in bodies_of(node):
            yield from _types(body.initializer, body.node)


def _widen(graph: onnx.GraphProto) -> int:
    """Widen weights, attributes and described tensors, bodies of If and Loop included."""
    changed = sum(_widen_tensor(tensor) for tensor in graph.initializer)
    for value in graph.value_info:
        _widen_value(value)
    return changed + sum(_widen_node(node) for node in graph.node)


def _widen_node(node: onnx.NodeProto) -> int:
    changed = 0
    for attribute in node.attribute:
        if attribute.name in _TYPE_ATTRIBUTES and attribute.i in _NARROW:
            attribute.i = TensorProto.FLOAT
        if attribute.type == onnx.AttributeProto.TENSOR:
            changed += _widen_tensor(attribute.t)
    for body in bodies_of(node):
        for value in (*body.input, *body.output):
            _widen_value(value)
        changed += _widen(body)
    return changed


def _widen_tensor(tensor: onnx.TensorProto) -> bool:
    if tensor.data_type not in _NARROW:
        return False
    values = numpy_helper.to_array(tensor).astype(np.float32)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return True


def _widen_value(value: onnx.ValueInfoProto) -> None:
    if value.type.tensor_type.elem_type in _NARROW:
        value.type.tensor_type.elem_type = TensorProto.FLOAT


def _cast_ends(graph: onnx.GraphProto) -> None:
    """Insert a Cast behind each half-precision input and in front of each such output."""
    weights = {tensor.name for tensor in graph.initializer}
    inner: dict[str, str] = {}
    casts = []
    for value in graph.input:
        if value.type.tensor_type.elem_type in _NARROW and value.name not in weights:
            inner[value.name] = unused_name(graph, f"{value.name}:float32")
            made = (value.name, inner[value.name], TensorProto.FLOAT)
            casts.append(_cast(*made))
    before = list(casts)
    ends: dict[str, str] = {}
    for value in graph.output:
        if value.type.tensor_type.elem_type in _NARROW:
            ends[value.name] = unused_name(graph, f"{value.name}:float32")
            source = inner.get(value.name, ends[value.name])
            casts.append(_cast(source, value.name, value.type.tensor_type.elem_type))
    for tensor in graph.initializer:
        tensor.name = ends.get(tensor.name, tensor.name)
    _rename(graph, inner | ends)
    nodes = [*before, *graph.node, *casts[len(before) :]]
    del graph.node[:]
    graph.node.extend(nodes)


def _rename(graph: onnx.GraphProto, new: Mapping[str, str]) -> None:
    """Rename tensors in nodes, bodies included."""
    for value in graph.value_info:
        value.name = new.get(value.name, value.name)
    for node in graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name in new:
                    names[index] = new[name]
        for body in bodies_of(node):
            _rename(body, new)


def _cast(source: str, target: str, element: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target], f"{target}:cast", to=element)
