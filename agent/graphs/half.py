"""Conversion to float16; nodes that would overflow stay in float32."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16

from agent.graphs.channels import maxima
from agent.graphs.edits import (
    bodies_of,
    copy_of,
    read_in_bodies,
    sort_unordered,
    unused_name,
)

_LARGEST = float(np.finfo(np.float16).max) / 2
"""Half of 65504, since other frames may contain larger values."""
_BY_CONVERTER = re.compile(r"(^graph_input|^graph_output|)_cast(?=\d|_\d|_to_fp16|_to_fp32)")
"""The part of a name that the converter to float16 gives to a cast, before its number or type."""


def to_float16(
    model: onnx.ModelProto, frames: Iterable[Mapping[str, NDArray[Any]]], threads: int
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """Return an inferred model in float16 and the nodes left in float32.

    Inputs and outputs keep their types.

    Args:
        model: Every node named; it is not changed.
        frames: Inputs on which overflow is looked for.
        threads: Of the runtime; 0 takes all cores.
    """
    kept = nodes_overflowing(model, frames, threads)
    return with_float16(model, kept), kept


def with_float16(model: onnx.ModelProto, wide: Collection[str]) -> onnx.ModelProto:
    """Return a copy of an inferred model in float16; inputs and outputs keep their types.

    Args:
        model: Every node named.
        wide: Nodes to leave in float32. Those with bodies (If, Loop, Scan) stay too: the converter
            puts the casts of a body outside of it.
    """
    with warnings.catch_warnings():
        # It warns of every weight that becomes zero; fidelity is measured later.
        warnings.simplefilter("ignore", UserWarning)
        whole = copy_of(model)
        wide = {*_with_free_names(whole.graph, wide), *_widen_bodies(whole.graph)}
        half: onnx.ModelProto = convert_float_to_float16(
            whole, keep_io_types=True, node_block_list=list(wide), disable_shape_infer=True
        )
    _drop_casts_between(half.graph)
    return half


def _with_free_names(graph: onnx.GraphProto, wide: Collection[str]) -> set[str]:
    """Rename nodes and inner tensors that have names as the converter gives; return `wide` so too.

    A file that went through a converter before has such names, and would get them twice.
    """
    ends = {value.name for value in (*graph.input, *graph.output)}
    made = {name for node in graph.node for name in node.output} - ends
    names = {name: unused_name(graph, _freed(name)) for name in made if _freed(name) != name}
    for node in graph.node:
        node.name = _freed(node.name)
        for index, name in enumerate(node.output):
            node.output[index] = names.get(name, name)
    for value in graph.value_info:
        value.name = names.get(value.name, value.name)
    _rename_read(graph, names)
    return {_freed(name) for name in wide}


def _freed(name: str) -> str:
    return _BY_CONVERTER.sub(r"\1-cast", name)


def _widen_bodies(graph: onnx.GraphProto) -> set[str]:
    """Make bodies read float32 values from outside; return the nodes that must stay in float32.

    The new tensors have no description, which the converter takes as a value that is not float16.
    """
    outside = {
        value.name
        for value in (*graph.value_info, *graph.input, *graph.initializer)
        if _element(value) == TensorProto.FLOAT
    }
    read = sorted(outside.intersection(read_in_bodies(graph)))
    names = {name: unused_name(graph, f"{name}:wide") for name in read}
    wide = {node.name for node in graph.node if any(bodies_of(node))}
    for node in graph.node:
        for body in bodies_of(node):
            _rename_read(body, names)
    for name, widened in names.items():
        graph.node.append(helper.make_node("Identity", [name], [widened], widened))
    sort_unordered(graph)
    return wide | set(names.values())


def _element(value: onnx.ValueInfoProto | onnx.TensorProto) -> int:
    if isinstance(value, onnx.TensorProto):
        return int(value.data_type)
    return int(value.type.tensor_type.elem_type)


def _rename_read(body: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Rename what a body or a graph reads, at any depth."""
    for node in body.node:
        for index, name in enumerate(node.input):
            if name in names:
                node.input[index] = names[name]
        for inner in bodies_of(node):
            _rename_read(inner, names)
    for value in body.output:
        value.name = names.get(value.name, value.name)


def nodes_overflowing(
    model: onnx.ModelProto, frames: Iterable[Mapping[str, NDArray[Any]]], threads: int
) -> tuple[str, ...]:
    """Return the nodes that read or write values beyond half of the float16 range.

    Included are those at a tensor of unknown shape, which may be empty: its values are not known.
    """
    graph = model.graph
    floats = {
        value.name
        for value in (*graph.value_info, *graph.input, *graph.output)
        if value.type.tensor_type.elem_type == TensorProto.FLOAT
    }
    made = [name for node in graph.node for name in node.output if name in floats]
    names = [*(value.name for value in graph.input if value.name in floats), *made]
    found = maxima(model, names, frames, threads)
    found |= {
        tensor.name: float(np.abs(numpy_helper.to_array(tensor)).max(initial=0))
        for tensor in graph.initializer
        if tensor.data_type == TensorProto.FLOAT
    }
    large = {name for name, value in found.items() if not value <= _LARGEST}
    large.update(name for name in names if name not in found)
    return tuple(
        node.name for node in graph.node if not large.isdisjoint((*node.input, *node.output))
    )


def _drop_casts_between(graph: onnx.GraphProto) -> None:
    """Remove pairs of casts to float16 and back between two float32 nodes."""
    down = {n.output[0]: n for n in graph.node if _casts(n, TensorProto.FLOAT16)}
    joined = {
        n.output[0]: down[n.input[0]].input[0]
        for n in graph.node
        if _casts(n, TensorProto.FLOAT) and n.input[0] in down
    }
    ends = {value.name for value in graph.output}
    wide = {target: source for target, source in joined.items() if target not in ends}
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name in wide:
                node.input[index] = wide[name]
        if node.output and node.output[0] in joined.keys() & ends:
            node.input[0] = joined[node.output[0]]
    read = {name for node in graph.node for name in node.input} | ends
    read.update(read_in_bodies(graph))
    for node in [n for n in graph.node if n.op_type == "Cast" and n.output[0] not in read]:
        graph.node.remove(node)


def _casts(node: onnx.NodeProto, element: int) -> bool:
    return bool(node.op_type == "Cast" and node.attribute[0].i == element)
