"""What weights are multiplied with: second moments of layers' inputs, from a sample of positions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from agent.core.errors import CalibrationError
from agent.engines.errors import ONNXRUNTIME_ERRORS, one_line
from agent.graphs.compute import shapes
from agent.graphs.edits import copied, drop_unneeded, group_of, numbers_of
from agent.graphs.sessions import session

Frames = Sequence[Mapping[str, NDArray[Any]]]

LARGEST_ROW = 2304
"""Weights of one output channel, at most: 3 x 3 of 256 channels. Beyond, k^2 costs too much."""
_POSITIONS = 2048  # of a frame, drawn
_DRAWN_BYTES = 32_000_000  # of what is drawn of one frame for one layer
_GROUP_BYTES = 64_000_000  # of inputs and moments that are held at a time


@dataclass(slots=True)
class Moment:
    """What the rows of a layer's weight meet, in each group.

    Sums are around the mean of the first frame: where values vary little around a large mean,
    the difference of squares would be rounding.

    Attributes:
        around: Mean of the first frame, shape (groups, k, 1).
        first: Sum of what is beyond it, shape (groups, k).
        second: Sum of its products, shape (groups, k, k).
        count: Positions so far.
    """

    around: NDArray[np.float32]
    first: NDArray[np.float64]
    second: NDArray[np.float64]
    count: int = 0

    def add(self, rows: NDArray[np.float32]) -> None:
        """Add positions, shape (groups, k, positions)."""
        beyond = rows - self.around
        self.first += beyond.sum(axis=2, dtype=np.float64)
        self.second += np.matmul(beyond, beyond.transpose(0, 2, 1))
        self.count += rows.shape[2]

    def mean(self) -> NDArray[np.float64]:
        """Return the mean, shape (groups, k)."""
        return np.asarray(self.around[..., 0] + self.first / self.count)

    def covariance(self) -> NDArray[np.float64]:
        """Return the covariance, shape (groups, k, k)."""
        off = self.first / self.count
        return np.asarray(self.second / self.count - off[:, :, None] * off[:, None, :])


def _begun(rows: NDArray[np.float32]) -> Moment:
    groups, size, _ = rows.shape
    zeros = np.zeros((groups, size))
    return Moment(rows.mean(axis=2, keepdims=True), zeros, np.zeros((groups, size, size)))


def moments(
    model: onnx.ModelProto, layers: Sequence[onnx.NodeProto], frames: Frames, threads: int
) -> Iterator[tuple[onnx.NodeProto, Moment]]:
    """Yield each layer with the moments of its inputs; a few layers are looked at at a time.

    Args:
        model: Inferred; of fixed shapes.
        layers: Conv with square or other kernels over pictures, ConvTranspose of one group,
            Gemm; their rows no longer than LARGEST_ROW.
        frames: Inputs of the model.
        threads: Of the runtime; 0 takes all cores.

    Raises:
        CalibrationError: "model_failed" on a frame.
    """
    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    for group in _grouped(model, layers, weights):
        draw = np.random.default_rng(0)
        found: dict[str, Moment] = {}
        names = tuple(dict.fromkeys(node.input[0] for node in group))
        for seen in tensors(model, names, frames, threads):
            for node in group:
                rows = _rows(node, seen[node.input[0]], weights[node.input[1]], draw)
                found.setdefault(node.name, _begun(rows)).add(rows)
        for node in group:
            if node.name in found:  # none are without frames
                yield node, found.pop(node.name)


def row_length(node: onnx.NodeProto, shape: Sequence[int]) -> int:
    """Return how many weights of a layer's weight of this shape meet in one sum."""
    if node.op_type == "Conv":
        return prod(shape[1:])
    if node.op_type == "ConvTranspose":
        return shape[0]
    return shape[1 if numbers_of(node, "transB", (0,))[0] else 0]


