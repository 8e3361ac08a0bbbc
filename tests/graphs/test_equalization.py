"""Channels of one size: float computes the same, and INT8 is nearer to it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from agent.adapters.graphs.quantizer import OnnxQuantizer
from agent.core.quantization.calibrators import range_of
from agent.graphs.channels import channel_maxima
from agent.graphs.equalization import equalizable_regions, equalized, tensors_to_equalize
from agent.graphs.qdq import load_inferred, with_qdq
from tests.support import quant_graphs
from tests.support.onnx_runs import random_inputs, run, sqnr_db


@pytest.fixture
def block(tmp_path):
    return load_inferred(quant_graphs.inverted(tmp_path / "m.onnx"))


def evened(model, inputs):
    return equalized(model, channel_maxima(model, tensors_to_equalize(model), [inputs], 1))


def test_the_float_graph_computes_the_same(block):
    inputs = random_inputs(block)
    made, changed = evened(block, inputs)
    assert len(list(equalizable_regions(block))) == 3  # the two inside, and the residual stream
    assert changed == 3
    assert made.graph.initializer != block.graph.initializer
    for seed in range(3):
        unseen = random_inputs(block, seed)
        for expected, found in zip(
            run(block, unseen, plain=True), run(made, unseen, plain=True), strict=True
        ):
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def in_int8(model, inputs, scheme, path):
    onnx.save(model, path)
    histograms = OnnxQuantizer(1).collect(str(path), [inputs], 1, lambda *_: None)
    return with_qdq(
        model, scheme, {h.name: range_of(h, "mse", scheme == "S8S8") for h in histograms}
    )


@pytest.mark.parametrize("scheme", ["S8S8", "U8S8"])
def test_int8_is_nearer_to_float(tmp_path, block, scheme):
    inputs = random_inputs(block)
    made, _ = evened(block, inputs)
    (reference,) = run(block, inputs)
    before, after = (
        sqnr_db(reference, run(in_int8(model, inputs, scheme, tmp_path / "q.onnx"), inputs)[0])
        for model in (block, made)
    )
    assert after > before + 3


@given(spread=st.floats(0, 16))
def test_weights_stay_finite_whatever_the_spread(tmp_path_factory, spread):
    path = tmp_path_factory.mktemp("spread") / "m.onnx"
    model = load_inferred(quant_graphs.inverted(path, spread))
    made, _ = evened(model, random_inputs(model))
    for tensor in made.graph.initializer:
        assert np.isfinite(onnx.numpy_helper.to_array(tensor)).all()


def test_a_dead_channel_is_left_alone(block):
    weights = {t.name: t for t in block.graph.initializer}
    for name in ("w1", "b1"):
        values = onnx.numpy_helper.to_array(weights[name]).copy()
        values[0] = -abs(values[0])  # never above zero for positive inputs
        weights[name].CopyFrom(onnx.numpy_helper.from_array(values, name))
    inputs = {name: np.abs(value) for name, value in random_inputs(block).items()}
    made, _ = evened(block, inputs)
    for expected, found in zip(run(block, inputs), run(made, inputs), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("operator", "settings"),
    [("Sigmoid", {}), ("HardSwish", {}), ("Clip", {}), ("Softmax", {"axis": 1})],
)
def test_no_passage_leads_through_what_is_not_homogeneous(tmp_path, operator, settings):
    model = onnx.load(quant_graphs.inverted(tmp_path / "m.onnx"))
    before = len(list(equalizable_regions(onnx.shape_inference.infer_shapes(model))))
    index = next(i for i, n in enumerate(model.graph.node) if n.name == "expand_relu")
    inputs = ["c1", "low", "high"] if operator == "Clip" else ["c1"]
    if operator == "Clip":
        for name, value in (("low", 0.0), ("high", 6.0)):
            model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(value), name))
    node = helper.make_node(operator, inputs, ["r1"], "expand_relu", **settings)
    model.graph.node[index].CopyFrom(node)
    after = len(list(equalizable_regions(onnx.shape_inference.infer_shapes(model))))
    assert after == before - 1


def test_inputs_and_outputs_of_the_model_keep_their_scale(tmp_path):
    model = onnx.load(quant_graphs.inverted(tmp_path / "m.onnx"))
    model.graph.output.append(helper.make_tensor_value_info("r1", 1, [1, 24, 16, 16]))
    model = onnx.shape_inference.infer_shapes(model)
    inputs = random_inputs(model)
    made, changed = evened(model, inputs)
    assert changed == 2
    for expected, found in zip(
        run(model, inputs, plain=True), run(made, inputs, plain=True), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
