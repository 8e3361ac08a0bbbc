"""Second moments of layers' inputs, from a sample of positions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from agent.graphs.edits import copy_of, group_of, int_attribute, keep_nodes_for
from agent.graphs.sessions import session

Frame = Mapping[str, NDArray[Any]]
Frames = Sequence[Frame]

LARGEST_ROW = 2304
"""Most weights of one output channel: 3 x 3 of 256 channels. Beyond, k^2 costs too much."""
_SAMPLE_BYTES = 1_500_000  # of the samples of one frame for one layer; 20 times as much gained nothing on two models
_POSITIONS = (256, 2048)  # sampled per frame at least and at most, whatever their size
_MOST_BYTES = 64_000_000  # of inputs and moments in memory at a time


@dataclass(slots=True)
class Moment:
    """First and second moments of a layer's im2col columns, in each group.

    Sums are of deviations from the mean of the first frame: where values vary little around a large
    mean, a difference of squares would lose all precision.

    Attributes:
        around: Mean of the first frame, shape (groups, k, 1).
        first: Sum of the deviations, shape (groups, k).
        second: Sum of their products, shape (groups, k, k).
        count: Positions so far.
    """

    around: NDArray[np.float32]
    first: NDArray[np.float64]
    second: NDArray[np.float64]
    count: int = 0

    @classmethod
    def around_first(cls, rows: NDArray[np.float32]) -> Moment:
        """Return the empty moment around the mean of the first frame."""
        groups, size, _ = rows.shape
        zeros = np.zeros((groups, size))
        return cls(rows.mean(axis=2, keepdims=True), zeros, np.zeros((groups, size, size)))

    def empty(self) -> Moment:
        """Return the empty moment around the same values, so that both can be merged."""
        return Moment(self.around, np.zeros_like(self.first), np.zeros_like(self.second))

    def merge(self, other: Moment) -> None:
        """Add the sums of another moment around the same values."""
        self.first += other.first
        self.second += other.second
        self.count += other.count

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


def moments(
    model: onnx.ModelProto, layers: Sequence[onnx.NodeProto], parts: Sequence[Frames], threads: int
) -> Iterator[tuple[onnx.NodeProto, list[Moment]]]:
    """Yield each layer with the moments of its inputs by part, in passes over a few layers.

    Args:
        model: Inferred; of fixed shapes.
        layers: 2-D Conv, ConvTranspose of one group, Gemm; their rows no longer than LARGEST_ROW.
        parts: Inputs of the model, in parts that are counted apart.
        threads: Of the runtime; 0 takes all cores.

    Raises:
        CalibrationError: "model_failed" on a frame.
    """
    frames = [frame for part in parts for frame in part]
    owners = [index for index, part in enumerate(parts) for _ in part]
    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    for group in _batches_within_memory(model, layers, weights, len(parts)):
        draw = np.random.default_rng(0)
        found: dict[str, list[Moment]] = {}
        names = tuple(dict.fromkeys(node.input[0] for node in group))
        for owner, seen in zip(owners, tensor_values(model, names, frames, threads), strict=True):
            for node in group:
                rows = _im2col(node, seen[node.input[0]], weights[node.input[1]], draw)
                if node.name not in found:
                    first = Moment.around_first(rows)
                    found[node.name] = [first, *(first.empty() for _ in parts[1:])]
                found[node.name][owner].add(rows)
            seen.clear()  # memory of the session, which the next frame would take once more
        for node in group:
            if node.name in found:  # nothing without frames
                yield node, found.pop(node.name)


def row_length(node: onnx.NodeProto, shape: Sequence[int]) -> int:
    """Return how many weights are summed for one output value, given the weight's shape."""
    if node.op_type == "Conv":
        return prod(shape[1:])
    if node.op_type == "ConvTranspose":
        return shape[0]
    return shape[1 if int_attribute(node, "transB", (0,))[0] else 0]


def _batches_within_memory(
    model: onnx.ModelProto,
    layers: Sequence[onnx.NodeProto],
    weights: Mapping[str, tuple[int, ...]],
    parts: int,
) -> Iterator[list[onnx.NodeProto]]:
    known = shapes(model.graph)
    group: list[onnx.NodeProto] = []
    used = 0
    for node in layers:
        size = row_length(node, weights[node.input[1]])
        needed = 4 * prod(known[node.input[0]]) + 8 * parts * group_of(node) * size**2
        if group and used + needed > _MOST_BYTES:
            yield group
            group, used = [], 0
        group.append(node)
        used += needed
    if group:
        yield group


