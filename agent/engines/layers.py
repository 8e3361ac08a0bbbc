"""Layers of a TensorRT engine and their precisions: layers.json beside the engine.

The layers of the network are known before building, on any machine. Those of the engine (fusions,
kernels) need a device that loads the engine.
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
    """Return the engine inspector's layers of a built engine, or None and the reason.

    Args:
        trt: The TensorRT module.
        plan: The serialized engine, built with ProfilingVerbosity.DETAILED.
        logger: From `engines.tensorrt.make_logger`.
    """
    engine = trt.Runtime(logger).deserialize_cuda_engine(plan)
    if engine is None:
        return None, f"the engine doesn't load here: {logger.errors()}"
    text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    try:
        return json.loads(text), ""
    except ValueError as e:
        return None, f"the engine inspector returned invalid JSON: {e}"


def layers_json(network: list[dict[str, str]], engine: object, reason: str) -> bytes:
    """Return the contents of layers.json; `engine` is null where there is a reason."""
    contents = {"schema": 1, "network": network, "engine": engine, "engine_reason": reason}
    return json.dumps(contents, indent=1).encode()


def count(network: Sequence[Mapping[str, str]], engine: object) -> Layers:
    """Count layers by the precision that they compute in.

    Args:
        network: From `network_layers`.
        engine: From `engine_layers`; None if the engine was not loaded, so that only the
            precisions of the network are known.
    """
    listed = engine.get("Layers") if isinstance(engine, dict) else None
    if isinstance(listed, list) and all(isinstance(one, dict) for one in listed):
        kinds: Iterable[str] = (_inspected_kind(one) for one in listed)
        source = "TensorRT's engine inspector"
    else:
        kinds = (_network_kind(one) for one in network)
        source = "the network, before TensorRT fused it: the engine was not loaded here"
    found = Counter(kinds)
    return Layers(
        int8=found["int8"],
        fp16=found["fp16"],
        fp32=found["fp32"],
        conversions=found["conversion"],
        others=found["other"],
        providers={},
        told_by=source,
    )


def dla_layers(engine: object) -> int:
    """Return how many layers run on a deep-learning accelerator, as the inspector lists them."""
    listed = engine.get("Layers") if isinstance(engine, dict) else None
    kinds = (one.get("LayerType") for one in listed or () if isinstance(one, dict))
    return sum("dla" in str(kind).lower() for kind in kinds)


_PRECISIONS = (("int8", "int8"), ("half", "fp16"), ("fp16", "fp16"), ("bf16", "fp16"),
               ("float", "fp32"), ("fp32", "fp32"))  # fmt: skip
_INSPECTED = re.compile(r"conv|gemm|matmul|matrix", re.IGNORECASE)


def _inspected_kind(layer: Mapping[str, Any]) -> str:
    """Return the precision of one layer of the inspector's JSON, "conversion" or "other".

    Source: TensorRT developer guide, "Engine Inspector": LayerType, Inputs[].Format/Datatype and
        Weights.Type; a kernel's weights have the type that it computes in.
    """
    kind = f"{layer.get('LayerType', '')} {layer.get('ParameterType', '')}"
    if re.search(r"reformat", kind, re.IGNORECASE):
        return "conversion"
    if not _INSPECTED.search(kind):
        return "other"
    weights, inputs = layer.get("Weights"), layer.get("Inputs")
    datatype = str(weights.get("Type", "")) if isinstance(weights, dict) else ""
    if not datatype and isinstance(inputs, list) and inputs and isinstance(inputs[0], dict):
        datatype = str(inputs[0].get("Format/Datatype", ""))
    return _match_precision(datatype)


def _network_kind(layer: Mapping[str, str]) -> str:
    if layer["type"] in {"QUANTIZE", "DEQUANTIZE", "CAST"}:
        return "conversion"
    return _match_precision(layer["precision"]) if layer["type"] in _COMPUTE else "other"


def _match_precision(datatype: str) -> str:
    return next((name for word, name in _PRECISIONS if word in datatype.lower()), "other")


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
