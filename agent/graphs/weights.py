"""INT8 weights chosen by what they do to their layer's output on calibration frames."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from agent.core.errors import CalibrationError
from agent.core.quantization.weight_rounding import rounded
from agent.disk import disk_errors
from agent.graphs.biases import correctable
from agent.graphs.compute import WEIGHTED, shapes
from agent.graphs.edits import group_of, numbers_of, pads_by_itself
from agent.graphs.moments import LARGEST_ROW, Frames, Moment, moments, row_length
from agent.graphs.rounding import Weights

_STEPS = 127
_RANK = 4


def least_error_weights(
    model: onnx.ModelProto, frames: Frames, threads: int
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield layers with the weights that INT8 is to leave of them, on the grid of INT8.

    Where a bias can make up for the mean error, only what varies is weighed. What few positions
    say of how inputs move together is half luck, so they count for less there.

    Args:
        model: From `qdq.inferred`.
        frames: Inputs of the model, a few.
        threads: Of the runtime; 0 takes all cores.

    Raises:
        CalibrationError: "model_failed" on a frame.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    mended = {node.name for node in correctable(model.graph)}
    for node, moment in moments(model, roundable(model), frames, threads):
        values = numpy_helper.to_array(constants[node.input[1]])
        rows = _to_rows(node, values).astype(np.float64)
        scales = np.abs(_channels(node, values)).max(axis=1) / _STEPS
        if not np.isfinite(scales).all():
            continue
        scales = np.where(scales > 0, scales, 1)  # a dead channel is zero at any scale
        scales = np.repeat(scales, rows[..., 0].size // scales.size).reshape(rows.shape[:2])
        weighed = _weighed(moment, varying=node.name in mended)
        for group, scale in enumerate(scales):
            rows[group] = scale[:, None] * rounded(rows[group], scale, weighed[group])
        yield node.name, _from_rows(node, rows, values.shape).astype(np.float32)


def roundable(model: onnx.ModelProto) -> tuple[onnx.NodeProto, ...]:
    """Return the layers whose weights can be chosen: Conv and ConvTranspose of pictures, Gemm.

    Args:
        model: From `qdq.inferred`.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    known = shapes(model.graph)
    return tuple(n for n in model.graph.node if _fits(n, constants) and n.input[0] in known)


def _weighed(moment: Moment, *, varying: bool) -> NDArray[np.float64]:
    """Return what errors are weighed with, shape (groups, k, k).

    Source of the shrinkage towards the diagonal: O. Ledoit and M. Wolf, "A well-conditioned
        estimator for large-dimensional covariance matrices", 2004; its weight k / (k + n) is
        the simplest that vanishes with the sample.
    """
    found = moment.covariance()
    if not varying:
        mean = moment.mean()
        found = found + mean[:, :, None] * mean[:, None, :]
    size = found.shape[-1]
    luck = size / (size + moment.count)
    return np.asarray((1 - luck) * found + luck * found * np.eye(size))


def save_weights(path: str, weights: Weights) -> None:
    """Write weights by layer to an npz file; the names are values there, whatever they are."""
    arrays = {f"weights{index}": values for index, values in enumerate(weights.values())}
    names = np.array(list(weights), dtype=np.str_)
    with disk_errors(Path(path).parent), Path(path).open("wb") as out:
        np.savez_compressed(out, layers=names, **arrays)  # type: ignore[arg-type]  # not a bool


def load_weights(path: str) -> dict[str, NDArray[np.float32]]:
    """Read what `save_weights` wrote.

    Raises:
        CalibrationError: "damaged" if it is not that.
    """
    try:
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            names = arrays["layers"]
            return {str(name): arrays[f"weights{index}"] for index, name in enumerate(names)}
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as e:
        raise CalibrationError(f"{path}: {e}", code="damaged", hint="run the capture again") from e


def _fits(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> bool:
    if node.op_type not in WEIGHTED or node.op_type == "MatMul":
        return False
    weight = constants.get(node.input[1])
    if weight is None or (node.op_type != "Gemm" and len(weight.dims) != _RANK):
        return False
    if node.op_type == "ConvTranspose" and group_of(node) != 1:
        return False
    return not pads_by_itself(node) and row_length(node, weight.dims) <= LARGEST_ROW


def _channels(node: onnx.NodeProto, values: NDArray[Any]) -> NDArray[Any]:
    """Return a weight as (output channels, rest): one scale each."""
    if node.op_type == "ConvTranspose":
        values = values.transpose(1, 0, 2, 3)
    elif node.op_type == "Gemm" and not numbers_of(node, "transB", (0,))[0]:
        values = values.T
    return np.asarray(values.reshape(len(values), -1))


def _to_rows(node: onnx.NodeProto, values: NDArray[Any]) -> NDArray[Any]:
    """Return a weight as (groups, rows, k), each row meeting the k inputs of its group."""
    if node.op_type == "Conv":
        groups = group_of(node)
        return np.asarray(values.reshape(groups, len(values) // groups, -1))
    if node.op_type == "ConvTranspose":  # an output pixel has a row for each place in the kernel
        return np.asarray(values.reshape(len(values), -1).T[None])
    return _channels(node, values)[None]


def _from_rows(node: onnx.NodeProto, rows: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    straight = node.op_type == "Conv" or (
        node.op_type == "Gemm" and numbers_of(node, "transB", (0,))[0]
    )
    return np.asarray((rows if straight else rows[0].T).reshape(shape))
