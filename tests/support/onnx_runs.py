"""Graphs run in plain ONNX Runtime."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Inputs = dict[str, NDArray[Any]]


def random_inputs(model: onnx.ModelProto, seed: int = 0) -> Inputs:
    """Return standard normal values for every input, in its own type."""
    rng = np.random.default_rng(seed)
    return {
        value.name: rng.standard_normal(
            [d.dim_value for d in value.type.tensor_type.shape.dim]
        ).astype(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
        for value in model.graph.input
    }


def run(model: onnx.ModelProto | str, inputs: Inputs, *, plain: bool = False) -> list[NDArray[Any]]:
    """Return the outputs; `plain` runs the graph as it is written, without optimizations."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    if plain:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    source = model if isinstance(model, str) else model.SerializeToString()
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, inputs))


def sqnr_db(reference: NDArray[Any], found: NDArray[Any]) -> float:
    """Return signal over noise, dB."""
    noise = np.sum(np.square(reference.astype(np.float64) - found))
    if not noise:
        return math.inf
    return float(10 * np.log10(np.sum(np.square(reference.astype(np.float64))) / noise))


@cache
def half_loss_db() -> float:
    """Return what ONNX Runtime itself may lose in INT8 graphs with float16 between the integers.

    On a CPU, QuantizeLinear on float16 cuts off instead of rounding in 1.23, and rounds in 1.32.
    """
    graph = helper.make_graph(
        [helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, [1])],
        [helper.make_tensor_value_info("y", TensorProto.INT8, [1])],
        [
            numpy_helper.from_array(np.float16(1), "scale"),
            numpy_helper.from_array(np.int8(0), "zero"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    return 0.0 if run(model, {"x": np.array([0.75], np.float16)})[0][0] == 1 else 8.0
