"""Q/DQ on the skip input of residual additions, so that TensorRT fuses convolution and addition.

TensorRT fuses an INT8 convolution with the addition and activation after it if the other summand is
INT8 as well. Q/DQ between the convolution and the addition would break the fusion, so only the skip
input gets it.

Source: NVIDIA, TensorRT documentation, "Working with Quantized Types", Q/DQ layer-placement
recommendations.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from agent.graphs.compute import WEIGHTED

SCALE = "_scale"  # QDQQuantizer names a tensor's scale TENSOR_scale
_SUMMANDS = 2


def residuals(graph: onnx.GraphProto) -> dict[str, tuple[str, str]]:
    """Return the skip tensor of each residual addition, and the layer that it is fused with."""
    constants = {tensor.name for tensor in graph.initializer}
    makers = {name: (i, node) for i, node in enumerate(graph.node) for name in node.output}
    reads: dict[str, int] = {value.name: 2 for value in graph.output}  # outputs are not fused away
    for node in graph.node:
        for name in node.input:
            reads[name] = reads.get(name, 0) + 1
    found = {}
    for node in graph.node:
        if node.op_type != "Add" or len(set(node.input)) != _SUMMANDS:
            continue
        if any(name in constants for name in node.input):
            continue
        branches = [
            (makers[name][0], name)
            for name in node.input
            if name in makers and makers[name][1].op_type in WEIGHTED and reads[name] == 1
        ]
        if branches:
            _, branch = max(branches)  # the later of two: the other is ready when it runs
            (skip,) = set(node.input) - {branch}
            found[node.name] = skip, makers[branch][1].name
    return found


def quantize_residuals(
    placed: onnx.GraphProto,
    found: Mapping[str, tuple[str, str]],
    ranges: Mapping[str, tuple[float, float]],
) -> None:
    """Make additions read their skip tensor through Q/DQ if the fused layer is in INT8.

    All other nodes but INT8 layers read the tensors from before Q/DQ.

    Args:
        placed: Graph with symmetric Q/DQ on the inputs of its layers; changed in place.
        found: From `residuals` of the clean graph.
        ranges: Low and high of every tensor that may be quantized; others stay in float.
    """
    _restore_float_reads(placed)
    nodes = {node.name: node for node in placed.node}
    integer = {n.output[0] for n in placed.node if n.op_type == "DequantizeLinear"}
    for addition, (skip, layer) in found.items():
        if skip in ranges and set(nodes[layer].input[:2]) <= integer:
            through = _existing_qdq_output(placed, skip) or _add_qdq(placed, skip, ranges[skip])
            for index, name in enumerate(nodes[addition].input):
                if name == skip:
                    nodes[addition].input[index] = through


def _restore_float_reads(graph: onnx.GraphProto) -> None:
    """Connect readers that are not INT8 layers to the float tensors, which QDQQuantizer replaced."""
    quantized = {n.output[0]: n.input[0] for n in graph.node if n.op_type == "QuantizeLinear"}
    whole = {
        n.output[0]: quantized[n.input[0]]
        for n in graph.node
        if n.op_type == "DequantizeLinear" and n.input[0] in quantized
    }
    integer = {n.output[0] for n in graph.node if n.op_type == "DequantizeLinear"}
    for node in graph.node:
        if node.op_type in WEIGHTED and set(node.input[:2]) <= integer:
            continue
        for index, name in enumerate(node.input):
            if name in whole:
                node.input[index] = whole[name]


def _existing_qdq_output(graph: onnx.GraphProto, tensor: str) -> str:
    """Return the output of the Q/DQ pair that a tensor already has; "" if none."""
    codes = {
        n.output[0] for n in graph.node if n.op_type == "QuantizeLinear" and n.input[0] == tensor
    }
    return next(
        (
            n.output[0]
            for n in graph.node
            if n.op_type == "DequantizeLinear" and n.input[0] in codes
        ),
        "",
    )


def _add_qdq(graph: onnx.GraphProto, tensor: str, span: tuple[float, float]) -> str:
    scale, zero = f"{tensor}{SCALE}", f"{tensor}_zero_point"
    step = np.float32(max(-span[0], span[1]) / 127)
    graph.initializer.extend(
        [numpy_helper.from_array(step, scale), numpy_helper.from_array(np.int8(0), zero)]
    )
    codes, through = f"{tensor}_QuantizeLinear_Output", f"{tensor}_DequantizeLinear_Output"
    for kind, source, target in (
        ("QuantizeLinear", tensor, codes),
        ("DequantizeLinear", codes, through),
    ):
        graph.node.append(
            helper.make_node(kind, [source, scale, zero], [target], f"{tensor}_{kind}")
        )
    return through
