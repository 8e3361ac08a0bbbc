"""Files that are quantized already."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import onnx
from onnx import helper, numpy_helper

from agent.core.errors import QuantizeError
from agent.engines.errors import ONNXRUNTIME_ERRORS
from agent.graphs.sessions import session

_INTEGER = (
    "ConvInteger", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "MatMulNBits",
    "QAttention", "QGemm", "QuantizeLinear",
)  # fmt: skip


def integer_operators(graph: onnx.GraphProto) -> str:
    """Describe the operators of a graph that quantize or compute on integers; "" if none."""
    found = Counter(
        node.op_type
        for node in graph.node
        if node.op_type in _INTEGER or node.op_type.startswith("QLinear")
    )
    return ", ".join(f"{count} {name}" for name, count in sorted(found.items()))


def require_float(graph: onnx.GraphProto) -> None:
    """Check that a graph can be converted to another precision.

    Raises:
        QuantizeError: "quantized_already" if it has integer operators.
    """
    found = integer_operators(graph)
    if found:
        raise QuantizeError(
            f"the file is quantized already ({found}); fp32 is the file as it is",
            code="quantized_already",
            hint="for other precisions, give the float model that it was made from",
        )


def dequantize_weights(model: onnx.ModelProto) -> int:
    """Replace weights that are stored as integers by their float values; return how many.

    A file with other integer operators is not changed.

    Args:
        model: Changed in place.
    """
    graph = model.graph
    nodes = list(_constant_dequantizers(graph))
    if not nodes or integer_operators(graph) != f"{len(nodes)} DequantizeLinear":
        return 0
    read = {name for node in nodes for name in node.input}
    outputs = [helper.make_empty_tensor_value_info(node.output[0]) for node in nodes]
    constants = [tensor for tensor in graph.initializer if tensor.name in read]
    alone = helper.make_model(
        helper.make_graph(nodes, "weights", [], outputs, constants),
        opset_imports=model.opset_import,
        ir_version=model.ir_version,
    )
    try:
        found = session(alone, 1).run(None, {})
    except ONNXRUNTIME_ERRORS:  # a type without a kernel; the graph stays an integer model
        return 0
    for node, values in zip(nodes, found, strict=True):
        graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
        graph.node.remove(node)
    return len(nodes)


def _constant_dequantizers(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    constants = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and constants.issuperset(filter(None, node.input)):
            yield node
