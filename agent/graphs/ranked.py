"""Outputs with rows in an order that the graph finds itself, such as by score.

Rounding swaps rows of almost equal scores, so such rows are matched before they are compared
(`core.fidelity.rows`). An order begins at an operator that sorts or selects, and is followed along
the axis of the rows to the outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod

import onnx

from agent.core.records import RankedRows
from agent.graphs.axes import Reading, Sides, axis_after
from agent.graphs.edits import bodies_of, int_attribute, read_in_bodies

_SELECTING = {"TopK": -1, "NonMaxSuppression": 0, "NonZero": 1, "Compress": 0, "Unique": 0}
"""Operators that begin an order; the axis of their rows if no attribute names it."""

Orders = set[tuple[int, int]]
"""Of one tensor: the node where an order begins, and the axis that has it."""


def ranked_outputs(model: onnx.ModelProto) -> tuple[RankedRows, ...]:
    """Return the outputs with ranked rows; those that share an order are together.

    Several orders side by side, such as that of the best cells of each class, are left out: their
    rows are not those of one list.

    Args:
        model: Sorted topologically, with the shapes of its tensors as far as they are known.
    """
    graph = model.graph
    sides = _sides(graph)
    constants = {tensor.name: tensor for tensor in graph.initializer}
    orders: dict[str, Orders] = {}
    for index, node in enumerate(graph.node):
        for name in filter(None, node.output):
            begun = {(index, axis) for axis in _begun(node, name, sides)}
            orders[name] = begun | set(_continued(node, name, orders, sides, constants))
    groups: dict[tuple[int, int | None], dict[str, int]] = {}
    for output in graph.output:
        if orders.get(output.name):
            last = max(index for index, _ in orders[output.name])
            axis = min(axis for index, axis in orders[output.name] if index == last)
            count = sides[output.name][axis]
            if count != 1:
                groups.setdefault((last, count), {})[output.name] = axis
    return tuple(RankedRows(axes=axes, count=count) for (_, count), axes in groups.items())


def _begun(node: onnx.NodeProto, name: str, sides: Mapping[str, Sides]) -> Iterator[int]:
    """Yield the axis of an output with an order that begins at a node."""
    after = sides.get(name)
    if after is None:
        return
    if node.op_type in _SELECTING:
        (axis,) = int_attribute(node, "axis", (_SELECTING[node.op_type],))
        axis = axis + len(after) if axis < 0 else axis
        others = (*after[:axis], *after[axis + 1 :])
        if axis < len(after) and (node.op_type != "TopK" or prod(s or 2 for s in others) == 1):
            yield axis
    elif _selects_inside(node):
        yield from _varying(after)


def _continued(
    node: onnx.NodeProto,
    name: str,
    orders: Mapping[str, Orders],
    sides: Mapping[str, Sides],
    constants: Mapping[str, onnx.TensorProto],
) -> Iterator[tuple[int, int]]:
    """Yield the orders that an output has from the inputs of its node."""
    after = sides.get(name)
    if after is None:
        return
    if any(True for _ in bodies_of(node)):
        read = {*node.input, *_read_inside(node)}
        found = {index for one in read for index, _ in orders.get(one, ())}
        yield from ((index, axis) for index in found for axis in _varying(after))
        return
    inputs = tuple(sides.get(one) for one in node.input)
    for place, one in enumerate(node.input):
        for index, axis in orders.get(one, ()):
            if node.op_type in _SELECTING and _selected(node, axis, inputs[place] or ()):
                continue
            reading = Reading(node, place, axis, inputs, after, constants)
            moved = axis_after(reading)
            if moved is not None:
                yield index, moved


def _selected(node: onnx.NodeProto, axis: int, before: Sides) -> bool:
    """Return True if a selecting operator puts the positions along an axis into its own order."""
    if node.op_type != "TopK":
        return True
    (own,) = int_attribute(node, "axis", (-1,))
    return axis == own % len(before)


def _varying(after: Sides) -> Iterator[int]:
    """Yield the axis of rows that an If or Loop makes: the one of varying length, else the longest."""
    if None in after:
        yield after.index(None)
    elif len(after) in {2, 3}:
        yield max(range(len(after)), key=lambda axis: after[axis] or 0)


def _selects_inside(node: onnx.NodeProto) -> bool:
    return any(
        inner.op_type in {"TopK", "NonMaxSuppression"} or _selects_inside(inner)
        for body in bodies_of(node)
        for inner in body.node
    )


def _read_inside(node: onnx.NodeProto) -> Iterator[str]:
    for body in bodies_of(node):
        yield from (name for inner in body.node for name in inner.input)
        yield from (value.name for value in body.output)
        yield from read_in_bodies(body)


def _sides(graph: onnx.GraphProto) -> dict[str, Sides]:
    """Return the sides of every tensor of known rank."""
    found: dict[str, Sides] = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.tensor_type.HasField("shape"):
            dims = value.type.tensor_type.shape.dim
            found[value.name] = tuple(
                d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in dims
            )
    return found
