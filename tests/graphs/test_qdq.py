"""Where Q/DQ goes, and that what is left in float is left in float by the runtime too."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from agent.adapters.graphs.quantizer import OnnxQuantizer
from agent.core.errors import QuantizeError
from agent.core.quantization.calibrators import range_of
from agent.core.quantization.mixed_search import Placement
from agent.graphs.qdq import load_inferred, quantized_tensors, save, with_qdq
from agent.graphs.regions import float_nodes, layers_by_tensor
from tests.support import quant_graphs
from tests.support.onnx_runs import random_inputs, run, sqnr_db
from tests.support.trials import flat, trial_of


def ranges_of(path, scheme):
    model = load_inferred(path)
    inputs = [random_inputs(model, seed) for seed in range(4)]
    histograms = OnnxQuantizer(1).collect(path, inputs, 4, lambda *_: None)
    return model, {h.name: range_of(h, "minmax", scheme == "S8S8") for h in histograms}


@pytest.mark.parametrize("scheme", ["U8S8", "S8S8"])
@pytest.mark.parametrize("kept", [{"depthwise"}, {"expand"}, {"project", "head"}])
def test_layers_in_float_are_not_rounded_by_the_runtime(tmp_path, scheme, kept):
    path = quant_graphs.inverted(tmp_path / "m.onnx", spread=2)
    model, ranges = ranges_of(path, scheme)
    held = layers_by_tensor(model.graph, scheme, ranges)
    mixed = with_qdq(model, scheme, ranges, float_nodes(model.graph, scheme, held, kept))
    inputs = random_inputs(model, seed=9)
    written, optimized = run(mixed, inputs, plain=True)[0], run(mixed, inputs)[0]
    assert sqnr_db(written, optimized) > 40  # one step of an integer here and there
    (reference,) = run(model, inputs)
    assert not np.array_equal(reference, written)


BETWEEN = {
    "AveragePool": {"kernel_shape": [1, 1]},
    "Clip": {},
    "GlobalAveragePool": {},
    "HardSwish": {},
    "LeakyRelu": {},
    "MaxPool": {"kernel_shape": [1, 1]},
    "Relu": {},
    "Resize": {},
    "Reshape": {},
    "Sigmoid": {},
    "Slice": {},
    "Softmax": {"axis": 1},
    "Transpose": {"perm": [0, 1, 3, 2]},
}
CONSTANTS = {
    "Clip": (np.float32(0), np.float32(6)),
    "Reshape": (np.array([0, 4, -1, 1]),),
    "Resize": (np.float32([]), np.float32([1, 1, 2, 2])),
    "Slice": (np.array([0]), np.array([1]), np.array([0])),
}


def between(*operators: str) -> onnx.ModelProto:
    """Return two convolutions with some operators in a row between them."""
    nodes = [helper.make_node("Conv", ["x", "w0"], ["t0"], "before")]
    constants = [quant_graphs.weights("w0", 4, 4, 1, 1), quant_graphs.weights("w1", 4, 4, 1, 1)]
    for place, operator in enumerate(operators):
        values = CONSTANTS.get(operator, ())
        names = [f"k{place}{index}" for index in range(len(values))]
        constants += [
            numpy_helper.from_array(np.asarray(value), name)
            for name, value in zip(names, values, strict=True)
        ]
        inputs, outputs = [f"t{place}", *names], [f"t{place + 1}"]
        name = f"{operator}{place}"
        nodes.append(helper.make_node(operator, inputs, outputs, name, **BETWEEN[operator]))
    nodes.append(helper.make_node("Conv", [f"t{len(operators)}", "w1"], ["y"], "after"))
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", 1, [1, 4, 8, 8])],
        [helper.make_tensor_value_info("y", 1, None)], constants,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)


@pytest.mark.parametrize("scheme", ["U8S8", "S8S8"])
@pytest.mark.parametrize("first", BETWEEN)
def test_whatever_lies_between_layers_the_ranges_asked_for_are_enough(scheme, first):
    for second in BETWEEN:
        model = between(first, second)
        ranges = dict.fromkeys(quantized_tensors(model, scheme), (-1.0, 1.0))
        assert run(with_qdq(model, scheme, ranges), random_inputs(model))[0].size


@pytest.mark.parametrize("scheme", ["U8S8", "S8S8"])
@pytest.mark.parametrize("first", ["AveragePool", "MaxPool", "Relu", "Resize", "Sigmoid"])
@pytest.mark.parametrize("second", ["Reshape", "Transpose", "Slice", "AveragePool"])
def test_a_tensor_without_a_range_takes_out_what_hangs_on_it(tmp_path, scheme, first, second):
    path = str(tmp_path / "m.onnx")
    save(between("Relu", first, second), path)
    wanted = quantized_tensors(load_inferred(path), scheme)
    for lost in wanted:
        known = [flat(name) for name in wanted if name != lost]
        placed = trial_of(path, scheme, known, []).placed(Placement(calibrator="minmax"))
        assert run(placed, random_inputs(load_inferred(path)))[0].size


def test_a_graph_that_the_quantizer_refuses_is_an_error_of_ours():
    with pytest.raises(QuantizeError, match="t0") as caught:
        with_qdq(between("Sigmoid"), "U8S8", {"x": (-1.0, 1.0)})
    assert caught.value.code == "not_placed"


@pytest.mark.parametrize("scheme", ["U8S8", "S8S8"])
def test_every_subset_of_layers_can_be_left_out(tmp_path, scheme):
    path = quant_graphs.detector(tmp_path / "m.onnx")
    model, ranges = ranges_of(path, scheme)
    held = layers_by_tensor(model.graph, scheme, ranges)
    layers = ["stem", "block", "up", "head"]
    inputs = random_inputs(model)
    (reference,) = run(model, inputs)
    for mask in range(2 ** len(layers) - 1):
        kept = {name for bit, name in enumerate(layers) if mask >> bit & 1}
        placed = with_qdq(model, scheme, ranges, float_nodes(model.graph, scheme, held, kept))
        save(placed, str(tmp_path / "placed.onnx"))
        onnx.checker.check_model(str(tmp_path / "placed.onnx"), full_check=True)
        assert sqnr_db(reference, run(placed, inputs)[0]) > 25
    out = float_nodes(model.graph, scheme, held, layers)
    assert not [n for n in with_qdq(model, scheme, ranges, out).graph.node if "Linear" in n.op_type]
