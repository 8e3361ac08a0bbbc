"""Operators added to a graph that tell of its tensors in few numbers, so that none is copied out.

Taking whole tensors out of the runtime would copy all activations of a frame through memory and
keep them alive together; reduced where they are made, they stay in the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from agent.graphs.compute import shapes
from agent.graphs.edits import add_reduction, copied

SAMPLE = 1 << 14
"""Values of a tensor that are taken from a frame at least; smaller tensors are taken whole."""
ROW = 64
"""Values in a row at least, 256 B, so that what is skipped costs little memory traffic."""
STRIDE = 15
"""At most one row in so many; odd, so that it does not beat with picture sizes."""
PARTS = ("minimum", "maximum", "sample")
"""What is told of a tensor; the first two for each of its channels where it has more axes."""
_OUTER = 2  # batch and channels
TURN = "quantd:turn"


def probed(model: onnx.ModelProto, tensors: Sequence[str]) -> onnx.ModelProto:
    """Return a copy whose outputs are PARTS of each tensor, one after the other.

    The sample is of rows along the tensor's last axes, of which every `stride`-th is taken; the
    input TURN, int64 of shape (STRIDE + 1,), holds the first row for each stride.

    Args:
        model: Inferred.
        tensors: Names of float32 tensors.
    """
    whole = copied(model)
    graph = whole.graph
    del graph.output[:]
    graph.input.append(helper.make_tensor_value_info(TURN, TensorProto.INT64, [STRIDE + 1]))
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
        inputs = [TURN, f"quantd:step{stride}"]
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


def turns(frame: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Return the input TURN for a frame, so that in `stride` frames every row is seen once."""
    return np.array([frame % max(stride, 1) for stride in range(STRIDE + 1)], np.int64)


def stride_of(shape: Sequence[int]) -> int:
    """Return of how many rows one is taken."""
    rows = prod(shape) // _row(shape)
    return max(min(prod(shape) // SAMPLE, STRIDE, rows), 1)


def _row(shape: Sequence[int]) -> int:
    """Return the length of a row: the last axes that together are long enough."""
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
