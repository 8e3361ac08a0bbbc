"""Maxima and means of a graph's tensors over a few frames, reduced inside the graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from agent.core.errors import CalibrationError
from agent.engines.errors import ONNXRUNTIME_ERRORS, one_line
from agent.graphs.compute import shapes
from agent.graphs.edits import add_reduction, copy_of
from agent.graphs.sessions import session

_CHANNEL = 1
_PICTURE = 4  # rank of NCHW


def channel_maxima(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    frames: Iterable[Mapping[str, NDArray[Any]]],
    threads: int,
) -> dict[str, NDArray[np.float32]]:
    """Return the largest magnitude in each channel (axis 1) of some tensors, shape (channels,).

    Tensors of unknown shape are left out.
    """
    found = _reduce_over_frames(model, tensors, frames, threads, ("Abs", "ReduceMax"))
    return {name: np.max(rows, axis=0) for name, rows in found.items()}


def channel_means(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    frames: Iterable[Mapping[str, NDArray[Any]]],
    threads: int,
) -> dict[str, NDArray[np.float32]]:
    """Return the mean of each channel (axis 1) of some tensors over all frames.

    Tensors of unknown shape are left out.
    """
    found = _reduce_over_frames(model, tensors, frames, threads, ("ReduceMean",))
    return {name: np.mean(rows, axis=0) for name, rows in found.items()}


def maxima(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    frames: Iterable[Mapping[str, NDArray[Any]]],
    threads: int,
) -> dict[str, float]:
    """Return the largest magnitude in some tensors of known shape over all frames."""
    found = _reduce_over_frames(
        model, tensors, frames, threads, ("Abs", "ReduceMax"), by_channel=False
    )
    return {name: float(np.max(rows)) for name, rows in found.items()}


def _reduce_over_frames(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    frames: Iterable[Mapping[str, NDArray[Any]]],
    threads: int,
    operators: Sequence[str],
    *,
    by_channel: bool = True,
) -> dict[str, list[NDArray[np.float32]]]:
    """Return one row of channels for each tensor and frame.

    The mean of a picture is that of a global pool, which ONNX Runtime computes in the layout of its
    convolutions; for another reduction it first copies the tensor.
    """
    trial = copy_of(model)
    ranks = {name: len(shape) for name, shape in shapes(model.graph).items()}
    tensors = [name for name in tensors if name in ranks]
    del trial.graph.output[:]
    for name in tensors:
        source = name
        for operator in operators:
            target = f"{name}:{operator}"
            if operator == "ReduceMean" and by_channel and ranks[name] == _PICTURE:
                trial.graph.node.append(helper.make_node("GlobalAveragePool", [source], [target]))
            elif operator.startswith("Reduce"):
                axes = [axis for axis in range(ranks[name]) if axis != _CHANNEL]
                add_reduction(trial, operator, source, target, axes if by_channel else ())
            else:
                trial.graph.node.append(helper.make_node(operator, [source], [target]))
            source = target
        value = helper.make_tensor_value_info(source, onnx.TensorProto.FLOAT, None)
        trial.graph.output.append(value)
    rows: dict[str, list[NDArray[np.float32]]] = {name: [] for name in tensors}
    if not tensors:
        return rows
    try:
        opened = session(trial, threads)
        for frame in frames:
            for name, row in zip(tensors, opened.run(None, dict(frame)), strict=True):
                rows[name].append(row.mean(axis=(0, 2, 3)) if row.ndim == _PICTURE else row)
    except ONNXRUNTIME_ERRORS as e:
        raise CalibrationError(
            f"the model does not run on a calibration frame: {one_line(e)}", code="model_failed"
        ) from e
    return rows
