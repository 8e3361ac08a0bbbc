"""float16 without overflow: what would not fit stays in float32, and its neighbours with it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from agent.graphs.half import to_float16
from agent.graphs.qdq import load_inferred, save
from tests.support import quant_graphs
from tests.support.onnx_runs import random_inputs, run, sqnr_db


def loud(path, factor):
    """Make the value between two convolutions larger by a factor, and nothing else."""
    model = onnx.load(quant_graphs.inverted(path))
    nodes = list(model.graph.node)
    index = next(i for i, node in enumerate(nodes) if node.name == "project")
    nodes[index].input[0] = "quiet"
    for name, value in (("up", factor), ("down", 1 / factor)):
        model.graph.initializer.append(numpy_helper.from_array(np.float32(value), name))
    nodes[index:index] = [
        helper.make_node("Mul", ["r2", "up"], ["loud"], "raise"),
        helper.make_node("Abs", ["loud"], ["still"], "between"),
        helper.make_node("Mul", ["still", "down"], ["quiet"], "lower"),
    ]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, path)
    return load_inferred(str(path))


@pytest.mark.parametrize("factor", [1.0, 1e6])
def test_what_overflows_stays_in_float32(tmp_path, factor):
    model = loud(tmp_path / "m.onnx", factor)
    inputs = random_inputs(model)
    half, kept = to_float16(model, [inputs], 1)
    assert kept == ((), ("raise", "between", "lower"))[factor > 1]
    (expected,), (found,) = run(model, inputs), run(half, inputs)
    assert found.dtype == np.float32
    assert 40 < sqnr_db(expected, found) < 90
    save(half, str(tmp_path / "half.onnx"))
    onnx.checker.check_model(str(tmp_path / "half.onnx"), full_check=True)


def test_the_way_between_two_wide_nodes_is_wide(tmp_path):
    half, _ = to_float16(
        loud(tmp_path / "m.onnx", 1e6), [random_inputs(loud(tmp_path / "n", 1e6))], 1
    )
    makers = {name: node for node in half.graph.node for name in node.output}
    (between,) = [node for node in half.graph.node if node.name == "between"]
    assert makers[between.input[0]].name == "raise"


def test_a_large_weight_stays_in_float32(tmp_path):
    model = onnx.load(quant_graphs.classifier(tmp_path / "m.onnx"))
    weights = {t.name: t for t in model.graph.initializer}
    weights["w1"].CopyFrom(
        numpy_helper.from_array(numpy_helper.to_array(weights["w1"]) * np.float32(1e6), "w1")
    )
    onnx.save(model, tmp_path / "m.onnx")
    model = load_inferred(str(tmp_path / "m.onnx"))
    inputs = random_inputs(model)
    half, kept = to_float16(model, [inputs], 1)
    assert kept == ("logits",)
    assert sqnr_db(run(model, inputs)[0], run(half, inputs)[0]) > 40


@pytest.mark.parametrize("read", ["x", "w1", "a"])
def test_the_bodies_of_if_stay_in_float32(tmp_path, read):
    """Detectors suppress boxes there by operators that exist in float32 only."""
    body = helper.make_graph(
        [
            helper.make_node("ReduceMean", [read], ["mean"], "mean"),
            helper.make_node("Add", ["a", "mean"], ["more"], "more"),
            helper.make_node("CumSum", ["more", "axis"], ["sums"], "sums"),
        ],
        "body",
        [],
        [helper.make_tensor_value_info("sums", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], "c1"),
        helper.make_node("ReduceSum", ["a"], ["sum"], "sum", keepdims=0),
        helper.make_node("IsNaN", ["sum"], ["odd"], "odd"),
        helper.make_node("If", ["odd"], ["chosen"], "if", then_branch=body, else_branch=body),
        helper.make_node("Conv", ["chosen", "w2"], ["y"], "c2"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 8, 8])],
        [
            quant_graphs.weights("w1", 8, 3, 1, 1),
            quant_graphs.weights("w2", 4, 8, 1, 1),
            numpy_helper.from_array(np.int64(1), "axis"),
        ],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), tmp_path / "m.onnx")
    model = load_inferred(str(tmp_path / "m.onnx"))
    inputs = random_inputs(model)
    half, _ = to_float16(model, [inputs], 1)
    assert 40 < sqnr_db(run(model, inputs)[0], run(half, inputs)[0]) < 90
    types = {t.name: t.data_type for t in half.graph.initializer}
    assert types["w2"] == TensorProto.FLOAT16


@pytest.mark.parametrize("factor", [1.0, 1e6])
def test_names_that_the_converter_gives_may_be_in_use(tmp_path, factor):
    """A file brought back to float32 has the nodes that its converter to float16 added."""
    model = loud(tmp_path / "m.onnx", factor)
    inputs = random_inputs(model)
    first, last = model.graph.node[0], model.graph.node[-1]
    names = {
        first.output[0]: "graph_input_cast_0",
        "r2": "graph_output_cast_0",
        "loud": "still_cast_to_fp16",
    }
    for node in model.graph.node:
        for ends in (node.input, node.output):
            for index, name in enumerate(ends):
                ends[index] = names.get(name, name)
    for value in model.graph.value_info:
        value.name = names.get(value.name, value.name)
    first.name, last.name = "graph_input_cast0", "graph_output_cast0"
    half, kept = to_float16(model, [inputs], 1)
    assert kept == ((), ("raise", "between", "lower"))[factor > 1]
    assert 40 < sqnr_db(run(model, inputs)[0], run(half, inputs)[0]) < 90
    element = {t.name: t.data_type for t in half.graph.initializer}
    weights = [n.input[1] for n in half.graph.node if n.op_type == "Conv"]
    assert {element[name] for name in weights} == {TensorProto.FLOAT16}
