"""The benchmark's own arithmetic: what it says of others must be right."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.benchmarks.quality.fidelity import verdicts
from tests.benchmarks.quality.goals import goals, is_worse
from tests.benchmarks.quality.material import spread
from tests.benchmarks.quality.metrics import gain, heatmap_overlap, int8_share, judged, sees
from tests.benchmarks.quality.tables import optimized_note, render
from tests.benchmarks.rows import Row, aligned, cells, markdown


def frames(*values):
    return [{"y": np.array(one, np.float32)[None]} for one in values]


def test_sqnr_is_the_ratio_of_powers_in_decibel():
    expected = frames(np.full(4, 10.0), np.zeros(4))
    noisy = judged(expected, frames(np.full(4, 9.0), np.zeros(4)), "top1")
    assert noisy.figures()["sqnr_db"] == pytest.approx(20.0)
    assert judged(expected, expected, "top1").figures()["sqnr_db"] == math.inf
    with pytest.raises(ValueError, match="y is not finite"):
        judged(expected, frames(np.full(4, np.nan), np.zeros(4)), "top1")


def test_sqnr_is_that_of_the_worst_group_of_channels():
    """Scores beside pixels, as a detector's output has them."""
    boxes = np.stack([np.full(9, 300.0), np.full(9, 0.5)], axis=-1)
    wrong = boxes * np.array([1.0, 0.9])
    assert judged(frames(boxes), frames(wrong), "top1").figures()["sqnr_db"] == pytest.approx(20.0)


def test_iou_is_taken_over_all_frames_together():
    expected, seen = frames([1, 1, 0], [1, 0, 0]), frames([1, 0, 0], [1, 1, 0])
    assert judged(expected, seen, "iou").figures()["agreement"] == pytest.approx(2 / 4)
    assert judged(frames([0]), frames([0]), "iou").figures()["agreement"] == 1.0


def test_top1_counts_rows_of_classes():
    expected, seen = frames([[0, 1], [1, 0]]), frames([[0, 1], [0, 1]])
    assert judged(expected, seen, "top1").figures()["agreement"] == pytest.approx(1 / 2)


def test_heatmap_overlap_counts_the_highest_cells_in_common():
    heat = np.arange(1000.0)
    moved = np.roll(heat, 50)  # 50 of the best 200 have wrapped to the start
    assert heatmap_overlap({"h": heat}, {"h": moved}) == pytest.approx(150 / 200)


def test_fp32_sees_a_mask_in_some_frames():
    assert sees(frames([0.9, 0.1], [0.4, 0.1], [0.6, 0.6], [0.7, 0.0]), "iou") == 0.75


def test_a_gain_is_worse_only_beyond_its_interval():
    """One frame that is worse proves nothing; all of them do."""
    noise = np.random.default_rng(0).standard_normal((16, 50))
    expected = frames(*np.full((16, 50), 10.0))
    near = judged(expected, frames(*(10 + 0.1 * noise)), "top1")
    far = judged(expected, frames(*(10 + 0.2 * noise)), "top1")
    uneven = 0.1 * noise * np.where(np.arange(16) % 2, 0.7, 1.25)[:, None]
    mixed = judged(expected, frames(*(10 + uneven)), "top1")
    assert gain(near, far)["sqnr_db"] == pytest.approx(6.02, abs=0.01)
    assert is_worse(gain(far, near))
    assert not is_worse(gain(near, far))
    assert not is_worse(gain(mixed, near))


@pytest.mark.parametrize(("quantized", "share"), [((), 0.0), (("a",), 0.25), (("a", "b"), 1.0)])
def test_a_layer_is_int8_if_data_and_weight_are_dequantized_whatever_its_name(
    tmp_path, quantized, share
):
    clean = _two_layers(tmp_path / "clean.onnx", (), "")
    made = _two_layers(tmp_path / "made.onnx", quantized, "renamed_")
    assert int8_share(made, clean) == pytest.approx(share)


def row(tool, sqnr_db, agreement, share=1.0):
    return {"tool": tool, "sqnr_db": sqnr_db, "agreement": agreement, "int8_share": share}


def test_a_verdict_is_on_the_better_peer_in_each_figure():
    rows = [row("ort", 15.0, 0.9), row("modelopt", 12.0, 0.95), row("quantd", 14.0, 0.94, 0.8)]
    found = verdicts([*rows, row("quantd", 13.0, 0.97)])
    assert found["sqnr_db"] == {"margin": -1.0, "peer": "ort", "share": 0.8}
    assert found["agreement"] == {"margin": 0.02, "peer": "modelopt", "share": 1.0}
    assert verdicts([row("quantd", 14.0, 0.94)]) == {}


def test_there_is_no_verdict_where_int8_is_of_no_use_by_any_tool():
    assert verdicts([row("ort", 9.0, 0.4), row("quantd", 4.0, 0.3)]) == {}


def test_a_note_states_what_the_evaluators_own_choice_decides():
    won, lost = {"sqnr_db": {"margin": 1.0}}, {"sqnr_db": {"margin": -1.0}}
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


