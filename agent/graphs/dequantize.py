"""FP32 from a file that is quantized already.

Each tensor of codes becomes the numbers that the codes stand for. Weights are then exactly those
that the file computes with; activations are neither rounded nor limited to a range. Only the lower
limit of 0 is kept, as a Relu (with an upper limit of 6, as a Clip): quantizers remove a Relu or
ReLU6 in front of codes that can't be negative. A graph that computes on integers in any other way
is not changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from agent.graphs.edits import copy_of, drop_unused_initializers, read_in_bodies, unused_name
from agent.graphs.integers import dequantize_weights, integer_operators, is_integer

_FUSED: Mapping[str, tuple[str, str]] = {
    "QGemm": ("Gemm", "xxbo"),
    "QLinearAdd": ("Add", "xxo"),
    "QLinearAveragePool": ("AveragePool", "xo"),
    "QLinearConcat": ("Concat", "ox*"),
    "QLinearConv": ("Conv", "xxob"),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", "xo"),
    "QLinearLeakyRelu": ("LeakyRelu", "xo"),
    "QLinearMatMul": ("MatMul", "xxo"),
    "QLinearMul": ("Mul", "xxo"),
    "QLinearSigmoid": ("Sigmoid", "xo"),
}
"""Operators on codes, the float operator that each is, and its inputs: x, an operand (codes, scale,
zero point); o, scale and zero point of the output; b, a bias in int32; *, more operands."""

_PRODUCTS = {"ConvInteger": "Conv", "MatMulInteger": "MatMul"}
_MOVES = frozenset({
    "Expand", "Flatten", "Gather", "Identity", "MaxPool", "Reshape", "Slice", "Split", "Squeeze",
    "Tile", "Transpose", "Unsqueeze",
})  # fmt: skip
_NEVER_NEGATIVE = frozenset({"Abs", "Exp", "HardSigmoid", "Relu", "Sigmoid", "Softmax"})
_KEEPS_SIGN = _MOVES | {"AveragePool", "GlobalAveragePool"}
_SIX, _NEAR = 6.0, 1e-3
_OPSET = 11  # the first in which Clip takes its limits as inputs

_Code = tuple[str, str]
"""The names of a tensor's scale and zero point; the latter may be empty."""


class InexactError(Exception):
    """The graph computes on integers in a way that no float operator does."""


