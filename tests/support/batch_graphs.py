"""Graphs that have batch 1 built into constants, as exports have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

from tests.support.quant_graphs import weights


def _saved(
    path: Path, nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto], outputs: list[str]
) -> str:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model = shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    onnx.save(model, str(path))
    return str(path)


def _shape(name: str, *values: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def heads(path: Path) -> str:
    """Save a backbone with two heads, Reshape and Resize of constant shapes: three outputs."""
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["c"], "stem", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("Reshape", ["r", "cells"], ["p"], "cells"),
        helper.make_node("Transpose", ["p"], ["boxes"], "rows", perm=[0, 2, 1]),
        helper.make_node("Resize", ["r", "", "", "larger"], ["mask"], "enlarge", mode="nearest"),
        helper.make_node("Reshape", ["r", "flat"], ["f"], "flat"),
        helper.make_node("Gemm", ["f", "w1"], ["scores"], "classify", transB=1),
    ]
    constants = [
        weights("w0", 4, 3, 3, 3), weights("b0", 4), weights("w1", 5, 256),
        _shape("cells", 1, 4, 64), _shape("larger", 1, 4, 16, 16), _shape("flat", 1, -1),
    ]  # fmt: skip
    return _saved(path, nodes, constants, ["boxes", "mask", "scores"])


def rows(path: Path) -> str:
    """Save a graph that takes all images for one: nothing in it says where the batch is."""
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["c"], "stem"),
        helper.make_node("Reshape", ["c", "shape"], ["y"], "all_rows"),
    ]
    constants = [weights("w0", 4, 3, 1, 1), weights("b0", 4), _shape("shape", 4, -1)]
    return _saved(path, nodes, constants, ["y"])


def frozen(path: Path) -> str:
    """Save a graph that ends in a Reshape to what one image has: it runs in no other batch."""
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["c"], "stem"),
        helper.make_node("Reshape", ["c", "shape"], ["y"], "one_image"),
    ]
    constants = [weights("w0", 4, 3, 1, 1), weights("b0", 4), _shape("shape", 4, 64)]
    return _saved(path, nodes, constants, ["y"])
