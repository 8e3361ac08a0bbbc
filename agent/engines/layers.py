"""What is INT8 in an engine: layers.json beside it.

The network's own layers are known before building, on any machine. What the builder made of
them (fusions, kernels) takes a device that loads the engine.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from agent.core.records import Layers
from agent.engines.tensorrt import without_garbage_collection

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


@without_garbage_collection()
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


def count(network: Sequence[Mapping[str, str]], engine: object) -> Layers:
    """Return how many layers compute in what.

    Args:
        network: What `network_layers` returned.
        engine: What `engine_layers` returned; None where the engine was not loaded, so that
            only what the graph asks for can be told.
    """
    listed = engine.get("Layers") if isinstance(engine, dict) else None
    if isinstance(listed, list) and all(isinstance(one, dict) for one in listed):
        kinds: Iterable[str] = (_inspected_kind(one) for one in listed)
        told_by = "TensorRT's engine inspector"
    else:
        kinds = (_network_kind(one) for one in network)
        told_by = "the network, before TensorRT fused it: the engine was not loaded here"
    found = Counter(kinds)
    return Layers(
        int8=found["int8"],
        fp16=found["fp16"],
        fp32=found["fp32"],
        conversions=found["conversion"],
        others=found["other"],
        providers={},
        told_by=told_by,
    )


def dla_layers(engine: object) -> int:
    """Return how many layers the inspector has on a deep-learning accelerator."""
    listed = engine.get("Layers") if isinstance(engine, dict) else None
    kinds = (one.get("LayerType") for one in listed or () if isinstance(one, dict))
    return sum("dla" in str(kind).lower() for kind in kinds)


_PRECISIONS = (("int8", "int8"), ("half", "fp16"), ("fp16", "fp16"), ("bf16", "fp16"),
               ("float", "fp32"), ("fp32", "fp32"))  # fmt: skip
_INSPECTED = re.compile(r"conv|gemm|matmul|matrix", re.IGNORECASE)


def _inspected_kind(layer: Mapping[str, Any]) -> str:
    """Return what one layer of the inspector's JSON does.

    Source: TensorRT developer guide, "Engine Inspector": LayerType, Inputs[].Format/Datatype and
        Weights.Type; a kernel's weights have the type that it computes in.
    """
    kind = f"{layer.get('LayerType', '')} {layer.get('ParameterType', '')}"
    if re.search(r"reformat", kind, re.IGNORECASE):
        return "conversion"
    if not _INSPECTED.search(kind):
        return "other"
    weights, inputs = layer.get("Weights"), layer.get("Inputs")
    told = str(weights.get("Type", "")) if isinstance(weights, dict) else ""
    if not told and isinstance(inputs, list) and inputs and isinstance(inputs[0], dict):
        told = str(inputs[0].get("Format/Datatype", ""))
    return _match_precision(told)


def _network_kind(layer: Mapping[str, str]) -> str:
    if layer["type"] in {"QUANTIZE", "DEQUANTIZE", "CAST"}:
        return "conversion"
    return _match_precision(layer["precision"]) if layer["type"] in _COMPUTE else "other"


def _match_precision(told: str) -> str:
    return next((name for word, name in _PRECISIONS if word in told.lower()), "other")


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
