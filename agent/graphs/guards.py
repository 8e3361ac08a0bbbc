"""Protection of float layers from being quantized by ONNX Runtime at load."""

from __future__ import annotations

import onnx


def guard(graph: onnx.GraphProto) -> None:
    """Insert a LeakyRelu of slope 1, an identity, after layers left in float.

    ONNX Runtime (seen in 1.23: WeightBiasQuantization) rounds the weights of a float layer between
    a DequantizeLinear and a QuantizeLinear at load, with one scale for all channels. An activation
    prevents that, and costs nothing, as it is fused into the layer.
    """
    integer = {n.output[0] for n in graph.node if n.op_type == "DequantizeLinear"}
    places = [
        index
        for index, node in enumerate(graph.node)
        if node.op_type in ("Conv", "ConvTranspose", "Gemm")
        and node.input[0] in integer
        and node.input[1] not in integer
    ]
    ends = {value.name for value in graph.output}
    for index in reversed(places):
        node = graph.node[index]
        if node.output[0] not in ends:
            name, inner = node.output[0], f"{node.output[0]}:float"
            node.output[0] = inner
            guard = onnx.helper.make_node("LeakyRelu", [inner], [name], f"{inner}:kept", alpha=1.0)
            graph.node.insert(index + 1, guard)
