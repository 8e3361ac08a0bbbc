"""Conversion to float16; nodes that would overflow stay in float32."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16

from agent.graphs.channels import maxima
from agent.graphs.edits import read_in_bodies

_LARGEST = float(np.finfo(np.float16).max) / 2
"""Half of 65504, since other frames may contain larger values."""


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
        wide: Nodes to leave in float32.
    """
    with warnings.catch_warnings():
        # It warns of every weight that becomes zero; fidelity is measured later.
        warnings.simplefilter("ignore", UserWarning)
        whole = onnx.ModelProto()
        whole.CopyFrom(model)
        half: onnx.ModelProto = convert_float_to_float16(
            whole, keep_io_types=True, node_block_list=list(wide)
        )
    _drop_casts_between(half.graph)
    return half


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
