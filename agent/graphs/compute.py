"""How much a graph computes, and how much of it on integers."""

from __future__ import annotations

import math
from collections.abc import Iterator

import onnx

from agent.core.errors import QuantizeError

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def int8_share(quantized: onnx.ModelProto, clean: onnx.ModelProto) -> tuple[float, tuple[str, ...]]:
    """Return the share of multiply-accumulates fed by integers, and the weighted nodes that aren't.

    A node counts only if both its activation and its weight come from a DequantizeLinear.

    Raises:
        QuantizeError: "unknown_macs" if a shape is missing.
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
        if node.name in macs and node.input[0] in made and node.input[1] in made
    }
    total = sum(macs.values())
    share = sum(macs[name] for name in integer) / total if total else 0.0
    return share, tuple(name for name in macs if name not in integer)


def node_macs(model: onnx.ModelProto) -> Iterator[tuple[onnx.NodeProto, int]]:
    """Yield every weighted node with its multiply-accumulates (He et al. count: no bias)."""
    known = shapes(model.graph)
    for node in model.graph.node:
        if node.op_type not in WEIGHTED:
            continue
        try:
            first, second = known[node.input[0]], known[node.input[1]]
            result = known[node.output[0]]
        except KeyError as e:
            raise QuantizeError(
                f"the shape of tensor {e.args[0]} at node {node.name} is unknown",
                code="unknown_macs",
            ) from e
        if node.op_type == "Conv":  # weight (out, in / group, kernel...)
            each = math.prod(second[1:])
            yield node, math.prod(result) * each
        elif node.op_type == "ConvTranspose":  # weight (in, out / group, kernel...)
            yield node, math.prod(first) * math.prod(second[1:])
        elif node.op_type == "Gemm":
            transposed = any(a.name == "transA" and a.i for a in node.attribute)
            yield node, math.prod(result) * first[0 if transposed else 1]
        else:
            yield node, math.prod(result) * first[-1]


def shapes(graph: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    """Return the shapes that are known and fixed, weights among them."""
    found = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.value_info, *graph.input, *graph.output):
        sides = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(d.HasField("dim_value") for d in sides):
            found[value.name] = tuple(d.dim_value for d in sides)
    return found
