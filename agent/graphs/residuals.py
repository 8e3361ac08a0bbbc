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
from agent.graphs.place import Placed

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
    placed: Placed,
    found: Mapping[str, tuple[str, str]],
    ranges: Mapping[str, tuple[float, float]],
) -> None:
    """Make additions read their skip tensor through Q/DQ if the fused layer is in INT8.

    Args:
        placed: With symmetric Q/DQ on the inputs of its layers; its graph is changed in place.
        found: From `residuals` of the clean graph.
        ranges: Low and high of every tensor that may be quantized; others stay in float.
    """
    graph = placed.model.graph
    additions = {node.name: node for node in graph.node if node.name in found}
    for addition, (skip, layer) in found.items():
        if skip in ranges and layer in placed.integer:
            if skip not in placed.through:
                placed.through[skip] = _add_qdq(graph, skip, ranges[skip])
            inputs = additions[addition].input
            for index, name in enumerate(inputs):
                if name == placed.raw.get(skip, skip):
                    inputs[index] = placed.through[skip]


def _add_qdq(graph: onnx.GraphProto, tensor: str, span: tuple[float, float]) -> str:
    scale, zero = f"{tensor}_scale", f"{tensor}_zero_point"
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
