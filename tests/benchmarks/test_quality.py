"""The benchmark's own arithmetic: what it says of others must be right."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.benchmarks.quality.fidelity import verdicts
from tests.benchmarks.quality.material import spread
from tests.benchmarks.quality.metrics import METRICS, heatmap_overlap, int8_share, sqnr_db
from tests.benchmarks.quality.tables import optimized_note


def test_sqnr_is_the_ratio_of_powers_in_decibel():
    expected = [{"y": np.full(4, 10.0, np.float32)}, {"y": np.zeros(4, np.float32)}]
    seen = [{"y": np.full(4, 9.0, np.float32)}, {"y": np.zeros(4, np.float32)}]
    assert sqnr_db(expected, seen) == {"y": pytest.approx(20.0)}
    assert sqnr_db(expected, expected) == {"y": math.inf}
    assert sqnr_db(expected, [{"y": np.full(4, np.nan)}] * 2) == {"y": -math.inf}


def test_iou_is_taken_over_all_frames_together():
    expected = [{"y": np.array([1.0, 1.0, 0.0])}, {"y": np.array([1.0, 0.0, 0.0])}]
    seen = [{"y": np.array([1.0, 0.0, 0.0])}, {"y": np.array([1.0, 1.0, 0.0])}]
    assert METRICS["iou"](expected, seen) == pytest.approx(2 / 4)


def test_heatmap_overlap_counts_the_highest_cells_in_common():
    heat = np.arange(1000.0)
    moved = np.roll(heat, 50)  # 50 of the best 200 have wrapped to the start
    assert heatmap_overlap({"h": heat}, {"h": moved}) == pytest.approx(150 / 200)


@pytest.mark.parametrize(("quantized", "share"), [((), 0.0), (("a",), 0.25), (("a", "b"), 1.0)])
def test_a_layer_is_int8_if_data_and_weight_are_dequantized_whatever_its_name(
    tmp_path, quantized, share
):
    clean = _two_layers(tmp_path / "clean.onnx", (), "")
    made = _two_layers(tmp_path / "made.onnx", quantized, "renamed_")
    assert int8_share(made, clean) == pytest.approx(share)


def test_a_verdict_needs_no_smaller_share_of_int8():
    peer = {"tool": "ONNX Runtime", "sqnr_db": 10.0, "agreement": 0.9, "int8_share": 1.0}
    mixed = {"tool": "quantd", "sqnr_db": 30.0, "agreement": 0.99, "int8_share": 0.5}
    whole = {"tool": "quantd", "sqnr_db": 9.0, "agreement": 0.95, "int8_share": 1.0}
    found = verdicts([peer, mixed, whole])
    assert found["sqnr_db"] == {"holds": False, "margin": -1.0}
    assert found["agreement"] == {"holds": True, "margin": pytest.approx(0.05)}
    assert verdicts([mixed, whole]) == {}


def test_a_note_tells_what_the_evaluators_own_choice_decides():
    won, lost = {"sqnr_db": {"holds": True}}, {"sqnr_db": {"holds": False}}
    found = [
        {"better": won, "better_optimized": won},
        {"better": won, "better_optimized": lost},
        {"better": {}, "better_optimized": {}},  # no peer, no verdict
    ]
    (note,) = optimized_note(found)
    assert "in 2 of 2 as" in note
    assert "in 1 after" in note


def test_frames_are_spread_over_all_there_are():
    assert spread(250, 3) == [0, 124, 249]


def _two_layers(path, quantized, prefix):
    """Write a graph of two MatMuls, of 64 and 192 multiply-accumulates, some of them in INT8."""
    weights = {"a": np.ones((8, 8), np.float32), "b": np.ones((8, 24), np.float32)}
    nodes, constants = [], [numpy_helper.from_array(np.float32(1.0), "one")]
    data = "x"
    for name, weight in weights.items():
        reads = [data, name]
        constants.append(numpy_helper.from_array(weight, name))
        if name in quantized:
            for index, tensor in enumerate(reads):
                made = f"{name}_{index}"
                nodes.append(helper.make_node("QuantizeLinear", [tensor, "one"], [f"{made}_q"]))
                nodes.append(helper.make_node("DequantizeLinear", [f"{made}_q", "one"], [made]))
                reads[index] = made
            nodes.append(helper.make_node("Transpose", [reads[1]], [f"{name}_t"], perm=[0, 1]))
            reads[1] = f"{name}_t"
        data = f"{name}_out"
        nodes.append(helper.make_node("MatMul", reads, [data], name=prefix + name))
    graph = helper.make_graph(
        nodes,
        "two",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8])],
        [helper.make_tensor_value_info(data, TensorProto.FLOAT, [1, 24])],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return str(path)
