"""Files that are quantized already."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator

import onnx
from onnx import helper, numpy_helper

from agent.core.errors import QuantizeError
from agent.core.records import AS_GIVEN
from agent.engines.errors import ONNXRUNTIME_ERRORS
from agent.graphs.compute import int8_share, node_macs
from agent.graphs.edits import bodies_of, read_in_bodies
from agent.graphs.sessions import session

GIVEN = f"{AS_GIVEN}.onnx"
"""A file that is quantized already, made ordinary; beside the FP32 that was made of it."""

_PRODUCTS = ("ConvInteger", "MatMulInteger", "QGemm", "QLinearConv", "QLinearMatMul")
_CONVERSIONS = ("DequantizeLinear", "QuantizeLinear")

_INTEGER = (
    "ConvInteger", "DequantizeLinear", "DynamicQuantizeLSTM", "DynamicQuantizeLinear",
    "DynamicQuantizeMatMul", "MatMulBnb4", "MatMulInteger", "MatMulIntegerToFloat", "MatMulNBits",
    "QAttention", "QEmbedLayerNormalization", "QGemm", "QuantizeLinear",
)  # fmt: skip


def is_integer(node: onnx.NodeProto) -> bool:
    """Return True for an operator that quantizes or computes on integers."""
    return node.op_type in _INTEGER or node.op_type.startswith("QLinear")


def integer_operators(graph: onnx.GraphProto) -> str:
    """Describe the operators of a graph that quantize or compute on integers; "" if none.

    The bodies of If and Loop nodes count too.
    """
    found = Counter(node.op_type for node in _every_node(graph) if is_integer(node))
    return ", ".join(f"{count} {name}" for name, count in sorted(found.items()))


def _every_node(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for body in bodies_of(node):
            yield from _every_node(body)


def has_integer_weights_only(graph: onnx.GraphProto) -> bool:
    """Return True if integers are only the form in which weights are stored."""
    weights = {node.output[0] for node in _on_constants(graph)}
    return all(node.output[0] in weights for node in _every_node(graph) if is_integer(node))


def given_share(
    given: onnx.ModelProto, clean: onnx.ModelProto
) -> tuple[float | None, tuple[str, ...]]:
    """Return the share of multiply-accumulates on integers, and the computing nodes in float.

    Args:
        given: The graph with its integers, shapes inferred.
        clean: The same in float, its nodes under the same names; or the graph itself, of which
            what operators on integers compute can't be counted: the share is then None.
    """
    integer = {node.name for node in given.graph.node if node.op_type in _PRODUCTS}
    share, floating = int8_share(given, clean)
    if not integer:
        return share, floating
    macs = {node.name: count for node, count in node_macs(clean)}
    if not integer <= macs.keys():
        return None, floating
    total = sum(macs.values())
    floating = tuple(name for name in floating if name not in integer)
    share = 1 - sum(macs[name] for name in floating) / total if total else 0.0
    return share, floating


def float_biases(model: onnx.ModelProto) -> None:
    """Replace int32 constants that are dequantized by their float values."""
    wide = {t.name for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT32}
    dequantize_weights(model, wide)


def require_float(graph: onnx.GraphProto) -> None:
    """Check that a graph can be converted to another precision.

    Raises:
        QuantizeError: "quantized_already" if it has integer operators.
    """
    found = integer_operators(graph)
    if found:
        raise QuantizeError(
            f"the file is quantized already ({found}), and no FP32 can be made of it exactly",
            code="quantized_already",
            hint="for other precisions, give the float model that it was made from",
        )


def dequantize_weights(model: onnx.ModelProto, within: Collection[str] | None = None) -> int:
    """Replace weights that are stored as integers by their float values; return how many.

    Float weights that the graph itself quantizes and dequantizes are rounded likewise.

    Args:
        model: Changed in place.
        within: The integers to replace; None for all.
    """
    graph = model.graph
    nodes = [node for node in _on_constants(graph) if within is None or node.input[0] in within]
    inside = {node.output[0] for node in nodes}
    others = [node for node in graph.node if node.output[0] not in inside]
    read = {name for node in others for name in node.input} | set(read_in_bodies(graph))
    read |= {value.name for value in graph.output}
    made = [node.output[0] for node in nodes if node.output[0] in read]
    if not made:
        return 0
    sources = {name for node in nodes for name in node.input}
    alone = helper.make_model(
        helper.make_graph(
            nodes,
            "weights",
            [],
            [helper.make_empty_tensor_value_info(name) for name in made],
            [tensor for tensor in graph.initializer if tensor.name in sources],
        ),
        opset_imports=model.opset_import,
        ir_version=model.ir_version,
    )
    try:
        found = session(alone, 1).run(None, {})
    except ONNXRUNTIME_ERRORS:  # a type without a kernel; the graph stays an integer model
        return 0
    for name, values in zip(made, found, strict=True):
        graph.initializer.append(numpy_helper.from_array(values, name))
    del graph.node[:]
    graph.node.extend(others)
    return len(made)


def _on_constants(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes that quantize or dequantize constants."""
    constants = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in _CONVERSIONS and constants.issuperset(filter(None, node.input)):
            constants.update(node.output)
            yield node
