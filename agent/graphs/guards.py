"""Protection of float layers from being quantized by ONNX Runtime at load."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper


def guard(graph: onnx.GraphProto) -> None:
    """Give layers left in float an input with a scale for each channel, all of them equal.

    ONNX Runtime (seen in 1.23: WeightBiasQuantization) rounds the weights of a float layer between
    a DequantizeLinear and a QuantizeLinear at load, with one scale for all channels. It does so
    behind a single scale only. This changes no value and costs nothing; an identity behind the
    layer, which prevents it too, also prevents the fusion with a Relu: on a convolution of
    CenterFace that took 43 ms instead of 12.
    """
    readable = {node.output[0]: node for node in graph.node if node.op_type == "DequantizeLinear"}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    places = [
        index
        for index, node in enumerate(graph.node)
        if node.op_type in ("Conv", "ConvTranspose", "Gemm")
        and node.input[0] in readable
        and node.input[1] in constants
    ]
    for index in reversed(places):
        node = graph.node[index]
        source = readable[node.input[0]]
        count = _input_channels(node, constants[node.input[1]])
        alike = f"{node.output[0]}:input"
        names = [source.input[0]]
        for name, suffix in zip(source.input[1:], ("scale", "zero_point"), strict=False):
            values = np.full(count, numpy_helper.to_array(constants[name]).reshape(()))
            graph.initializer.append(numpy_helper.from_array(values, f"{alike}:{suffix}"))
            names.append(f"{alike}:{suffix}")
        axis = 0 if node.op_type == "Gemm" and _is_set(node, "transA") else 1
        made = helper.make_node("DequantizeLinear", names, [alike], alike, axis=axis)
        node.input[0] = alike
        graph.node.insert(index, made)
    _without_readers(graph, readable)


def _input_channels(node: onnx.NodeProto, weights: onnx.TensorProto) -> int:
    if node.op_type == "Conv":
        groups = next((one.i for one in node.attribute if one.name == "group"), 1)
        return int(weights.dims[1] * groups)
    return int(weights.dims[1 if _is_set(node, "transB") else 0])


def _is_set(node: onnx.NodeProto, name: str) -> bool:
    return any(one.name == name and one.i for one in node.attribute)


def _without_readers(graph: onnx.GraphProto, readable: dict[str, onnx.NodeProto]) -> None:
    """Remove the conversions that are not read any more."""
    read = {name for node in graph.node for name in node.input}
    read.update(value.name for value in graph.output)
    for name, node in readable.items():
        if name not in read:
            graph.node.remove(node)
