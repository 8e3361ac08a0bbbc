"""Multiply-accumulates of every operator that computes, and the share that runs on integers."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from agent.graphs.compute import int8_share, node_macs
from agent.graphs.qdq import quantized_tensors, with_qdq
from tests.support import quant_graphs

FLOAT = TensorProto.FLOAT


def graph_of(nodes, inputs, constants=(), output="y"):
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(output, FLOAT, None)],
        [quant_graphs.weights(name, *shape) for name, shape in dict(constants).items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]
    opsets.append(helper.make_opsetid("com.example", 1))
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def counted(node, inputs, constants=(), output=None):
    model = graph_of([node], inputs, constants, node.output[0])
    if output:  # where inference knows nothing of the operator
        model.graph.output[0].CopyFrom(helper.make_tensor_value_info(node.output[0], FLOAT, output))
    ((_, macs),) = node_macs(model)
    return macs


@pytest.mark.parametrize(
    ("equation", "shapes", "macs"),
    [
        ("bhqd,bhkd->bhqk", ([2, 3, 5, 7], [2, 3, 4, 7]), 2 * 3 * 5 * 7 * 4),
        ("...ij,...jk->...ik", ([2, 3, 5], [2, 5, 7]), 2 * 3 * 5 * 7),
        ("...ij,...jk", ([4, 2, 3, 5], [2, 5, 7]), 4 * 2 * 3 * 5 * 7),
        ("i,j->ij", ([3], [4]), 12),
        ("ij->ji", ([3, 4],), 0),
    ],
)
def test_einsum_is_the_product_of_its_letters(equation, shapes, macs):
    names = [f"x{i}" for i in range(len(shapes))]
    node = helper.make_node("Einsum", names, ["y"], "e", equation=equation)
    inputs = dict(zip(names, shapes, strict=True))
    given = {name: np.ones(shape) for name, shape in inputs.items()}
    result = np.einsum(equation, *given.values())
    assert counted(node, inputs, output=list(result.shape)) == macs


@pytest.mark.parametrize(("operator", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_recurrent_layers_multiply_in_every_step(operator, gates):
    steps, batch, read, hidden, ways = 6, 2, 5, 3, 2
    node = helper.make_node(
        operator, ["x", "w", "r"], ["y"], "cell", hidden_size=hidden, direction="bidirectional"
    )
    weights = {"w": (ways, gates * hidden, read), "r": (ways, gates * hidden, hidden)}
    each = ways * gates * hidden * (read + hidden)
    assert counted(node, {"x": [steps, batch, read]}, weights) == steps * batch * each


def test_attention_multiplies_twice():
    batch, heads, queries, keys, size = 2, 3, 5, 7, 4
    node = helper.make_node("Attention", ["q", "k", "v"], ["y"], "attention")
    inputs = {
        "q": [batch, heads, queries, size],
        "k": [batch, heads, keys, size],
        "v": [batch, heads, keys, size],
    }
    expected = 2 * batch * heads * queries * keys * size
    assert counted(node, inputs, output=[batch, heads, queries, size]) == expected
    contrib = helper.make_node(
        "MultiHeadAttention", ["q", "k", "v"], ["y"], "m", domain="com.microsoft", num_heads=heads
    )
    flat = {
        n: [batch, side, heads * size] for n, side in zip("qkv", (queries, keys, keys), strict=True)
    }
    assert counted(contrib, flat, output=[batch, queries, heads * size]) == expected
    packed = helper.make_node(
        "Attention", ["q", "w"], ["y"], "a", domain="com.microsoft", num_heads=heads
    )
    hidden = heads * size
    own = 2 * batch * heads * queries * queries * size + batch * queries * hidden * 3 * hidden
    inputs = {"q": [batch, queries, hidden]}
    found = counted(packed, inputs, {"w": (hidden, 3 * hidden)}, [batch, queries, hidden])
    assert found == own


def test_what_stays_in_float_lowers_the_share():
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"], "projection"),
        helper.make_node("Einsum", ["m", "x"], ["e"], "scores", equation="bid,bjd->bij"),
        helper.make_node("MatMul", ["e", "x"], ["y"], "values"),
    ]
    model = graph_of(nodes, {"x": [1, 16, 8]}, {"w": (8, 8)})
    ranges = dict.fromkeys(quantized_tensors(model, "S8S8"), (-1.0, 1.0))
    share, floating = int8_share(with_qdq(model, "S8S8", ranges), model)
    assert floating == ("scores",)
    whole = 16 * 8 * 8 + 2 * 16 * 16 * 8
    assert share == pytest.approx(1 - 16 * 16 * 8 / whole)


def test_a_layer_of_unknown_shape_counts_nothing():
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"], "first"),
        helper.make_node("Unknown", ["m"], ["u"], "foreign", domain="com.example"),
        helper.make_node("MatMul", ["u", "w"], ["y"], "second"),
    ]
    model = graph_of(nodes, {"x": [1, 8]}, {"w": (8, 8)})
    assert {node.name: macs for node, macs in node_macs(model)} == {"first": 64, "second": 0}
