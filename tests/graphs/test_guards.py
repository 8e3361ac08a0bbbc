"""A layer in float between layers in INT8 keeps its weights and its fused activation."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from agent.graphs.qdq import load_inferred, quantized_tensors, save, with_qdq

SHAPE = (1, 16, 8, 8)


def layers(path, operator):
    """Three layers with a Relu each; the weights of the second differ much between channels."""
    random = np.random.default_rng(1)
    nodes, constants, last = [], [], "x"
    for index in range(3):
        weights = random.normal(0, 0.2, (16, 16, 1, 1)).astype(np.float32)
        if index == 1:
            weights *= np.geomspace(1e-4, 1, 16, dtype=np.float32)[:, None, None, None]
        bias = np.zeros(16, np.float32)
        constants += [
            numpy_helper.from_array(weights, f"w{index}"),
            numpy_helper.from_array(bias, f"b{index}"),
        ]
        inputs = [last, f"w{index}", f"b{index}"]
        nodes += [
            helper.make_node(
                operator if index == 1 else "Conv", inputs, [f"c{index}"], f"layer{index}"
            ),
            helper.make_node("Relu", [f"c{index}"], [f"r{index}"], f"relu{index}"),
        ]
        last = f"r{index}"
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("x", 1, SHAPE)], [value(last, 1, SHAPE)], constants
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)


def executed(model, path, feed):
    """Return the outputs, and the nodes after optimization."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(path)
    opened = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return opened.run(None, feed)[0], list(onnx.load(path).graph.node)


@pytest.mark.parametrize("operator", ["Conv", "ConvTranspose"])
def test_a_float_layer_between_integer_ones_keeps_its_weights_and_its_fusion(tmp_path, operator):
    layers(tmp_path / "float.onnx", operator)
    model = load_inferred(str(tmp_path / "float.onnx"))
    ranges = dict.fromkeys(quantized_tensors(model, "U8S8"), (0.0, 4.0))
    placed = with_qdq(model, "U8S8", ranges, ("layer1",))
    save(placed, str(tmp_path / "mixed.onnx"))
    onnx.checker.check_model(str(tmp_path / "mixed.onnx"))
    feed = {"x": np.random.default_rng(2).random(SHAPE).astype(np.float32)}

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    as_written = onnxruntime.InferenceSession(str(tmp_path / "mixed.onnx"), options)
    expected = as_written.run(None, feed)[0]
    found, nodes = executed(str(tmp_path / "mixed.onnx"), tmp_path / "optimized.onnx", feed)
    step = 4.0 / 255
    assert np.abs(found - expected).max() <= 2 * step  # rounded weights differ by much more
    assert operator in {node.op_type for node in nodes}
    activations = {one.s for node in nodes for one in node.attribute if one.name == "activation"}
    assert not {node.op_type for node in nodes} & {"Relu", "LeakyRelu"}
    assert b"LeakyRelu" not in activations  # it takes longer than the layer
