"""Small changes to ONNX graphs that several steps make."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

_AXES_ARE_INPUTS = 18  # the opset since which the axes of a reduction are an input


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def group_of(node: onnx.NodeProto) -> int:
    """Return the number of groups of a convolution."""
    return next((int(a.i) for a in node.attribute if a.name == "group"), 1)


def int_attribute(node: onnx.NodeProto, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    """Return an attribute that is an integer or a list of integers."""
    found = next((a for a in node.attribute if a.name == name), None)
    if found is None:
        return default
    return tuple(found.ints) if found.ints else (int(found.i),)


def has_auto_pad(node: onnx.NodeProto) -> bool:
    """Return True if the runtime computes a convolution's padding (auto_pad) and may add some."""
    found = next((a.s for a in node.attribute if a.name == "auto_pad"), b"NOTSET")
    return found not in (b"", b"NOTSET", b"VALID")


def set_input(
    graph: onnx.GraphProto, node: onnx.NodeProto, index: int, name: str, values: NDArray[Any]
) -> None:
    """Set one input of a node to float32 values in a new initializer named after the node."""
    set_inputs(graph, [(node, values)], index, name)


def set_inputs(
    graph: onnx.GraphProto,
    changes: Iterable[tuple[onnx.NodeProto, NDArray[Any]]],
    index: int,
    name: str,
) -> None:
    """Set one input of each node to float32 values in a new initializer named after the node."""
    readers: dict[str, set[str]] = {}
    for other in graph.node:
        for read in other.input:
            readers.setdefault(read, set()).add(other.name)
    made = {}
    for node, values in changes:
        whole = f"{node.name}:{name}"
        while readers.get(whole, set()) - {node.name}:
            whole += "+"  # another node uses the name
        made[whole] = numpy_helper.from_array(values.astype(np.float32), whole)
        if index < len(node.input):
            node.input[index] = whole
        else:
            node.input.append(whole)
        readers.setdefault(whole, set()).add(node.name)
    _delete(graph.initializer, lambda tensor: tensor.name in made)
    graph.initializer.extend(made.values())


def _delete(items: Any, unwanted: Callable[[Any], bool]) -> None:
    """Delete some items of a repeated field and leave the others in place.

    Protobuf frees no part of a message before the whole: clearing the field and adding the others
    again would take their memory once more.
    """
    for index in reversed(range(len(items))):
        if unwanted(items[index]):
            del items[index]


def initializer_values(graph: onnx.GraphProto, name: str) -> NDArray[Any]:
    """Return the values of an initializer."""
    found: NDArray[Any] = next(
        numpy_helper.to_array(tensor) for tensor in graph.initializer if tensor.name == name
    )
    return found


def add_to_bias(graph: onnx.GraphProto, node: onnx.NodeProto, shift: NDArray[Any]) -> None:
    """Add shift, shape (output channels,), to the bias of a convolution; create it if absent."""
    if len(node.input) > 2 and node.input[2]:
        shift = shift + initializer_values(graph, node.input[2])
    set_input(graph, node, 2, "bias", shift)


def has_padding(node: onnx.NodeProto) -> bool:
    """Return True if a convolution pads its input, or might."""
    return has_auto_pad(node) or any(int_attribute(node, "pads", (0,)))


def unused_name(graph: onnx.GraphProto, name: str) -> str:
    """Return a similar name that no tensor has."""
    taken = {tensor for node in graph.node for tensor in (*node.input, *node.output)}
    taken.update(value.name for value in (*graph.initializer, *graph.input, *graph.output))
    while name in taken:
        name += "+"
    return name


def add_reduction(
    model: onnx.ModelProto, operator: str, source: str, target: str, axes: Sequence[int]
) -> None:
    """Append a reduction such as ReduceMax over some axes; over all where axes is empty."""
    node = helper.make_node(operator, [source], [target], keepdims=0)
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    if axes and opset < _AXES_ARE_INPUTS:
        node.attribute.append(helper.make_attribute("axes", axes))
    elif axes:
        values = np.array(axes, np.int64)
        model.graph.initializer.append(numpy_helper.from_array(values, f"{target}:axes"))
        node.input.append(f"{target}:axes")
    model.graph.node.append(node)


def has_subgraphs(graph: onnx.GraphProto) -> bool:
    """Return True if there is an If or Loop, whose bodies read tensors that no input lists."""
    return any(a.HasField("g") or a.graphs for node in graph.node for a in node.attribute)


def bodies_of(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yield the bodies of an If, Loop or Scan."""
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == onnx.AttributeProto.GRAPHS:
            yield from attribute.graphs


def read_in_bodies(graph: onnx.GraphProto) -> Iterator[str]:
    """Yield the names that the bodies of If and Loop nodes read, at any depth."""
    for node in graph.node:
        for body in bodies_of(node):
            yield from (name for inner in body.node for name in inner.input)
            yield from (value.name for value in body.output)
            yield from read_in_bodies(body)


def drop_unused_initializers(graph: onnx.GraphProto) -> None:
    """Remove initializers without readers; none if If or Loop bodies might read them."""
    if has_subgraphs(graph):
        return
    used = {name for node in graph.node for name in node.input}
    used.update(value.name for value in graph.output)
    _delete(graph.initializer, lambda tensor: tensor.name not in used)


def keep_nodes_for(graph: onnx.GraphProto, names: Iterable[str]) -> None:
    """Keep only the nodes that these tensors depend on; all if there are If or Loop bodies."""
    if has_subgraphs(graph):
        return
    needed = set(names)
    kept = []
    for node in reversed(graph.node):
        if not needed.isdisjoint(node.output):
            kept.append(node)
            needed.update(node.input)
    nodes = kept[::-1]
    del graph.node[:]
    graph.node.extend(nodes)


def sort_topologically(graph: onnx.GraphProto) -> None:
    """Sort the nodes topologically, in place."""
    makers = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    order = TopologicalSorter(
        {
            i: [makers[name] for name in _read_by(node) if name in makers]
            for i, node in enumerate(graph.node)
        }
    )
    nodes = [graph.node[i] for i in order.static_order()]
    del graph.node[:]
    graph.node.extend(nodes)


def sort_unordered(graph: onnx.GraphProto) -> bool:
    """Sort nodes that come before what they read; return True if any did.

    Nodes that wait for each other stay as they are, and so do bodies, which runtimes don't sort.
    """
    later = {name for node in graph.node for name in node.output if name}
    for node in graph.node:
        if not later.isdisjoint(_read_by(node)):
            break
        later.difference_update(node.output)
    else:
        return False
    try:
        sort_topologically(graph)
    except CycleError:
        return False
    return True


def _read_by(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the names that a node reads, If and Loop bodies included."""
    yield from node.input
    for body in bodies_of(node):
        for inner in body.node:
            yield from _read_by(inner)
