"""Operators added to a graph that reduce its tensors to minimum, maximum and a sample.

Whole tensors as outputs would copy all activations of a frame and keep them in memory together;
reduced inside the graph they stay in the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from agent.graphs.compute import shapes
from agent.graphs.edits import add_reduction, copy_of

SAMPLE = 1 << 14
"""Least values sampled per tensor and frame; smaller tensors are taken whole."""
ROW = 64
"""Least values in a row, 256 B, so that skipped rows cost little memory traffic."""
STRIDE = 15
"""Largest stride between sampled rows; odd, so that it does not alias with picture sizes."""
PARTS = ("minimum", "maximum", "sample")
"""Outputs per tensor; the first two per channel where it has more than two axes."""
_OUTER = 2  # batch and channels
FIRST_ROWS = "quantd:turn"


def with_probes(model: onnx.ModelProto, tensors: Sequence[str]) -> onnx.ModelProto:
    """Return a copy whose outputs are PARTS of each tensor, one after the other.

    The sample takes every `stride`-th row along the tensor's last axes; the input FIRST_ROWS, int64
    of shape (STRIDE + 1,), contains the first row for each stride.

    Args:
        model: Inferred.
        tensors: Names of float32 tensors.
    """
    whole = copy_of(model)
    graph = whole.graph
    del graph.output[:]
    graph.input.append(helper.make_tensor_value_info(FIRST_ROWS, TensorProto.INT64, [STRIDE + 1]))
    known = shapes(model.graph)
    strides = {name: stride_of(known.get(name, ())) for name in tensors}
    for name, value in (
        ("rows", 0),
        ("end", 2**62),
        *((f"step{n}", n) for n in {*strides.values()}),
    ):
        constant = numpy_helper.from_array(np.array([value], np.int64), f"quantd:{name}")
        graph.initializer.append(constant)
    for stride in sorted({*strides.values()} - {1}):
        inputs = [FIRST_ROWS, f"quantd:step{stride}"]
        graph.node.append(helper.make_node("Gather", inputs, [f"quantd:first{stride}"]))
    for name in tensors:
        inner = range(_OUTER, len(known.get(name, ())))  # by channel: the channels run in parallel
        for operator, part in (("ReduceMin", PARTS[0]), ("ReduceMax", PARTS[1])):
            add_reduction(whole, operator, name, f"{name}:{part}", inner)
        _add_sample(graph, name, strides[name], known.get(name, ()))
        for part in PARTS:
            value_info = helper.make_tensor_value_info(f"{name}:{part}", TensorProto.FLOAT, None)
            graph.output.append(value_info)
    return whole


def first_rows(frame: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Return the input FIRST_ROWS for a frame: `stride` frames in a row sample every row once."""
    return np.array([frame % max(stride, 1) for stride in range(STRIDE + 1)], np.int64)


def stride_of(shape: Sequence[int]) -> int:
    """Return the distance between sampled rows."""
    rows = prod(shape) // _row(shape)
    return max(min(prod(shape) // SAMPLE, STRIDE, rows), 1)


def _row(shape: Sequence[int]) -> int:
    """Return the length of a row: of as many last axes as make ROW values."""
    length = 1
    for side in reversed(shape):
        length *= side
        if length >= ROW:
            break
    return max(length, 1)


def _add_sample(graph: onnx.GraphProto, name: str, stride: int, shape: Sequence[int]) -> None:
    target = f"{name}:sample"
    if stride == 1:
        graph.node.append(helper.make_node("Identity", [name], [target]))
        return
    row = numpy_helper.from_array(np.array([-1, _row(shape)], np.int64), f"{name}:shape")
    graph.initializer.append(row)
    graph.node.append(helper.make_node("Reshape", [name, row.name], [f"{name}:rows"]))
    inputs = [f"{name}:rows", f"quantd:first{stride}", "quantd:end", "quantd:rows",
              f"quantd:step{stride}"]  # fmt: skip
    graph.node.append(helper.make_node("Slice", inputs, [target]))
