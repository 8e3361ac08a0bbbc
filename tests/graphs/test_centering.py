"""Activations moved to the middle: the same numbers in float, finer steps in symmetric INT8."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from agent.adapters.graphs.quantizer import OnnxQuantizer
from agent.core.quantization.calibrators import range_of
from agent.graphs.centering import centerable, centered
from agent.graphs.qdq import load_inferred, with_qdq
from tests.support import quant_graphs
from tests.support.onnx_runs import random_inputs, run, sqnr_db

CENTER = 0.7


@pytest.fixture
def block(tmp_path):
    return load_inferred(quant_graphs.inverted(tmp_path / "m.onnx", spread=0))


def with_activation(path, operator, bounds=()):
    """Save the inverted block with another operator behind the depthwise convolution."""
    model = onnx.load(quant_graphs.inverted(path, spread=0))
    (index,) = [i for i, n in enumerate(model.graph.node) if n.name == "depthwise_relu"]
    names = ["low" if i == 0 else "high" for i in range(len(bounds))]
    names = [name if bound is not None else "" for name, bound in zip(names, bounds, strict=True)]
    for name, bound in zip(names, bounds, strict=True):
        if name:
            model.graph.initializer.append(numpy_helper.from_array(np.float32(bound), name))
    node = helper.make_node(operator, ["c2", *names], ["r2"], "depthwise_relu")
    model.graph.node[index].CopyFrom(node)
    onnx.save(model, path)
    return load_inferred(str(path))


def assert_same_in_float(model, made):
    for seed in range(3):
        inputs = {name: 2 * value for name, value in random_inputs(model, seed).items()}
        for expected, found in zip(run(model, inputs), run(made, inputs), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_only_in_front_of_layers_that_add_no_zeros(block):
    assert [place.name for place in centerable(block)] == ["r2"]  # r1 is read with padding


def test_the_layer_before_takes_the_middle(block):
    made = centered(block, {"r2": CENTER})
    assert [n.op_type for n in made.graph.node].count("Relu") == 1
    assert len(made.graph.node) == len(block.graph.node)
    onnx.checker.check_model(made)
    assert_same_in_float(block, made)


@pytest.mark.parametrize(
    ("operator", "bounds"),
    [("Clip", (0, 1)), ("Clip", (None, 0.5)), ("Clip", (0.1, None)), ("Sigmoid", ()), ("Tanh", ())],
)
def test_whatever_lies_before(tmp_path, operator, bounds):
    model = with_activation(tmp_path / "m.onnx", operator, bounds)
    made = centered(model, {"r2": CENTER})
    onnx.checker.check_model(made)
    assert_same_in_float(model, made)
    clips = operator == "Clip"
    assert [n.op_type for n in made.graph.node].count("Sub") == (0 if clips else 1)


def test_nothing_is_moved_that_others_read(tmp_path):
    """A Relu whose output is added to something, or is an output, stays what it is."""
    model = load_inferred(quant_graphs.detector(tmp_path / "m.onnx"))
    assert not [place for place in centerable(model) if place.clip]
    whole = onnx.load(quant_graphs.inverted(tmp_path / "n.onnx"))
    whole.graph.output.append(helper.make_tensor_value_info("r2", 1, [1, 24, 16, 16]))
    assert not centerable(onnx.shape_inference.infer_shapes(whole))


def test_bounds_of_one_value_are_bounds(tmp_path):
    model = with_activation(tmp_path / "m.onnx", "Clip", (0, 1))
    for tensor in model.graph.initializer:
        if tensor.name in {"low", "high"}:
            tensor.CopyFrom(
                numpy_helper.from_array(numpy_helper.to_array(tensor).reshape(1), tensor.name)
            )
    assert_same_in_float(model, centered(model, {"r2": CENTER}))


def test_nothing_is_moved_where_bodies_may_read_it(block):
    body = helper.make_graph(
        [helper.make_node("Identity", ["r2"], ["inner"], "inside")],
        "body", [], [helper.make_tensor_value_info("inner", 1, None)],
    )  # fmt: skip
    block.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    block.graph.node.append(
        helper.make_node("If", ["yes"], ["z"], "if", then_branch=body, else_branch=body)
    )
    assert not centerable(block)


def test_symmetric_int8_is_nearer(block, tmp_path):
    inputs = random_inputs(block)
    (reference,) = run(block, inputs)

    def left(model):
        """Return what is left with the moved tensor alone in INT8."""
        onnx.save(model, tmp_path / "q.onnx")
        found = OnnxQuantizer(1, "S8S8").collect(str(tmp_path / "q.onnx"), [inputs], 1, print)
        ranges = {h.name: range_of(h, "mse", symmetric=True) for h in found}
        layers = [n.name for n in model.graph.node if n.op_type == "Conv" and n.name != "project"]
        placed = with_qdq(load_inferred(str(tmp_path / "q.onnx")), "S8S8", ranges, layers)
        return sqnr_db(reference, run(placed, inputs)[0])

    maximum = run_to(block, "r2", inputs).max()
    assert left(centered(block, {"r2": float(maximum) / 2})) > left(block) + 2


def run_to(model, tensor, inputs):
    trial = onnx.ModelProto()
    trial.CopyFrom(model)
    trial.graph.output.append(helper.make_tensor_value_info(tensor, 1, None))
    return run(trial, inputs)[-1]
