"""Scales and shifts taken into convolutions: the same numbers from fewer operators."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from agent.graphs.affine import fold_scales_and_shifts
from agent.graphs.qdq import load_inferred
from tests.support import quant_graphs
from tests.support.onnx_runs import random_inputs, run


def test_every_kind_is_taken_in_and_the_outputs_stay(tmp_path):
    model = load_inferred(quant_graphs.affine(tmp_path / "m.onnx"))
    inputs = random_inputs(model)
    made, gone = fold_scales_and_shifts(model)
    assert gone == 6
    assert [node.op_type for node in made.graph.node] == ["Conv", "ConvTranspose"]
    np.testing.assert_allclose(run(made, inputs)[0], run(model, inputs)[0], rtol=1e-4, atol=1e-5)
    onnx.checker.check_model(made, full_check=True)
    assert len(made.graph.initializer) == 4  # two weights, two biases: nothing is left behind


@pytest.mark.parametrize(
    "tamper",
    [
        lambda g: g.output.append(helper.make_tensor_value_info("c0", 1, [1, 4, 5, 5])),
        lambda g: g.node.insert(1, helper.make_node("Relu", ["c0"], ["r"], "other")),
        lambda g: g.node[1].input.__setitem__(0, "c0"),  # squared
    ],
    ids=["an output", "two readers", "twice the same"],
)
def test_what_others_see_is_left_alone(tmp_path, tamper):
    model = onnx.load(quant_graphs.affine(tmp_path / "m.onnx"))
    tamper(model.graph)
    inputs = random_inputs(model)
    made, _ = fold_scales_and_shifts(model)
    assert made.graph.node[0].op_type == "Conv"
    assert made.graph.node[0].output[0] == "c0"
    for expected, found in zip(run(model, inputs), run(made, inputs), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_shared_weights_are_not_changed_for_others(tmp_path):
    model = onnx.load(quant_graphs.affine(tmp_path / "m.onnx"))
    model.graph.node.append(helper.make_node("Conv", ["x", "w0"], ["z"], "twin"))
    model.graph.output.append(helper.make_tensor_value_info("z", 1, [1, 4, 5, 5]))
    inputs = random_inputs(model)
    for expected, found in zip(
        run(model, inputs), run(fold_scales_and_shifts(model)[0], inputs), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
