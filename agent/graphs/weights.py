"""INT8 weights chosen to minimise the error of their layer's output on calibration frames."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from agent.core.quantization.division import Division
from agent.core.quantization.weight_rounding import round_weights
from agent.graphs.biases import layers_with_bias
from agent.graphs.compute import WEIGHTED, shapes
from agent.graphs.edits import group_of, has_auto_pad, int_attribute
from agent.graphs.moments import LARGEST_ROW, Frame, Moment, moments, row_length

STEPS = 127
"""Largest INT8 code of a weight."""
_RANK = 4


def least_error_weights(
    model: onnx.ModelProto, frames: Division[Frame], threads: int
) -> Iterator[tuple[str, list[NDArray[np.float32]]]]:
    """Yield layers with their weights chosen from each source of frames.

    A weight is a code times its channel's scale.
    Where bias correction cancels the mean error, only the covariance of the inputs counts.
    Covariances from few positions are unreliable, so they are shrunk towards the diagonal.

    Args:
        model: From `qdq.load_inferred`.
        frames: Inputs of the model, a few; `frames.sources` is the order of the weights.
        threads: Of the runtime; 0 takes all cores.

    Raises:
        CalibrationError: "model_failed" on a frame.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    with_bias = {node.name for node in layers_with_bias(model.graph)}
    for node, found in moments(model, roundable_layers(model), frames.parts, threads):
        values = numpy_helper.to_array(constants[node.input[1]])
        scales = np.abs(_channels(node, values)).max(axis=1) / STEPS
        if not np.isfinite(scales).all():
            continue
        scales = np.where(scales > 0, scales, 1)  # a dead channel is zero at any scale
        centered = node.name in with_bias
        chosen = []
        for source in frames.sources:
            moment = found[source[0]]
            for part in source[1:]:  # only of the last source, so that none needs its moment again
                moment.merge(found[part])
            chosen.append(_rounded(node, values, scales, _error_weights(moment, centered=centered)))
        yield node.name, chosen


def _rounded(
    node: onnx.NodeProto,
    values: NDArray[np.float32],
    scales: NDArray[np.float32],
    weighting: NDArray[np.float64],
) -> NDArray[np.float32]:
    """Return a layer's weights on the codes of least error."""
    rows = to_rows(node, values).astype(np.float64)
    repeated = np.repeat(scales.astype(np.float64), rows[..., 0].size // scales.size)
    by_row = repeated.reshape(rows.shape[:2])
    rows = by_row[..., None] * round_weights(rows, by_row, weighting)
    return from_rows(node, rows, values.shape).astype(np.float32)


def roundable_layers(model: onnx.ModelProto) -> tuple[onnx.NodeProto, ...]:
    """Return an inferred model's layers for chosen weights: 2-D Conv and ConvTranspose, Gemm."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    known = shapes(model.graph)
    return tuple(n for n in model.graph.node if _is_roundable(n, constants) and n.input[0] in known)


def _error_weights(moment: Moment, *, centered: bool) -> NDArray[np.float64]:
    """Return the quadratic form of weight errors, shape (groups, k, k): covariance or moment."""
    found = moment.covariance()
    if not centered:
        mean = moment.mean()
        found = found + mean[:, :, None] * mean[:, None, :]
    return shrunk(found, moment.count)


def shrunk(found: NDArray[Any], count: int) -> NDArray[np.float64]:
    """Return covariances of so many positions, shape (groups, k, k), shrunk to the diagonal.

    Source: O. Ledoit and M. Wolf, "A well-conditioned estimator for large-dimensional covariance
        matrices", 2004; its weight k / (k + n) is the simplest that vanishes with the sample.
    """
    size = found.shape[-1]
    shrinkage = size / (size + count)
    return np.asarray((1 - shrinkage) * found.astype(np.float64) + shrinkage * found * np.eye(size))


def _is_roundable(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> bool:
    if node.op_type not in WEIGHTED or node.op_type == "MatMul":
        return False
    weight = constants.get(node.input[1])
    if weight is None or (node.op_type != "Gemm" and len(weight.dims) != _RANK):
        return False
    if node.op_type == "ConvTranspose" and group_of(node) != 1:
        return False
    return not has_auto_pad(node) and row_length(node, weight.dims) <= LARGEST_ROW


def _channels(node: onnx.NodeProto, values: NDArray[Any]) -> NDArray[Any]:
    """Return a weight as (output channels, rest): one scale each."""
    if node.op_type == "ConvTranspose":
        values = values.transpose(1, 0, 2, 3)
    elif node.op_type == "Gemm" and not int_attribute(node, "transB", (0,))[0]:
        values = values.T
    return np.asarray(values.reshape(len(values), -1))


def to_rows(node: onnx.NodeProto, values: NDArray[Any]) -> NDArray[Any]:
    """Return a weight as (groups, rows, k); k are the inputs of one output value."""
    if node.op_type == "Conv":
        groups = group_of(node)
        return np.asarray(values.reshape(groups, len(values) // groups, -1))
    if node.op_type == "ConvTranspose":  # a row for each output channel and place in the kernel
        return np.asarray(values.reshape(len(values), -1).T[None])
    return _channels(node, values)[None]


def from_rows(node: onnx.NodeProto, rows: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the weight of given shape that `to_rows` gives such rows of."""
    straight = node.op_type == "Conv" or (
        node.op_type == "Gemm" and int_attribute(node, "transB", (0,))[0]
    )
    return np.asarray((rows if straight else rows[0].T).reshape(shape))
