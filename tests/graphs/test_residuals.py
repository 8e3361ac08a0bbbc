"""The skip input of an addition is INT8 where the layer beside it is, and only there."""

from __future__ import annotations

import pytest

from agent.graphs.qdq import load_inferred, quantized_tensors, with_qdq
from agent.graphs.regions import float_nodes, layers_by_tensor
from agent.graphs.residuals import residuals
from tests.support import quant_graphs


@pytest.fixture
def block(tmp_path):
    return load_inferred(quant_graphs.inverted(tmp_path / "m.onnx"))


def addition(model, scheme, kept):
    ranges = dict.fromkeys(quantized_tensors(model, scheme), (-1.0, 1.0))
    held = layers_by_tensor(model.graph, scheme, ranges)
    placed = with_qdq(model, scheme, ranges, float_nodes(model.graph, scheme, held, kept))
    makers = {name: node.op_type for node in placed.graph.node for name in node.output}
    (node,) = [n for n in placed.graph.node if n.name == "residual"]
    return [makers[name] for name in node.input]


def test_the_skip_input_is_quantized_and_the_branch_is_not(block):
    assert residuals(block.graph) == {"residual": ("c0", "project")}
    assert addition(block, "S8S8", ()) == ["DequantizeLinear", "Conv"]


@pytest.mark.parametrize("kept", [{"project"}, {"project", "expand"}])
def test_a_layer_in_float_leaves_its_addition_in_float(block, kept):
    assert addition(block, "S8S8", kept) == ["Conv", "Conv"]


def test_the_skip_tensor_belongs_to_the_fused_layer_too(block):
    tensors = quantized_tensors(block, "S8S8")
    assert layers_by_tensor(block.graph, "S8S8", tensors)["c0"] == {"expand", "project"}


def test_a_tensor_without_a_range_stays_in_float(block):
    ranges = dict.fromkeys(set(quantized_tensors(block, "S8S8")) - {"c0"}, (-1.0, 1.0))
    placed = with_qdq(block, "S8S8", ranges, ["expand"])
    (node,) = [n for n in placed.graph.node if n.name == "residual"]
    assert list(node.input) == ["c0", "c3"]


def test_of_two_branches_the_later_is_fused(block):
    graph = block.graph
    (skip,) = [n for n in graph.node if n.name == "expand"]
    skip.input[0] = "x"  # now nothing but the addition reads c0
    assert residuals(graph) == {"residual": ("c0", "project")}
