"""How much a graph computes, and how much of it on integers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

import onnx

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Layers that can run in INT8."""

Shape = tuple[int, ...]
_STANDARD = ("", "ai.onnx")


def int8_share(quantized: onnx.ModelProto, clean: onnx.ModelProto) -> tuple[float, tuple[str, ...]]:
    """Return the share of multiply-accumulates fed by integers, and the computing nodes that aren't.

    A node counts only if both its operands come from a DequantizeLinear.
    """
    macs = {node.name: count for node, count in node_macs(clean)}
    made = {
        o
        for node in quantized.graph.node
        if node.op_type == "DequantizeLinear"
        for o in node.output
    }
    integer = {
        node.name
        for node in quantized.graph.node
        if node.op_type in WEIGHTED and node.name in macs and made.issuperset(node.input[:2])
    }
    total = sum(macs.values())
    share = sum(macs[name] for name in integer) / total if total else 0.0
    return share, tuple(name for name in macs if name not in integer)


def node_macs(model: onnx.ModelProto) -> Iterator[tuple[onnx.NodeProto, int]]:
    """Yield every computing node with its multiply-accumulates (He et al. count: no bias).

    Zero where a shape is unknown, as behind operators with an output shape that depends on values.
    """
    known = shapes(model.graph)
    for node in model.graph.node:
        if node.op_type in _COUNTS:
            try:
                yield node, _COUNTS[node.op_type](node, known)
            except (KeyError, IndexError):
                yield node, 0


def uncounted_layers(model: onnx.ModelProto) -> tuple[str, ...]:
    """Return the names of the layers with an input or output of unknown shape."""
    known = shapes(model.graph)
    return tuple(
        node.name
        for node in model.graph.node
        if node.op_type in _COUNTS
        and any(name and name not in known for name in (*node.input[:2], node.output[0]))
    )


def shapes(graph: onnx.GraphProto) -> dict[str, Shape]:
    """Return the shapes that are known and fixed, weights among them."""
    found = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.value_info, *graph.input, *graph.output):
        tensor = value.type.tensor_type
        sides = [d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim]
        if -1 not in sides and tensor.HasField("shape"):
            found[value.name] = tuple(sides)
    return found


def _of_conv(node: onnx.NodeProto, known: Mapping[str, Shape]) -> int:
    # weight (out, in / group, kernel...)
    return math.prod(known[node.output[0]]) * math.prod(known[node.input[1]][1:])


def _of_conv_transpose(node: onnx.NodeProto, known: Mapping[str, Shape]) -> int:
    # weight (in, out / group, kernel...)
    return math.prod(known[node.input[0]]) * math.prod(known[node.input[1]][1:])


def _of_gemm(node: onnx.NodeProto, known: Mapping[str, Shape]) -> int:
    transposed = any(a.name == "transA" and a.i for a in node.attribute)
    return math.prod(known[node.output[0]]) * known[node.input[0]][0 if transposed else 1]


def _of_matmul(node: onnx.NodeProto, known: Mapping[str, Shape]) -> int:
    return math.prod(known[node.output[0]]) * known[node.input[0]][-1]


def _of_recurrent(node: onnx.NodeProto, known: Mapping[str, Shape]) -> int:
    """Each step of each sequence multiplies by the input weights and the recurrent weights."""
    steps = math.prod(known[node.input[0]][:2])
    return steps * sum(math.prod(known[name]) for name in node.input[1:3])


def _of_attention(node: onnx.NodeProto, known: Mapping[str, Shape]) -> int:
    """Queries by keys, and the weights that result by values; in a contrib node the projections too."""
    result = math.prod(known[node.output[0]])
    if node.domain not in _STANDARD and node.op_type == "Attention":
        read, weight = known[node.input[0]], known[node.input[1]]
        return math.prod(read) * weight[1] + 2 * read[-2] * result
    return known[node.input[1]][-2] * (math.prod(known[node.input[0]]) + result)


def _of_einsum(node: onnx.NodeProto, known: Mapping[str, Shape]) -> int:
    """The product of the sides of all letters; sums and transpositions of one operand are none."""
    if len(node.input) == 1:
        return 0
    equation = next(a.s.decode() for a in node.attribute if a.name == "equation")
    sides: dict[str, int] = {}
    for term, name in zip(_terms(equation), node.input, strict=True):
        shape = known[name]
        free = len(shape) - len(term.replace("...", ""))
        letters = re.sub(r"\.\.\.", "".join(f"\x00{i}" for i in reversed(range(free))), term)
        for letter, side in zip(re.findall(r"\x00?.", letters), shape, strict=True):
            sides[letter] = max(side, sides.get(letter, 1))
    return math.prod(sides.values())


def _terms(equation: str) -> Sequence[str]:
    return equation.replace(" ", "").split("->")[0].split(",")


_COUNTS: Mapping[str, Callable[[onnx.NodeProto, Mapping[str, Shape]], int]] = {
    "Attention": _of_attention,
    "Conv": _of_conv,
    "ConvTranspose": _of_conv_transpose,
    "DeformConv": _of_conv,
    "Einsum": _of_einsum,
    "GRU": _of_recurrent,
    "Gemm": _of_gemm,
    "LSTM": _of_recurrent,
    "MatMul": _of_matmul,
    "MultiHeadAttention": _of_attention,
    "RNN": _of_recurrent,
}
