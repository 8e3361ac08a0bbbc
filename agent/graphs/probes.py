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
from agent.graphs.edits import copied

SAMPLE = 1 << 15
"""Values of a tensor that are taken from a frame at least; smaller tensors are taken whole."""
BLOCK = 256
"""Values taken in a row: 1 KB, so that what is skipped costs no memory traffic."""
STRIDE = 15
"""At most one block in so many; odd, so that it does not beat with row lengths."""
PARTS = ("minimum", "maximum", "sum", "sample")
"""What is told of a tensor; the sum is NaN if any value is, which minimum and maximum hide."""
TURN = "quantd:turn"


def probed(model: onnx.ModelProto, tensors: Sequence[str]) -> onnx.ModelProto:
    """Return a copy whose outputs are PARTS of each tensor, one after the other.

    The sample is of blocks spread evenly over the tensor, of which every `stride`-th is taken;
    the input TURN, int64 of shape (STRIDE + 1,), holds the first block for each stride.

    Args:
        model: Inferred.
        tensors: Names of float32 tensors.
    """
    whole = copied(model)
    graph = whole.graph
    del graph.output[:]
    known = shapes(model.graph)
    turn = helper.make_tensor_value_info(TURN, TensorProto.INT64, [STRIDE + 1])
    graph.input.append(turn)
    for name, values in (
        ("flat", [-1]), ("rows", [-1, BLOCK]), ("zero", [0]), ("end", [2**62])
    ):  # fmt: skip
        constant = numpy_helper.from_array(np.array(values, np.int64), f"quantd:{name}")
        graph.initializer.append(constant)
    strides = {name: _stride(prod(known.get(name, (0,)))) for name in tensors}
    for stride in sorted({*strides.values()} - {1}):
        _add_stride(graph, stride)
    for name in tensors:
        for operator, part in zip(("ReduceMin", "ReduceMax", "ReduceSum"), PARTS, strict=False):
            graph.node.append(helper.make_node(operator, [name], [f"{name}:{part}"], keepdims=0))
        _add_sample(graph, name, strides[name], prod(known.get(name, (0,))))
        for part in PARTS:
            value = helper.make_tensor_value_info(f"{name}:{part}", TensorProto.FLOAT, None)
            graph.output.append(value)
    return whole


def turns(frame: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Return the input TURN for a frame, so that in `stride` frames every block is seen once."""
    return np.array([frame % max(stride, 1) for stride in range(STRIDE + 1)], np.int64)


def _stride(size: int) -> int:
    return max(min(size // SAMPLE, STRIDE), 1)


def _add_stride(graph: onnx.GraphProto, stride: int) -> None:
    """Add the step and the first block of a stride."""
    for name, value in ((f"quantd:step{stride}", stride), (f"quantd:place{stride}", stride)):
        graph.initializer.append(numpy_helper.from_array(np.array([value], np.int64), name))
    inputs = [TURN, f"quantd:place{stride}"]
    graph.node.append(helper.make_node("Gather", inputs, [f"quantd:first{stride}"]))


def _add_sample(graph: onnx.GraphProto, name: str, stride: int, size: int) -> None:
    target = f"{name}:sample"
    if stride == 1:
        graph.node.append(helper.make_node("Reshape", [name, "quantd:flat"], [target]))
        return
    end = numpy_helper.from_array(np.array([size // BLOCK * BLOCK], np.int64), f"{name}:end")
    graph.initializer.append(end)
    steps = (
        ("Reshape", [name, "quantd:flat"], f"{name}:flat"),
        ("Slice", [f"{name}:flat", "quantd:zero", f"{name}:end", "quantd:zero"], f"{name}:cut"),
        ("Reshape", [f"{name}:cut", "quantd:rows"], f"{name}:rows"),
        (
            "Slice",
            [f"{name}:rows", f"quantd:first{stride}", "quantd:end", "quantd:zero",
             f"quantd:step{stride}"],
            target,
        ),
    )  # fmt: skip
    for operator, inputs, output in steps:
        graph.node.append(helper.make_node(operator, inputs, [output]))
