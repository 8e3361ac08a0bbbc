"""Types and shapes of tensors that ONNX's inference leaves open, from runs of the graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from agent.engines.errors import ONNXRUNTIME_ERRORS
from agent.graphs.compute import shapes
from agent.graphs.edits import bodies_of, copy_of
from agent.graphs.sessions import session

_VARYING = ("Compress", "NonMaxSuppression", "NonZero", "Unique")
"""Operators with an output shape that depends on values, also where a body contains them."""


def add_observed(model: onnx.ModelProto, runs: Sequence[Mapping[str, NDArray[Any]]]) -> int:
    """Add what runs show of tensors without a known shape; return how many are fixed now.

    A tensor behind an operator of varying shape, with other shapes in other runs, or empty, gets its
    element type only. If the graph does not run, nothing is added.

    Args:
        model: Inferred; changed in place.
        runs: Inputs of the model.
    """
    known = shapes(model.graph)
    names = [n for node in model.graph.node for n in node.output if n and n not in known]
    varying = set(_behind_varying(model.graph))
    added = 0
    described = {value.name: value for value in (*model.graph.value_info, *model.graph.output)}
    for name, seen in _observed(model, names, runs).items():
        fixed = name not in varying and len({value.shape for value in seen}) == 1 and seen[0].size
        element = helper.np_dtype_to_tensor_dtype(seen[0].dtype)
        sides = seen[0].shape if fixed else [None] * seen[0].ndim
        value = helper.make_tensor_value_info(name, element, sides)
        if name in described:
            described[name].CopyFrom(value)
        else:
            model.graph.value_info.append(value)
        added += bool(fixed)
    return added


def _observed(
    model: onnx.ModelProto, names: Sequence[str], runs: Sequence[Mapping[str, NDArray[Any]]]
) -> dict[str, list[NDArray[Any]]]:
    """Return the values of each tensor in each run; without sequences and maps."""
    if not names:
        return {}
    tapped = copy_of(model)
    ends = {value.name for value in model.graph.output}
    tapped.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in ends)
    try:
        opened = session(tapped, 0)
        found = [opened.run(list(names), dict(frame)) for frame in runs]
    except ONNXRUNTIME_ERRORS:
        return {}
    each = zip(names, zip(*found, strict=True), strict=True)
    return {n: list(seen) for n, seen in each if all(isinstance(v, np.ndarray) for v in seen)}


def _behind_varying(graph: onnx.GraphProto) -> Iterator[str]:
    behind: set[str] = set()
    for node in graph.node:  # in order
        if _varies(node) or not behind.isdisjoint(node.input):
            behind.update(node.output)
            yield from node.output


def _varies(node: onnx.NodeProto) -> bool:
    return node.op_type in _VARYING or any(
        _varies(inner) for body in bodies_of(node) for inner in body.node
    )
