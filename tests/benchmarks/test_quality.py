"""The benchmark's own arithmetic: what it says of others must be right."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.benchmarks.quality.fidelity import verdicts
from tests.benchmarks.quality.goals import goals
from tests.benchmarks.quality.material import spread
from tests.benchmarks.quality.metrics import METRICS, heatmap_overlap, int8_share, sqnr_db
from tests.benchmarks.quality.tables import optimized_note
from tests.benchmarks.rows import Row, aligned, cells, markdown


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


def test_a_note_states_what_the_evaluators_own_choice_decides():
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


def scene(better=0.5, mixed=None):
    return {
        "rows": [],
        "better": {
            "sqnr_db": {"holds": better >= 0, "margin": better},
            "agreement": {"holds": True, "margin": 0.0},
        },
        "mixed": mixed or {"holds": True, "evaluations": 4, "bound": 21},
    }


def cost(entropy_s):
    rows = [("ONNX Runtime", "Entropy", 60.0), ("quantd", "entropy", 80.0)]
    return {
        "pass": {"frames": 128, "seconds": 2.0, "plain_s": 1.0},
        "pass_beside": {"frames": 16},
        "calibrators": {"entropy_s": entropy_s, "four_over_one": 1.04},
        "peak_rss_mb": {"32": 300, "128": 400, "512": 310},
        "growth": 0.03,
        "whole": [{"tool": t, "calibrator": c, "ratio": r} for t, c, r in rows],
    }


def test_goals_are_compared_with_the_results():
    """The thresholds belong to an entropy calibration as much as the pass."""
    refused = {"holds": False, "reason": "it misses the limit; single layers cost most at a"}
    missing = {"holds": False, "costliest": [{"layer": "a"}], "evaluations": 22, "bound": 21}
    fidelity = {"a": scene(), "b": scene(-0.1, refused), "c": scene(mixed=missing)}
    found = goals({"fidelity": fidelity, "cost": cost(entropy_s=1.5)})
    assert [row.met for row in found] == [False, True, True, True, False, True, False]
    assert found[0].found == "3.50; whole quantization with 16: ONNX Runtime 60, quantd 80"
    assert found[1].found == "400 MB"
    assert found[4].found == "2 of 3, smallest margin -0.1 dB, +0.000"
    assert found[5].found == "1 of 3; the layers are named in the other 2"
    assert found[6].found == "4 to 22, in the 2 searches that found a graph"


def test_a_benchmark_that_did_not_run_meets_no_goal():
    alone = {**scene(), "better": {}}
    better, *_ = goals({"fidelity": {"a": alone, "failed": {"failed": "why"}}})
    assert (better.met, better.found) == (None, "no peer ran")
    better, *_ = goals({"fidelity": {"a": scene(), "b": alone, "failed": {"failed": "why"}}})
    assert (better.met, better.goal) == (None, "as good or better in all 3")
    assert [row.met for row in goals({"fidelity": {}, "representative": {"a": {"told": {}}}})] == [
        None
    ]
    assert goals({"fidelity": {}}) == []


def test_a_table_is_read_by_people_and_by_a_readme():
    rows = cells([Row(what="w", goal="at most 3", found="2", met=True)])
    assert markdown(rows).splitlines()[1:] == [
        "| --- | --- | --- | --- |",
        "| w | at most 3 | 2 | yes |",
    ]
    assert aligned(rows).splitlines() == [
        "what  goal       found  met",
        "w     at most 3  2      yes",
    ]