def tensor_values(
    model: onnx.ModelProto, names: Sequence[str], frames: Iterable[Frame], threads: int
) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield the values of some tensors for each frame; nodes they don't depend on don't run."""
    trial = copy_of(model)
    keep_nodes_for(trial.graph, names)
    del trial.graph.output[:]
    for name in names:  # Identity, since an input of a model can't be its output too
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


def _im2col(
    node: onnx.NodeProto, values: NDArray[Any], shape: Sequence[int], draw: np.random.Generator
) -> NDArray[np.float32]:
    """Return the im2col columns at the sampled positions, shape (groups, k, positions)."""
    if node.op_type == "Conv":
        return _conv_im2col(node, values, shape, draw)
    flat = values.reshape(1, -1) if values.ndim == 1 else values
    if node.op_type == "Gemm":
        transposed = int_attribute(node, "transA", (0,))[0]
        return np.ascontiguousarray(flat if transposed else flat.T)[None]
    pixels = values[0].reshape(values.shape[1], -1)
    return np.asarray(pixels[None, :, _sampled_positions(len(pixels), draw, pixels.shape[1])])


def _conv_im2col(
    node: onnx.NodeProto, values: NDArray[Any], shape: Sequence[int], draw: np.random.Generator
) -> NDArray[np.float32]:
    """Return `conv_columns` at sampled positions."""
    available = prod(_output_sides(node, values.shape, shape))
    at = _sampled_positions(values.shape[1] * prod(shape[2:]), draw, available)
    return conv_columns(node, values, shape, at)


def conv_columns(
    node: onnx.NodeProto, values: NDArray[Any], shape: Sequence[int], at: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return the k = channels / group x height x width inputs of a Conv at some positions.

    Args:
        node: The layer.
        values: Of its input, (1, channels, height, width).
        shape: Of its weight.
        at: Flat indices into the output's height and width.

    Returns:
        Shape (groups, k, positions).
    """
    kernel = tuple(shape[2:])
    strides, dilations = (int_attribute(node, n, (1, 1)) for n in ("strides", "dilations"))
    before = int_attribute(node, "pads", (0, 0, 0, 0))[:2]
    corners = np.unravel_index(at, _output_sides(node, values.shape, shape))
    rows, columns = (
        corner[:, None] * stride + np.arange(side) * step - pad
        for corner, stride, side, step, pad in zip(
            corners, strides, kernel, dilations, before, strict=True
        )
    )
    _, height, width = values[0].shape
    inside = ((rows >= 0) & (rows < height))[:, :, None]
    inside = inside & ((columns >= 0) & (columns < width))[:, None, :]
    rows, columns = rows.clip(0, height - 1), columns.clip(0, width - 1)
    patches = values[0][:, rows[:, :, None], columns[:, None, :]]  # channels, places, kernel
    patches[:, ~inside] = 0  # padding, without a copy of the whole input
    groups = group_of(node)
    grouped = patches.reshape(groups, -1, len(at), prod(kernel)).transpose(0, 1, 3, 2)
    return np.ascontiguousarray(grouped.reshape(groups, -1, len(at)), np.float32)


def _output_sides(
    node: onnx.NodeProto, values: Sequence[int], shape: Sequence[int]
) -> tuple[int, ...]:
    """Return height and width of a Conv's output."""
    strides, dilations = (int_attribute(node, n, (1, 1)) for n in ("strides", "dilations"))
    top, left, bottom, right = int_attribute(node, "pads", (0, 0, 0, 0))
    padded = (values[2] + top + bottom, values[3] + left + right)
    return tuple(
        (size - (side - 1) * step - 1) // stride + 1
        for size, side, step, stride in zip(padded, shape[2:], dilations, strides, strict=True)
    )


def _sampled_positions(column: int, draw: np.random.Generator, available: int) -> NDArray[np.int64]:
    """Return the sampled positions of one frame, given the number of values at each."""
    least, most = _POSITIONS
    wanted = min(max(_SAMPLE_BYTES // (4 * column), least), most)
    return draw.choice(available, min(wanted, available), replace=False)
