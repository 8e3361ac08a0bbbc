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
from agent.core.weight_rounding import rounded
from agent.disk import disk_errors
from agent.graphs.biases import correctable
from agent.graphs.compute import WEIGHTED, shapes
from agent.graphs.edits import group_of, numbers_of
from agent.graphs.moments import LARGEST_ROW, Frames, moments, row_length
from agent.graphs.rounding import Weights

_STEPS = 127
_RANK = 4


def least_error_weights(
    model: onnx.ModelProto, frames: Frames, threads: int
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield layers with the weights that INT8 is to leave of them, on the grid of INT8.

    Where a bias can make up for the mean error, only what varies is weighed.

    Args:
        model: From `qdq.inferred`.
        frames: Inputs of the model, a few.
        threads: Of the runtime; 0 takes all cores.

    Raises:
        CalibrationError: "model_failed" on a frame.
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    mended = {node.name for node in correctable(graph)}
    known = shapes(graph)
    layers = [n for n in graph.node if _fits(n, constants) and n.input[0] in known]
    for node, (mean, second) in moments(model, layers, frames, threads):
        values = numpy_helper.to_array(constants[node.input[1]])
        varying = second - mean[:, :, None] * mean[:, None, :] if node.name in mended else second
        rows = _to_rows(node, values).astype(np.float64)
        scales = np.abs(_channels(node, values)).max(axis=1) / _STEPS
        scales = np.repeat(scales, rows[..., 0].size // scales.size).reshape(rows.shape[:2])
        if not (np.isfinite(scales).all() and (scales > 0).all()):
            continue
        for group, scale in enumerate(scales):
            rows[group] = scale[:, None] * rounded(rows[group], scale, varying[group])
        yield node.name, _from_rows(node, rows, values.shape).astype(np.float32)


def save_weights(path: str, weights: Weights) -> None:
    """Write weights by layer to an npz file; the names are values there, whatever they are."""
    arrays = {f"weights{index}": values for index, values in enumerate(weights.values())}
    names = np.array(list(weights), dtype=np.str_)
    with disk_errors(Path(path).parent), Path(path).open("wb") as out:
        np.savez(out, layers=names, **arrays)  # type: ignore[arg-type]  # not allow_pickle


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
    automatic = any(a.name == "auto_pad" and a.s not in (b"", b"NOTSET") for a in node.attribute)
    return not automatic and row_length(node, weight.dims) <= LARGEST_ROW


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
