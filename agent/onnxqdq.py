"""Q/DQ in an ONNX graph: where each runtime wants it, and how much of the compute it reaches."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.quant_utils import QuantType, add_infer_metadata

from agent.core.errors import QuantizeError

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_SCALE = "_scale"  # QDQQuantizer names a tensor's scale TENSOR_scale


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """How one runtime wants its integers.

    Attributes:
        activation: Integer type of activations; weights are int8, one scale per channel.
        operators: What is surrounded by Q/DQ.
        options: `extra_options` of ONNX Runtime's QDQQuantizer.
    """

    activation: Any
    operators: tuple[str, ...]
    options: Mapping[str, object]


SCHEMES = {
    # ONNX Runtime on a CPU fuses DQ -> operator -> Q, so outputs are quantized too, and so is
    # all that lies between convolutions. Left out is what it has no integer kernel for:
    # ConvTranspose would only be rounded and then computed in float.
    "U8S8": Scheme(
        activation=QuantType.QUInt8,
        operators=(
            "Add", "AveragePool", "Clip", "Concat", "Conv", "Flatten", "Gather", "Gemm",
            "GlobalAveragePool", "LeakyRelu", "MatMul", "MaxPool", "Mul", "Pad", "Relu",
            "Reshape", "Resize", "Sigmoid", "Slice", "Softmax", "Split", "Squeeze", "Transpose",
            "Unsqueeze",
        ),
        options={"WeightSymmetric": True},
    ),
    # TensorRT fuses Q/DQ on the inputs of weighted layers and moves it through the others by
    # itself; Q/DQ between a convolution and its activation would break that fusion, and its
    # parser takes no int32 DequantizeLinear, so biases stay in float.
    "S8S8": Scheme(
        activation=QuantType.QInt8,
        operators=_WEIGHTED,
        options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            "OpTypesToExcludeOutputQuantization": list(_WEIGHTED),
        },
    ),
}  # fmt: skip


def inferred(path: str) -> onnx.ModelProto:
    """Return the model of a file with the types and shapes of all its tensors."""
    model = onnx.shape_inference.infer_shapes(onnx.load(path), data_prop=True)
    add_infer_metadata(model)  # else QDQQuantizer would infer again through a temporary file
    return model


def with_qdq(
    model: onnx.ModelProto,
    scheme: str,
    ranges: Mapping[str, tuple[float, float]],
    left_out: Sequence[str] = (),
    *,
    per_channel: bool = True,
) -> onnx.ModelProto:
    """Return a copy of an inferred model with Q/DQ placed as the scheme says.

    Args:
        model: From `inferred`, every node with a name of its own.
        scheme: A key of SCHEMES.
        ranges: Low and high of every tensor that the scheme quantizes.
        left_out: Names of the nodes to leave in float.
        per_channel: False for one scale per weight: quicker, where only the places matter.

    Raises:
        QuantizeError: "no_scale" if a weight has NaN or infinite values.
    """
    rules = SCHEMES[scheme]
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    limits = {
        name: (np.float32(low), np.float32(high))
        for name, (low, high) in _with_absorbed(model.graph, ranges).items()
    }
    # Its own warnings concern tensors that it leaves out, which `int8_fraction` reports.
    logging.getLogger().addFilter(_is_ours)
    try:
        quantizer = QDQQuantizer(
            whole,
            per_channel,
            False,  # reduce_range: 7-bit weights, for CPUs that are not told apart here
            QuantType.QInt8,
            rules.activation,
            TensorsData(CalibrationMethod.MinMax, limits),
            [],
            list(left_out),
            list(rules.operators),
            dict(rules.options),
        )
        with np.errstate(all="ignore"):  # what comes of infinite weights is looked at below
            quantizer.quantize_model()
    finally:
        logging.getLogger().removeFilter(_is_ours)
    placed: onnx.ModelProto = quantizer.model.model
    _check_scales(placed.graph)
    return placed


def quantized_tensors(model: onnx.ModelProto, scheme: str) -> tuple[str, ...]:
    """Return the tensors that need a range under a scheme, found by placing Q/DQ once."""
    known = dict.fromkeys(_tensors(model.graph), (-1.0, 1.0))
    trial = with_qdq(model, scheme, known, per_channel=False)
    found = {
        node.input[1].removesuffix(_SCALE): None
        for node in trial.graph.node
        if node.op_type == "QuantizeLinear"
    }
    return tuple(name for name in found if name in known)


def last_tensors(graph: onnx.GraphProto) -> set[str]:
    """Return the tensors between the last weighted layers and the outputs, both included.

    The largest values there are the answer (a score, a box), so they must not be clipped.
    """
    found = {value.name for value in graph.output}
    for node in reversed(graph.node):
        if node.op_type not in _WEIGHTED and not found.isdisjoint(node.output):
            found.update(node.input)
    return found


def nodes_touching(graph: onnx.GraphProto, tensors: set[str]) -> tuple[str, ...]:
    """Return the names of the nodes that read or write one of the tensors."""
    return tuple(
        node.name
        for node in graph.node
        if not tensors.isdisjoint(node.input) or not tensors.isdisjoint(node.output)
    )


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
    shapes = _shapes(model.graph)
    for node in model.graph.node:
        if node.op_type not in _WEIGHTED:
            continue
        try:
            first, second = shapes[node.input[0]], shapes[node.input[1]]
            result = shapes[node.output[0]]
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


def _shapes(graph: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.value_info, *graph.input, *graph.output):
        sides = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(d.HasField("dim_value") for d in sides):
            shapes[value.name] = tuple(d.dim_value for d in sides)
    return shapes


def _tensors(graph: onnx.GraphProto) -> tuple[str, ...]:
    made = [name for node in graph.node for name in node.output if name]
    return (*(value.name for value in graph.input), *made)


def _with_absorbed(
    graph: onnx.GraphProto, ranges: Mapping[str, tuple[float, float]]
) -> dict[str, tuple[float, float]]:
    """Return ranges that also name the inputs of absorbed activations.

    Under U8S8 a Relu or Clip disappears into its range, and QDQQuantizer then looks its
    input up too, although nothing is made of that range.
    """
    found = dict(ranges)
    for node in graph.node:
        if node.op_type in ("Relu", "Clip") and node.output[0] in ranges:
            found.setdefault(node.input[0], ranges[node.output[0]])
    return found


def _check_scales(graph: onnx.GraphProto) -> None:
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.input[1] in constants:
            scale = onnx.numpy_helper.to_array(constants[node.input[1]])
            if not (np.isfinite(scale).all() and (scale > 0).all()):
                raise QuantizeError(
                    f"tensor {node.input[1].removesuffix(_SCALE)} has no finite positive scale",
                    code="no_scale",
                    hint="look for NaN or infinite values in the model's weights",
                )


def _is_ours(record: logging.LogRecord) -> bool:
    return "onnxruntime" not in record.pathname
