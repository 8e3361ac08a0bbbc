"""Placement of Q/DQ in an ONNX graph, as each runtime needs it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import onnx

from agent.disk import disk_errors
from agent.graphs.compute import WEIGHTED
from agent.graphs.edits import sort_topologically
from agent.graphs.guards import guard
from agent.graphs.marks import MOVING, REMOVED, GraphIndex, find_marks
from agent.graphs.place import Placed
from agent.graphs.residuals import quantize_residuals, residuals
from agent.graphs.schemes import SCHEMES

_IR_VERSION = 10  # the newest that ONNX Runtime 1.23 and TensorRT 10.3 both read


def load_inferred(path: str) -> onnx.ModelProto:
    """Return the model of a file with the types and shapes of all its tensors."""
    return onnx.shape_inference.infer_shapes(onnx.load(path), data_prop=True)


def with_qdq(
    model: onnx.ModelProto,
    scheme: str,
    ranges: Mapping[str, tuple[float, float]],
    left_out: Collection[str] = (),
    index: GraphIndex | None = None,
) -> onnx.ModelProto:
    """Return a copy of an inferred model with Q/DQ placed as the scheme says.

    Args:
        model: From `load_inferred`, every node with a name of its own.
        scheme: A key of SCHEMES.
        ranges: Low and high of every tensor that the scheme quantizes.
        left_out: Names of the nodes to leave in float.
        index: Of the graph, to make it only once.

    Raises:
        QuantizeError: "not_placed" if a range is missing or not finite.
    """
    rules = SCHEMES[scheme]
    marks = find_marks(model.graph, rules, left_out, index)
    spans = _with_shared_ranges(model.graph, ranges)
    placed = Placed(model, rules, marks, spans)
    if rules.between:
        guard(placed.model.graph)
    else:
        quantize_residuals(placed, residuals(model.graph), ranges)
    return placed.model


def quantized_tensors(model: onnx.ModelProto, scheme: str) -> tuple[str, ...]:
    """Return the activations that need a range under a scheme."""
    rules = SCHEMES[scheme]
    constants = {tensor.name for tensor in model.graph.initializer}
    marks = find_marks(model.graph, rules).tensors
    found = [name for name, mark in marks.items() if not mark.like and name not in constants]
    if not rules.between:
        layers = {n.name for n in model.graph.node if marks.keys() >= set(n.input[:2])}
        skips = (skip for skip, layer in residuals(model.graph).values() if layer in layers)
        found += [skip for skip in dict.fromkeys(skips) if skip not in marks]
    return tuple(found)


def unquantizable_nodes(model: onnx.ModelProto, scheme: str) -> tuple[str, ...]:
    """Return the nodes that a scheme would quantize if their values allowed it."""
    return tuple(find_marks(model.graph, SCHEMES[scheme]).refused)


def tensors_after_last_layers(graph: onnx.GraphProto) -> set[str]:
    """Return the tensors from the last weighted layers to the outputs, both included.

    Their largest values are the result (a score, a box), so they must not be clipped.
    """
    found = {value.name for value in graph.output}
    for node in reversed(graph.node):
        if node.op_type not in WEIGHTED and not found.isdisjoint(node.output):
            found.update(node.input)
    return found


def nodes_touching(graph: onnx.GraphProto, tensors: Collection[str]) -> tuple[str, ...]:
    """Return the names of the nodes that read or write one of the tensors.

    Included are tensors that only move the values of one of them, and so share its scale, and the
    input of a Relu or Clip that its range would replace.
    """
    touched = set(tensors)
    for node in graph.node:  # in order
        if node.op_type in (*MOVING, *REMOVED) and node.input[0] in touched:
            touched.update(node.output)
    for node in reversed(graph.node):
        if node.op_type in REMOVED and node.output[0] in touched:
            touched.add(node.input[0])
    return tuple(
        node.name
        for node in graph.node
        if not touched.isdisjoint(node.input) or not touched.isdisjoint(node.output)
    )


def save(model: onnx.ModelProto, target: str) -> None:
    """Write a graph in the IR version that every supported runtime reads, its nodes sorted."""
    sort_topologically(model.graph)
    model.ir_version = min(model.ir_version, _IR_VERSION)
    with disk_errors(Path(target).parent):
        onnx.save(model, target)


def _with_shared_ranges(
    graph: onnx.GraphProto, ranges: Mapping[str, tuple[float, float]]
) -> dict[str, tuple[float, float]]:
    """Return the ranges with those of tensors that share them added.

    QDQQuantizer uses one scale on both sides of an operator that only moves values, so only one
    side is in the statistics.
    """
    found = dict(ranges)
    for node in graph.node:
        if node.op_type in MOVING and node.input[0] in found:
            for name in node.output:
                found.setdefault(name, found[node.input[0]])
    for node in reversed(graph.node):
        if node.op_type in (*MOVING, *REMOVED) and node.output[0] in found:
            found.setdefault(node.input[0], found[node.output[0]])
    return found