def to_float(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph without any integers.

    Raises:
        InexactError: with the first operator or output for which that can't be done exactly.
    """
    made = copy_of(model)
    _store_constants(made.graph)
    dequantize_weights(made)
    _Floating(made).rewrite()
    drop_unused_initializers(made.graph)
    del made.graph.value_info[:]  # which describe codes
    return made


def _store_constants(graph: onnx.GraphProto) -> None:
    """Make initializers of the tensors of Constant nodes, as which some exporters write scales."""
    kept = []
    for node in graph.node:
        value = next((a.t for a in node.attribute if a.name == "value"), None)
        if node.op_type == "Constant" and value is not None:
            graph.initializer.append(value)
            graph.initializer[-1].name = node.output[0]
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)


class _Floating:
    """Rewrites the nodes of a graph in their order; every tensor keeps its name."""

    def __init__(self, model: onnx.ModelProto) -> None:
        opset = next((o.version for o in model.opset_import if o.domain in {"", "ai.onnx"}), 0)
        if opset < _OPSET:
            raise InexactError(f"opset {opset} is older than {_OPSET}")
        self._graph = model.graph
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self._codes: dict[str, _Code] = {}
        self._inputs = {value.name for value in model.graph.input}
        self._never_negative = set(self._inputs)  # no activation comes before them
        self._rules: dict[str, Callable[[onnx.NodeProto], Iterator[onnx.NodeProto]]] = {
            "QuantizeLinear": self._quantized,
            "DequantizeLinear": self._dequantized,
            "DynamicQuantizeLinear": self._dynamic,
            **dict.fromkeys(_PRODUCTS, self._product),
            **dict.fromkeys(_FUSED, self._fused),
        }

    def rewrite(self) -> None:
        """Replace the nodes."""
        nodes = list(self._graph.node)
        del self._graph.node[:]
        for node in nodes:
            rule = self._rules.get(node.op_type, self._other)
            self._graph.node.extend(rule(node))
            signs = [name in self._never_negative for name in node.input if name]
            if node.op_type in _NEVER_NEGATIVE or (node.op_type in _KEEPS_SIGN and all(signs[:1])):
                self._never_negative.update(node.output)
        for value in self._graph.output:
            if value.name in self._codes:
                raise InexactError(f"output {value.name} is of integers")
        if self._codes.keys() & set(read_in_bodies(self._graph)):
            raise InexactError("the body of an If or Loop reads integers")
        if found := integer_operators(self._graph):
            raise InexactError(found)

    def _other(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        """Take a node that does not know of quantization; it may move codes."""
        codes = [name for name in node.input if name in self._codes]
        if is_integer(node) or (codes and node.op_type not in _MOVES):
            raise InexactError(f"{node.op_type} {node.name} computes on integers")
        if codes:
            if codes != [node.input[0]]:
                raise InexactError(f"{node.op_type} {node.name} reads integers")
            moved = node.output if node.op_type == "Split" else node.output[:1]
            self._codes.update(dict.fromkeys(moved, self._codes[codes[0]]))
        yield node

    def _quantized(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        source, scale, zero = (*node.input, "")[:3]
        yield from self._coded(node, source, (scale, zero))

    def _coded(self, node: onnx.NodeProto, source: str, code: _Code) -> Iterator[onnx.NodeProto]:
        """Note that a node's output stands for codes; rectify `source` where the codes do."""
        scale, zero = (self._constant(name, node) for name in code)
        if source in self._codes:
            raise InexactError(f"{node.op_type} {node.name} reads integers")
        if scale.size > 1:
            raise InexactError(f"{node.op_type} {node.name} has several scales")
        target = node.output[0]
        self._codes[target] = code
        limits = np.iinfo(zero.dtype) if np.issubdtype(zero.dtype, np.integer) else None
        if limits is None or zero.item() != limits.min or source in self._never_negative:
            yield helper.make_node("Identity", [source], [target], node.name)
            return
        self._never_negative.add(target)
        high = (int(limits.max) - int(zero.item())) * float(scale.item())
        if abs(high - _SIX) < _NEAR:
            ends = [self._add(np.float32(end), f"{target}:{end:g}") for end in (0.0, _SIX)]
            yield helper.make_node("Clip", [source, *ends], [target], node.name)
        else:
            yield helper.make_node("Relu", [source], [target], node.name)

    def _dequantized(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        source, scale, zero = (*node.input, "")[:3]
        if source in self._inputs:
            yield from self._scaled(node, source, (scale, zero))
            return
        self._require(node, source, (scale, zero))
        yield helper.make_node("Identity", [source], node.output, node.name)
        if source in self._never_negative:
            self._never_negative.update(node.output)

    def _scaled(self, node: onnx.NodeProto, source: str, code: _Code) -> Iterator[onnx.NodeProto]:
        """Compute the numbers that an input of integers, such as a picture, stands for."""
        scale, zero = (self._constant(name, node).astype(np.float32) for name in code)
        if scale.size > 1:
            raise InexactError(f"{node.op_type} {node.name} has several scales")
        target = node.output[0]
        number, shifted = (
            unused_name(self._graph, f"{target}:{step}") for step in ("cast", "shift")
        )
        yield helper.make_node("Cast", [source], [number], number, to=onnx.TensorProto.FLOAT)
        by = [self._add(values.reshape(()), f"{target}:{end}") for values, end in
              ((zero, "zero"), (scale, "scale"))]  # fmt: skip
        yield helper.make_node("Sub", [number, by[0]], [shifted], shifted)
        yield helper.make_node("Mul", [shifted, by[1]], [target], node.name)

    def _dynamic(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        """Replace codes by the numbers themselves, of scale 1: they are multiplied by it only."""
        codes, scale, zero = node.output
        self._codes[codes] = (scale, zero)
        self._constants[scale] = numpy_helper.from_array(np.float32(1), scale)
        self._graph.initializer.append(self._constants[scale])
        yield helper.make_node("Identity", node.input, [codes], node.name)

    def _product(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        first, second, *zeros = (*node.input, "", "")[:4]
        if first not in self._codes or self._codes[first][1] != zeros[0]:
            raise InexactError(f"{node.op_type} {node.name} reads integers of another zero point")
        if second in self._codes:
            if self._codes[second][1] != zeros[1]:
                raise InexactError(
                    f"{node.op_type} {node.name} reads integers of another zero point"
                )
        else:
            axis = 0 if node.op_type == "ConvInteger" else -1
            second = self._weights(node, second, ("", zeros[1]), axis)
        made = helper.make_node(_PRODUCTS[node.op_type], [first, second], node.output, node.name)
        made.attribute.extend(node.attribute)
        yield made

    def _fused(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        operator, layout = _FUSED[node.op_type]
        layout = layout.replace("*", "x" * (len(node.input) // 3 - 1))
        inputs, operands, bias, code = list(node.input), [], "", ("", "")
        scales: list[str] = []
        for part in layout:
            if part == "x":
                codes, scale, zero = inputs[:3]
                operands.append(self._operand(node, operator, (codes, scale, zero)))
                scales.append(scale)
                del inputs[:3]
            elif part == "o":
                code = ((*inputs, "", "")[0], (*inputs, "", "")[1])
                del inputs[:2]
            else:
                bias = (*inputs, "")[0]
                del inputs[:1]
        if bias:
            alpha = next((a.f for a in node.attribute if a.name == "alpha"), 1.0)
            unit = self._constant(scales[0], node) * self._constant(scales[1], node).reshape(-1)
            values = (self._constant(bias, node) * unit * alpha).astype(np.float32)
            operands.append(self._add(values, f"{bias}:float"))
        target = unused_name(self._graph, f"{node.output[0]}:float") if code[0] else node.output[0]
        made = helper.make_node(operator, operands, [target], node.name)
        for attribute in node.attribute:
            if attribute.name == "channels_last" and attribute.i:
                raise InexactError(f"{node.op_type} {node.name} has its channels last")
            if attribute.name != "channels_last":
                made.attribute.append(attribute)
        yield made
        if operator in _NEVER_NEGATIVE:
            self._never_negative.add(target)
        if code[0]:
            node.name += ":code"
            yield from self._coded(node, target, code)

    def _operand(self, node: onnx.NodeProto, operator: str, named: tuple[str, str, str]) -> str:
        codes, scale, zero = named
        if codes in self._constants:
            rows = operator == "Conv" or any(a.name == "transB" and a.i for a in node.attribute)
            return self._weights(node, codes, (scale, zero), 0 if rows else -1)
        self._require(node, codes, (scale, zero))
        return codes

    def _require(self, node: onnx.NodeProto, source: str, code: _Code) -> None:
        """Check that a tensor has the codes that a node takes it for."""
        written = self._codes.get(source)
        if written is None:
            raise InexactError(
                f"{node.op_type} {node.name} reads integers that are not computed here"
            )
        for one, other in zip(written, code, strict=True):
            if one != other and not np.array_equal(
                self._constant(one, node), self._constant(other, node)
            ):
                raise InexactError(
                    f"{node.op_type} {node.name} reads another scale than was written"
                )

    def _weights(self, node: onnx.NodeProto, codes: str, code: _Code, axis: int) -> str:
        """Return the name of constant codes in float32.

        Args:
            node: Their reader.
            codes: Their name.
            code: Scale and zero point, each one number or one a channel; "" for 1 and 0.
            axis: That of the channels.
        """
        values = self._constant(codes, node).astype(np.float32)
        shape = [1] * values.ndim
        shape[axis] = -1
        scale, zero = (
            self._constant(name, node).astype(np.float32) if name else np.float32(default)
            for name, default in zip(code, (1, 0), strict=True)
        )
        values = (values - zero.reshape(shape)) * scale.reshape(shape)
        return self._add(values, f"{codes}:float")

    def _constant(self, name: str, node: onnx.NodeProto) -> NDArray[Any]:
        """Return a constant; for no zero point 0 in uint8."""
        if not name:
            return np.zeros((), np.uint8)
        if name not in self._constants:
            raise InexactError(f"{node.op_type} {node.name} has a scale that is computed")
        values: NDArray[Any] = numpy_helper.to_array(self._constants[name])
        return values

    def _add(self, values: NDArray[Any] | np.float32, name: str) -> str:
        name = unused_name(self._graph, name)
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
        return name
