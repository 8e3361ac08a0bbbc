"""What comes first: the order of candidates, four figures, what to be careful about."""

from __future__ import annotations

import json
from dataclasses import replace

from agent.core.report.cautions import cautions, input_origins
from agent.core.report.overview import display_order, key_figures, occasion
from agent.run.report import encode
from tests.support.candidates import at_rate, candidate, evaluation, measurement
from tests.support.reports import report_of

FP32 = candidate("fp32", measurement(10.0), evaluation(None, agreement=1.0, memory_mb=155.0))
INT8 = candidate("int8-mse", measurement(5.0, p99=7.0), evaluation(31.0, agreement=0.97))
SLOW = candidate("int8-minmax", measurement(20.0), evaluation(31.0, agreement=0.97))
FP16 = candidate("fp16", failure="no kernels")


def document(*candidates, limits=None):
    return json.loads(encode(report_of(candidates, limits=limits)))


def test_the_chosen_one_is_first_then_its_baseline_and_what_was_not_measured_is_last():
    found = display_order(document(FP16, SLOW, FP32, INT8))
    assert [one["id"] for one in found] == ["int8-mse", "fp32", "int8-minmax", "fp16"]
    nothing = display_order(document(FP16, FP32, limits={"latency_p99_ms": 1.0}))
    assert [one["id"] for one in nothing] == ["fp32", "fp16"]


def test_four_figures_stand_beside_those_of_fp32():
    latency, fidelity, memory, energy = key_figures(document(FP32, INT8))
    assert (latency.value, latency.name) == ("5 ms", "median, FP32 10 ms")
    assert "p99 7 ms · 200 FPS" in latency.detail
    assert latency.good
    assert (fidelity.value, fidelity.name) == ("97 %", "agreement with FP32")
    assert not fidelity.good  # nothing is asked of it
    assert (memory.value, memory.name) == ("100 MB", "memory, FP32 155 MB")
    assert (energy.value, energy.good) == ("– W", False)
    assert "no power sensor" in energy.detail


def test_a_figure_within_the_noise_is_not_good():
    close = candidate("int8-mse", measurement(9.95, noise=0.05), evaluation(31.0, agreement=0.97))
    report = document(FP32, close, limits={"agreement": 0.95})
    report["choice"]["candidate"] = "int8-mse"
    assert not key_figures(report)[0].good
    assert key_figures(report)[1].good
    report["candidates"][1]["fidelity"]["agreement_ci95"] = [0.9, 1.0]
    assert not key_figures(report)[1].good


def test_energy_is_that_of_the_applications_frame_rate():
    paced = replace(measurement(5.0, power_w=3.0), at_rate=at_rate(30.0, power_w=2.0))
    *_, energy = key_figures(document(candidate("int8", paced, evaluation(31.0))))
    assert energy.value == "66.7 mJ"
    assert "2.00 W on VDD_IN at 30 FPS" in energy.detail


def test_nothing_chosen_has_no_figures():
    assert key_figures(document(FP16)) == ()
    assert key_figures(document()) == ()


def test_what_was_not_judged_is_a_dash_with_its_reason():
    bare = candidate("int8", measurement(5.0), evaluation(31.0, memory_mb=None))
    _, fidelity, memory, _ = key_figures(document(bare))
    assert (fidelity.value, fidelity.detail) == ("31.0 dB", "32 frames · no metric")
    assert memory.value == "– MB"
    assert "not reported" in memory.detail


def test_where_and_when_is_one_line():
    assert occasion(document(FP32)) == (
        "small · small · 2026-11-23 10:17 UTC · active, release 20261123T101500123-3f9a (small)"
    )


def test_a_sound_run_has_nothing_to_be_careful_about():
    assert cautions(document(FP32, INT8)) == ()


def test_what_is_doubtful_is_named_once():
    judged = evaluation(31.0, agreement=0.97)
    few = replace(judged, fidelity=replace(judged.fidelity, frames=32, judged_frames=3,
                                           agreement_ci95=(0.8, 1.0)))  # fmt: skip
    report = document(FP32, candidate("int8-mse", measurement(5.0, steady=False), few),
                      limits={"agreement": 0.95})  # fmt: skip
    report["choice"]["candidate"] = "int8-mse"
    report["calibration"] |= {"synthetic": True, "distinct": 1}
    report["floor"] = {"limit": "agreement", "bound": 0.0, "default": False}
    found = cautions(report)
    assert len(found) == len(set(found))
    for words in (
        "synthetic",
        "only 1 of 3 frames differ",
        "no fidelity floor",
        "FP32 sees something on 3 of 32 frames only",
        "reaches down to 80 %, under the limit of 95 %",
        "int8-mse: its latency did not get steady",
    ):
        assert sum(words in one for one in found) == 1, words


def test_origins_of_the_input_leave_out_what_is_always_so():
    report = document(FP32)
    words = input_origins(report)
    assert words.startswith("width, height: the model file")
    assert "always" not in words
    del report["input"]
    assert input_origins(report) == ""