def costed(name, cpu_s, wall_s):
    cost = {"pass_cpu_s": 0.5, "fast_cpu_s": cpu_s, "fast_wall_s": wall_s, "full_cpu_s": cpu_s + 20}
    peer = {"tool": "Model Optimizer", "calibrator": "max", "failed": "not run"}
    return {
        f"{name}, street": {
            "metric": "IoU at 0.5",
            "rows": [{**peer, "wall_s": s, "seconds": s - 5} for s in (15.0, 12.0)],
            "better": verdicts([row("ort", 15.0, 0.9), row("quantd", 14.0, 0.95)]),
            "better_optimized": {},
            "cost": {**cost, "front_cpu_s": 31.0, "jobs": [{"kind": "condition", "cpu_s": 9.0}]},
        }
    }


def test_costs_are_compared_with_the_goals():
    fidelity = costed("centerface", 12.0, 8.0) | costed("selfie", 18.5, 13.0)
    centerface, others, wall, refit, front, better = goals({"fidelity": fidelity})
    assert (centerface.met, centerface.found) == (True, "24.0")
    assert (others.met, others.found) == (False, "selfie 37 (18.5 s)")  # over 15 s and 3 s
    assert (wall.met, wall.found[:9]) == (True, "1 of 2, 0")
    assert (refit.met, front.met) == (True, False)
    assert better.met is False
    assert better.found.startswith("0 of 2; centerface, street -1.0 dB, +0.050")


def promised(agreement, *, sees=1.0, gain_db=2.0, span=(1.0, 3.0), ratio=(1.1, 1.2)):
    gain = {"sqnr_db": gain_db, "sqnr_db_ci95": span, "agreement": 0.0, "agreement_ci95": None}
    latency = {"p50_ms": {"earlier": 3.0, "a": 2.5, "b": 2.0}, "earlier_over": {"b": ratio}}
    refused = {"int8-mixed": {"failed": "int8-mixed is not offered: with 20 %"}}
    return {
        "sees": sees,
        "int8": {"int8-minmax": row("", 14.0, 0.9)},
        "int8_earlier": {},
        "mixed": refused
        if agreement is None
        else {"a": row("", 9.0, 0.2), "b": row("", 30.0, agreement)},
        "mixed_earlier": {},
        "gain": gain,
        "latency": latency,
    }


def test_promises_are_compared_with_the_goals():
    """A pair in which FP32 sees nothing counts for the gain, and not for int8-mixed."""
    found = {
        "a": promised(0.96),
        "b": promised(0.94, gain_db=0.5, span=(-0.5, 1.0), ratio=(0.9, 1.1)),
        "c": promised(None, gain_db=3.0, ratio=(0.7, 0.8)),
        "d": promised(0.5, sees=0.2),
    }
    gains, accepted, kept, latency = goals({"promises": found, "revision": "abc"})
    assert (gains.met, gains.found) == (True, "median +2.0 dB over 4 pairs; worse: none")
    assert (accepted.met, accepted.found) == (False, "2 of 3")
    assert (kept.met, kept.found) == (False, "1 of 2; b 0.940")
    assert (latency.met, latency.found) == (False, "faster in 2 of 4; slower: c")
    worse = promised(0.96, gain_db=-2.0, span=(-3.0, -1.0))
    gains, *_ = goals({"promises": {**found, "e": worse}, "revision": "abc"})
    assert (gains.met, gains.found[-8:]) == (False, "worse: e")


def test_a_benchmark_that_did_not_run_meets_no_goal():
    alone = {"rows": [], "better": {}}
    (better,) = goals({"fidelity": {"a": alone, "failed": {"failed": "why"}}})
    assert (better.met, better.found) == (None, "no peer ran")
    assert [one.met for one in goals({"representative": {"a": {"told": {}}}})] == [None]
    assert goals({"fidelity": {}}) == []


def test_memory_is_compared_above_that_of_inference_alone():
    memory = {"runtime_mb": 150.0, "peak_rss_mb": {"128": 400.0, "512": 420.0}}
    peak, growth = goals({"memory": memory})
    assert (peak.met, peak.found) == (True, "250 MB (400 of which 150)")
    assert (growth.met, growth.found) == (False, "+5.0%")
    peak, growth = goals({"memory": {**memory, "peak_rss_mb": {"128": 400.0}}})
    assert growth.met is None


def test_everything_that_a_run_writes_is_printed():
    result = {"fidelity": costed("centerface", 12.0, 8.0), "promises": {"a": promised(0.96)}}
    text = render({**result, "agent": "abc", "revision": "def", "missing": ["x"]}, marked=True)
    assert "| centerface, street | 0.50 | 12.00 | 32.00 | 31.00 | condition 9.0 |" in text
    assert "| a | 1.00 | 14.0 dB 0.900 100% |" in text
    assert "earlier 3.00, a 2.50, b 2.00" in text
    assert text.endswith("not measured: x\n")


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
