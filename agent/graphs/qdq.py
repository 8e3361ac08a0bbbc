"""Placement of Q/DQ in an ONNX graph, as each runtime needs it."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.quant_utils import QuantType, add_infer_metadata

from agent.core.errors import QuantizeError
from agent.disk import disk_errors
from agent.engines.errors import one_line
from agent.graphs.compute import WEIGHTED
from agent.graphs.edits import sort_topologically
from agent.graphs.guards import guard
from agent.graphs.residuals import SCALE, quantize_residuals, residuals
from agent.graphs.schemes import SCHEMES

_MOVING = (
    "AveragePool", "Flatten", "Gather", "Identity", "MaxPool", "Pad", "Reshape", "Resize", "Slice",
    "Split", "Squeeze", "Transpose", "Unsqueeze",
)  # fmt: skip  # both sides have one scale
_REMOVED = ("Clip", "Relu")  # into the range of their output, under U8S8
_REFUSALS = (AssertionError, AttributeError, IndexError, KeyError, TypeError, ValueError)
_IR_VERSION = 10  # the newest that ONNX Runtime 1.23 and TensorRT 10.3 both read


def load_inferred(path: str) -> onnx.ModelProto:
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
        model: From `load_inferred`, every node with a name of its own.
        scheme: A key of SCHEMES.
        ranges: Low and high of every tensor that the scheme quantizes.
        left_out: Names of the nodes to leave in float.
        per_channel: False for one scale per weight: faster, if only the placement matters.

    Raises:
        QuantizeError: "no_scale" if a weight has NaN or infinite values; "not_placed" if ONNX
            Runtime's quantizer refuses the graph or lacks a range.
    """
    rules = SCHEMES[scheme]
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    limits = {
        name: (np.float32(low), np.float32(high))
        for name, (low, high) in _with_shared_ranges(model.graph, ranges).items()
    }
    # Its own warnings concern tensors that it leaves out, which `int8_fraction` reports.
    logging.getLogger().addFilter(_not_from_onnxruntime)
    try:
        quantizer = QDQQuantizer(
            whole,
            per_channel,
            False,  # reduce_range: 7-bit weights for old CPUs, which are not detected here
            QuantType.QInt8,
            rules.activation,
            TensorsData(CalibrationMethod.MinMax, limits),
            [],
            list(left_out),
            list(rules.operators),
            dict(rules.options),
        )
        with np.errstate(all="ignore"):  # _check_scales finds the effect of infinite weights
            quantizer.quantize_model()
    except _REFUSALS as e:
        raise QuantizeError(
            f"ONNX Runtime's quantizer refuses the graph: {one_line(e)}", code="not_placed"
        ) from e
    finally:
        logging.getLogger().removeFilter(_not_from_onnxruntime)
    placed: onnx.ModelProto = quantizer.model.model
    _check_scales(placed.graph)
    if rules.between:
        guard(placed.graph)
    else:
        quantize_residuals(placed.graph, residuals(model.graph), ranges)
    return placed


def quantized_tensors(model: onnx.ModelProto, scheme: str) -> tuple[str, ...]:
    """Return the tensors that need a range under a scheme, by placing Q/DQ once."""
    activations = [value.name for value in model.graph.input]
    activations += [name for node in model.graph.node for name in node.output if name]
    known = dict.fromkeys(activations, (-1.0, 1.0))
    trial = with_qdq(model, scheme, known, per_channel=False)
    found = {
        node.input[1].removesuffix(SCALE): None
        for node in trial.graph.node
        if node.op_type == "QuantizeLinear"
    }
    return tuple(name for name in found if name in known)


def tensors_after_last_layers(graph: onnx.GraphProto) -> set[str]:
    """Return the tensors from the last weighted layers to the outputs, both included.

    Their largest values are the result (a score, a box), so they must not be clipped.
    """
    found = {value.name for value in graph.output}
    for node in reversed(graph.node):
        if node.op_type not in WEIGHTED and not found.isdisjoint(node.output):
            found.update(node.input)
    return found


def nodes_touching(graph: onnx.GraphProto, tensors: Collection[str]) -> tuple[str, ...]:
    """Return the names of the nodes that read or write one of the tensors.

    Included are tensors that only move the values of one of them, and so share its scale, and the
    input of a Relu or Clip that its range would replace.
    """
    touched = set(tensors)
    for node in graph.node:  # in order
        if node.op_type in (*_MOVING, *_REMOVED) and node.input[0] in touched:
            touched.update(node.output)
    for node in reversed(graph.node):
        if node.op_type in _REMOVED and node.output[0] in touched:
            touched.add(node.input[0])
    return tuple(
        node.name
        for node in graph.node
        if not touched.isdisjoint(node.input) or not touched.isdisjoint(node.output)
    )


def save(model: onnx.ModelProto, target: str) -> None:
    """Write a graph in the IR version that every supported runtime reads, its nodes sorted."""
    sort_topologically(model.graph)
    model.ir_version = min(model.ir_version, _IR_VERSION)
    with disk_errors(Path(target).parent):
        onnx.save(model, target)


def _with_shared_ranges(
    graph: onnx.GraphProto, ranges: Mapping[str, tuple[float, float]]
) -> dict[str, tuple[float, float]]:
    """Return the ranges with those of tensors that share them added.

    QDQQuantizer uses one scale on both sides of an operator that only moves values, so only one
    side is in the statistics. Under U8S8 a Relu or Clip is removed in favour of its range, but
    QDQQuantizer looks up the range of its input as well.
    """
    found = dict(ranges)
    for node in graph.node:
        if node.op_type in _MOVING and node.input[0] in found:
            for name in node.output:
                found.setdefault(name, found[node.input[0]])
    for node in reversed(graph.node):
        if node.op_type in (*_MOVING, *_REMOVED) and node.output[0] in found:
            found.setdefault(node.input[0], found[node.output[0]])
    return found


def _check_scales(graph: onnx.GraphProto) -> None:
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.input[1] in constants:
            scale = onnx.numpy_helper.to_array(constants[node.input[1]])
            if not (np.isfinite(scale).all() and (scale > 0).all()):
                raise QuantizeError(
                    f"tensor {node.input[1].removesuffix(SCALE)} has no finite positive scale",
                    code="no_scale",
                    hint="look for NaN or infinite values in the model's weights",
                )


def _not_from_onnxruntime(record: logging.LogRecord) -> bool:
    return "onnxruntime" not in record.pathname
