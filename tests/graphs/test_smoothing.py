"""Channels evened in front of layers, where no layer behind can do it."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from agent.adapters.graphs.conditioner import OnnxConditioner
from agent.adapters.graphs.quantizer import OnnxQuantizer
from agent.core.quantization.calibrators import range_of
from agent.graphs.qdq import load_inferred, with_qdq
from agent.graphs.smoothing import pointwise_tensors, smoothable
from tests.support import quant_graphs
from tests.support.onnx_runs import random_inputs, run, sqnr_db


def swish(path, spread=6.0):
    """Save the inverted block with hard-swishes instead of its Relus."""
    model = onnx.load(quant_graphs.inverted(path, spread))
    for index, node in enumerate(list(model.graph.node)):
        if node.op_type == "Relu":
            made = helper.make_node("HardSwish", node.input, node.output, node.name)
            model.graph.node[index].CopyFrom(made)
    onnx.save(model, path)
    return str(path)


def test_only_behind_what_works_value_by_value(tmp_path):
    behind = smoothable(load_inferred(swish(tmp_path / "m.onnx")))
    assert {name: [n.name for n in nodes] for name, nodes in behind.items()} == {
        "r1": ["depthwise"], "r2": ["project"],
    }  # fmt: skip
    assert not smoothable(load_inferred(quant_graphs.inverted(tmp_path / "n.onnx")))


def test_a_sum_of_branches_is_none_of_them(tmp_path):
    assert pointwise_tensors(onnx.load(quant_graphs.affine(tmp_path / "m.onnx")).graph) == {
        "m", "s", "n", "d", "y",
    }  # fmt: skip
    assert not pointwise_tensors(onnx.load(quant_graphs.detector(tmp_path / "n.onnx")).graph) - {
        "y"
    }


def test_the_float_graph_computes_the_same(tmp_path):
    path, target = swish(tmp_path / "m.onnx"), str(tmp_path / "out.onnx")
    model = load_inferred(path)
    assert OnnxConditioner(1).apply("smoothing", path, [random_inputs(model)], target) == 2
    made = load_inferred(target)
    onnx.checker.check_model(made, full_check=True)
    for seed in range(3):
        inputs = random_inputs(model, seed)
        np.testing.assert_allclose(
            run(made, inputs)[0], run(model, inputs)[0], rtol=1e-4, atol=1e-5
        )


def test_int8_is_nearer_to_float(tmp_path):
    path, target = swish(tmp_path / "m.onnx"), str(tmp_path / "out.onnx")
    inputs = random_inputs(load_inferred(path))
    OnnxConditioner(1).apply("smoothing", path, [inputs], target)
    (reference,) = run(load_inferred(path), inputs)

    def left(model):
        found = OnnxQuantizer(1, "S8S8").collect(model, [inputs], 1, lambda *_: None)
        ranges = {h.name: range_of(h, "mse", symmetric=True) for h in found}
        return sqnr_db(reference, run(with_qdq(load_inferred(model), "S8S8", ranges), inputs)[0])

    assert left(target) > left(path) + 1
