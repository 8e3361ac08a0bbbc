"""What is INT8 in an engine: layers.json beside it.

The network's own layers are known before building, on any machine. What the builder made of
them (fusions, kernels) takes a device that loads the engine.
"""

from __future__ import annotations

import json
from typing import Any

_COMPUTE = ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY")
_REORDERING = ("SHUFFLE", "IDENTITY")  # between a DequantizeLinear and the layer it belongs to


def network_layers(network: Any) -> list[dict[str, str]]:
    """Return name, type and precision of every layer of an INetworkDefinition, in order.

    The precision of a convolution or matrix product is INT8 where both its operands come from
    DequantizeLinear, since the builder fuses those into an INT8 kernel; that of every other
    layer is the type of its first output.
    """
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    made_by = {
        output.name: layer
        for layer in layers
        for output in (layer.get_output(index) for index in range(layer.num_outputs))
    }
    return [
        {"name": layer.name, "type": _kind(layer), "precision": _precision(layer, made_by)}
        for layer in layers
    ]


def engine_layers(trt: Any, plan: Any, logger: Any) -> tuple[object, str]:
    """Return the layers of a built engine as TensorRT tells them, or None and the reason.

    Args:
        trt: The TensorRT module.
        plan: The serialized engine, built with ProfilingVerbosity.DETAILED.
        logger: What `engines.tensorrt.make_logger` returned.
    """
    engine = trt.Runtime(logger).deserialize_cuda_engine(plan)
    if engine is None:
        return None, f"the engine doesn't load here: {logger.told()}"
    told = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    try:
        return json.loads(told), ""
    except ValueError as e:
        return None, f"the engine inspector told no JSON: {e}"


def layers_json(network: list[dict[str, str]], engine: object, reason: str) -> bytes:
    """Return the contents of layers.json; `engine` is null where there is a reason."""
    told = {"schema": 1, "network": network, "engine": engine, "engine_reason": reason}
    return json.dumps(told, indent=1).encode()


def _kind(layer: Any) -> str:
    return str(layer.type).rpartition(".")[2]


def _precision(layer: Any, made_by: dict[str, Any]) -> str:
    if _kind(layer) in _COMPUTE and layer.num_inputs >= 2:
        operands = (layer.get_input(0), layer.get_input(1))
        if all(_from_int8(tensor, made_by) for tensor in operands):
            return "INT8"
    if not layer.num_outputs:
        return "none"
    return str(layer.get_output(0).dtype).rpartition(".")[2]


def _from_int8(tensor: Any, made_by: dict[str, Any]) -> bool:
    maker = made_by.get(tensor.name) if tensor is not None else None
    while maker is not None and _kind(maker) in _REORDERING:
        maker = made_by.get(maker.get_input(0).name)
    return maker is not None and _kind(maker) == "DEQUANTIZE"
