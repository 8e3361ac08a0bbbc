"""Which tensors of a graph get Q/DQ under a scheme."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from agent.graphs.compute import WEIGHTED, shapes
from agent.graphs.edits import int_attribute, read_in_bodies
from agent.graphs.schemes import Scheme

MOVING = (
    "AveragePool", "Flatten", "Gather", "Identity", "MaxPool", "Pad", "Reshape", "Resize", "Slice",
    "Split", "Squeeze", "Transpose", "Unsqueeze",
)  # fmt: skip  # both sides have one scale
REMOVED = ("Clip", "Relu")  # into the range of their output, if activations are asymmetric
_BIAS = 2  # input of a layer
_PADDING = 2  # input of a Pad


@dataclass(frozen=True, slots=True)
class Mark:
    """How a tensor is quantized.

    Attributes:
        weight: True for symmetric int8 codes in the graph, False for the scheme's activations.
        axis: Of the weight's channels, which have a scale each; None for one scale.
        like: The tensor with the scale that it shares; "" for a scale of its own.
    """

    weight: bool = False
    axis: int | None = None
    like: str = ""


@dataclass(frozen=True, slots=True)
class Bias:
    """A bias in int32; its scale is the product of those of its layer's input and weight.

    Attributes:
        layer: The node's name.
        source: The initializer.
        input: The layer's input.
        weight: The layer's weight.
        beta: The layer multiplies the bias by it.
    """

    layer: str
    source: str
    input: str
    weight: str
    beta: float


@dataclass(slots=True)
class Marks:
    """The tensors to quantize.

    Attributes:
        tensors: By name, in the order of the nodes that need them.
        biases: By the name that the layer will read: layers that share a bias get copies.
        joined: From each tensor in front of a removed Relu or Clip to the tensor behind it.
        removed: The names of these nodes.
        constants: The values of the constants that the nodes read.
        refused: The names of the nodes that can't be quantized.
        bodies: The tensors that the bodies of If and Loop read.
    """

    tensors: dict[str, Mark] = field(default_factory=dict)
    biases: dict[str, Bias] = field(default_factory=dict)
    joined: dict[str, str] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    bodies: frozenset[str] = frozenset()


class GraphIndex:
    """What marking needs of a graph's activations; valid for the same graph with other weights.

    Args:
        graph: Of an inferred model.
        rules: The scheme.
    """

    def __init__(self, graph: onnx.GraphProto, rules: Scheme) -> None:
        made = {
            value.name: value.type.tensor_type.elem_type
            for value in (*graph.value_info, *graph.output, *graph.input)
        }
        floats = {name for name, element in made.items() if element == TensorProto.FLOAT}
        self.open = floats - shapes(graph).keys()
        self.floats = floats - {
            name for n in graph.node if n.op_type == "DequantizeLinear" for name in n.output
        }
        self.reads = Counter(name for node in graph.node for name in node.input)
        self.bodies = frozenset(read_in_bodies(graph))
        self.ends = frozenset(value.name for value in (*graph.input, *graph.output))
        self.tail = tail(graph, rules)


def tail(graph: onnx.GraphProto, rules: Scheme) -> frozenset[str]:
    """Return the tensors behind the last layers, which stay in float.

    No layer needs them in INT8, and one scale for what a Concat joins, boxes in pixels beside
    scores, would leave the scores a single code. A Relu or Clip of a layer belongs to the layer.
    """
    ahead = set(read_in_bodies(graph))
    found: set[str] = set()
    fused: set[str] = set()
    for node in reversed(graph.node):
        if node.op_type in WEIGHTED and node.op_type in rules.operators:
            fused.update(node.output)
        elif ahead.isdisjoint(node.output):
            found.update(node.output)
            continue
        ahead.update(name for name in node.input if name)
    for node in graph.node:
        if node.op_type in REMOVED and node.input[0] in fused:
            fused.update(node.output)
    return frozenset(found - fused)


def find_marks(
    graph: onnx.GraphProto,
    rules: Scheme,
    left_out: Collection[str] = (),
    index: GraphIndex | None = None,
) -> Marks:
    """Return the tensors that a scheme quantizes.

    A node that reads a constant with NaN or infinite values, or reads or writes float values of
    unknown shape, is left in float, and so is what lies behind the last layers.

    Args:
        graph: Of an inferred model, every node with a name of its own.
        rules: The scheme.
        left_out: Names of the nodes to leave in float.
        index: Of the graph, to make it only once.
    """
    index = index or GraphIndex(graph, rules)
    marker = _Marker(graph, rules, index)
    out = frozenset(left_out)
    for node in graph.node:
        if node.op_type not in rules.operators or node.name in out:
            continue
        if not index.tail.isdisjoint(node.output):
            continue
        if marker.can_mark(node):
            marker.mark(node)
        else:
            marker.marks.refused.append(node.name)
    return marker.marks


class _Marker:
    def __init__(self, graph: onnx.GraphProto, rules: Scheme, index: GraphIndex) -> None:
        self.marks = Marks(bodies=index.bodies)
        self._rules, self._index = rules, index
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._refused = set(index.open)

    def can_mark(self, node: onnx.NodeProto) -> bool:
        """Return True if all float values at a node have a known shape, and constants are finite."""
        for name in node.input:
            if name in self._constants and name not in self.marks.constants:
                values = numpy_helper.to_array(self._constants[name])
                self.marks.constants[name] = values
                if values.dtype.kind == "f" and not np.isfinite(values).all():
                    self._refused.add(name)
        return self._refused.isdisjoint(node.input) and self._refused.isdisjoint(node.output)

    def mark(self, node: onnx.NodeProto) -> None:
        """Mark what a node reads and writes."""
        if node.op_type in WEIGHTED:
            self._mark_layer(node)
        elif node.op_type in REMOVED:
            self._mark_removed(node)
        elif node.op_type in MOVING:
            self._mark_moving(node)
        else:
            for name in (*node.input, *node.output):
                self._activation(name)

    def _mark_layer(self, node: onnx.NodeProto) -> None:
        if node.op_type == "MatMul":
            for name in node.input:
                self._operand(node, name)
        else:
            self._activation(node.input[0])
        if self._rules.between:
            self._activation(node.output[0])
        if node.op_type != "MatMul":
            self._operand(node, node.input[1])
            if len(node.input) > _BIAS and self._is_float_constant(node.input[_BIAS]):
                self._bias(node)

    def _operand(self, node: onnx.NodeProto, name: str) -> None:
        if name not in self._constants:
            self._activation(name)
        elif self._is_float(name):
            axis = _channel_axis(node)
            if axis < len(self._constants[name].dims):
                self.marks.tensors[name] = Mark(weight=True, axis=axis)
            else:
                self.marks.tensors.setdefault(name, Mark(weight=True))

    def _bias(self, node: onnx.NodeProto) -> None:
        if not self._rules.biases:
            return
        source, name = node.input[_BIAS], node.input[_BIAS]
        if name in self.marks.biases:
            names = (*self._constants, *self.marks.biases)
            ends = [n.removeprefix(name) for n in names if n.startswith(name)]
            name += str(max((int(end) for end in ends if end.isdecimal()), default=-1) + 1)
        beta = next((a.f for a in node.attribute if a.name == "beta"), 1.0)
        self.marks.biases[name] = Bias(node.name, source, node.input[0], node.input[1], beta)

    def _mark_removed(self, node: onnx.NodeProto) -> None:
        """Mark the output of a Relu or Clip, and remove the node if its range can replace it.

        Its input must have no other reader, and bodies of If or Loop must not read its output,
        which they read as it is before Q/DQ.
        """
        source, target = node.input[0], node.output[0]
        if source not in self.marks.tensors:
            return
        alone = self._index.reads[source] == 1 and source not in self._index.ends
        in_bodies = not self._index.bodies.isdisjoint((source, target))
        if alone and not in_bodies and self._is_float(target) and not self._rules.symmetric:
            self.marks.joined[source] = target
            self.marks.removed.add(node.name)
            del self.marks.tensors[source]
        self._activation(target)

    def _mark_moving(self, node: onnx.NodeProto) -> None:
        source = node.input[0]
        if node.op_type == "Pad":
            for name in node.input:
                self._activation(name)
            if not self._pads_with_own_values(node):
                self._activation(node.output[0])
                return
        elif node.op_type == "Split" or (
            node.op_type == "Gather" and self._is_float_constant(source)
        ):
            self._activation(source)
        if source in self.marks.tensors:
            for name in node.output:
                if self._is_float(name):
                    self.marks.tensors[name] = Mark(like=source)

    def _pads_with_own_values(self, node: onnx.NodeProto) -> bool:
        """Return True if all that a Pad adds is in the range of its input, as zero always is."""
        mode = next((a.s for a in node.attribute if a.name == "mode"), b"constant")
        if mode != b"constant" or len(node.input) <= _PADDING or not node.input[_PADDING]:
            return True
        padding = self.marks.constants.get(node.input[_PADDING])
        return padding is not None and not padding.any()

    def _activation(self, name: str) -> None:
        if self._is_float(name):
            self.marks.tensors.setdefault(name, Mark())

    def _is_float(self, name: str) -> bool:
        constant = self._constants.get(name)
        if constant is not None:
            return bool(constant.data_type == TensorProto.FLOAT)
        return name in self._index.floats

    def _is_float_constant(self, name: str) -> bool:
        return name in self._constants and self._is_float(name)


def _channel_axis(node: onnx.NodeProto) -> int:
    """Return the axis of a layer's output channels in its constant operand."""
    if node.op_type == "Gemm":
        return 0 if int_attribute(node, "transB", (0,))[0] else 1
    return 0 if node.op_type == "Conv" else 1