def _grouped(
    model: onnx.ModelProto,
    layers: Sequence[onnx.NodeProto],
    weights: Mapping[str, tuple[int, ...]],
) -> Iterator[list[onnx.NodeProto]]:
    known = shapes(model.graph)
    group: list[onnx.NodeProto] = []
    held = 0
    for node in layers:
        size = row_length(node, weights[node.input[1]])
        needed = 4 * prod(known[node.input[0]]) + 8 * group_of(node) * size**2
        if group and held + needed > _GROUP_BYTES:
            yield group
            group, held = [], 0
        group.append(node)
        held += needed
    if group:
        yield group


def tensors(
    model: onnx.ModelProto, names: Sequence[str], frames: Frames, threads: int
) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield some tensors of the graph for each frame; what they don't need does not run."""
    trial = copied(model)
    drop_unneeded(trial.graph, names)
    del trial.graph.output[:]
    for name in names:  # an input of the model can't be an output of it as it is
        trial.graph.node.append(helper.make_node("Identity", [name], [f"{name}:seen"]))
        value = helper.make_tensor_value_info(f"{name}:seen", onnx.TensorProto.FLOAT, None)
        trial.graph.output.append(value)
    try:
        opened = session(trial, threads)
        for frame in frames:
            yield dict(zip(names, opened.run(None, dict(frame)), strict=True))
    except ONNXRUNTIME_ERRORS as e:
        raise CalibrationError(
            f"the model does not run on a calibration frame: {one_line(e)}", code="model_failed"
        ) from e


def _rows(
    node: onnx.NodeProto, values: NDArray[Any], shape: Sequence[int], draw: np.random.Generator
) -> NDArray[np.float32]:
    """Return what weight rows meet at some positions, shape (groups, k, positions)."""
    if node.op_type == "Conv":
        return _patches(node, values, shape, draw)
    flat = values.reshape(1, -1) if values.ndim == 1 else values
    if node.op_type == "Gemm":
        transposed = numbers_of(node, "transA", (0,))[0]
        return np.ascontiguousarray(flat if transposed else flat.T)[None]
    pixels = values[0].reshape(values.shape[1], -1)
    return np.asarray(pixels[None, :, _drawn(_POSITIONS, draw, pixels.shape[1])])


def _patches(
    node: onnx.NodeProto, values: NDArray[Any], shape: Sequence[int], draw: np.random.Generator
) -> NDArray[np.float32]:
    """Return the k = channels / group x height x width values under the kernel at some places."""
    kernel = tuple(shape[2:])
    strides, dilations = (numbers_of(node, n, (1, 1)) for n in ("strides", "dilations"))
    top, left, bottom, right = numbers_of(node, "pads", (0, 0, 0, 0))
    padded = np.pad(values[0], ((0, 0), (top, bottom), (left, right)))
    reach = [(side - 1) * step + 1 for side, step in zip(kernel, dilations, strict=True)]
    places = [
        (size - covered) // stride + 1
        for size, covered, stride in zip(padded.shape[1:], reach, strides, strict=True)
    ]
    affordable = _DRAWN_BYTES // (4 * len(padded) * prod(kernel))
    at = _drawn(max(affordable, 1), draw, prod(places))
    corners = np.unravel_index(at, places)
    rows, columns = (
        corner[:, None] * stride + np.arange(side) * step
        for corner, stride, side, step in zip(corners, strides, kernel, dilations, strict=True)
    )
    patches = padded[:, rows[:, :, None], columns[:, None, :]]  # channels, places, kernel
    groups = group_of(node)
    grouped = patches.reshape(groups, -1, len(at), prod(kernel)).transpose(0, 1, 3, 2)
    return np.ascontiguousarray(grouped.reshape(groups, -1, len(at)), np.float32)


def _drawn(wanted: int, draw: np.random.Generator, available: int) -> NDArray[np.int64]:
    return draw.choice(available, min(wanted, available, _POSITIONS), replace=False)
