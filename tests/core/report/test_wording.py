"""Under which conditions a figure was measured, in words."""

from __future__ import annotations

from dataclasses import asdict, replace

from agent.core.report.wording import circumstances, given_integers, still_scene
from tests.support.candidates import at_rate, candidate, evaluation, measurement
from tests.support.reports import report_of


def told(measured, mode=None, **environment):
    one = replace(candidate("fp16", measured, evaluation()), power_mode=mode)
    (facts,) = report_of([one]).candidates
    return circumstances(asdict(facts), environment)


def test_a_quantized_file_is_named_with_what_it_is_judged_by():
    model = {"quantized": "2 QuantizeLinear", "baseline": "fp32"}
    assert given_integers({"model": model}) == (
        "the file is quantized already (2 QuantizeLinear); fidelity is judged by FP32 made of it"
    )
    assert "judged by itself" in given_integers({"model": model | {"baseline": "as-given"}})
    assert given_integers({"model": model | {"quantized": ""}}) == ""
    assert given_integers({"model": {}}) == ""  # of an earlier version


def test_what_was_not_measured_has_none():
    (facts,) = report_of([candidate("fp16", failure="no kernels")]).candidates
    assert circumstances(asdict(facts), {}) == ""


def test_only_what_is_known_is_reported():
    assert told(measurement()) == "1000 inferences in 5 rounds"
    assert told(measurement(), power_mode="15W").endswith("power mode 15W")
    assert told(measurement(), "MAXN", power_mode="15W").endswith("power mode MAXN")
    clocked = replace(measurement(), cpu_mhz=(1190.2, 1510.4), gpu_mhz=(624.9, 625.1), temp_c=61.4)
    assert told(clocked).endswith("up to 61 °C, CPU 1190 to 1510 MHz, GPU 625 MHz")
    why = "a CUDA graph is not faster: 2 ms against 1 ms"
    assert told(replace(measurement(), launched="plain launches", launched_reason=why)).endswith(
        "in 5 rounds, plain launches (a CUDA graph is not faster: 2 ms against 1 ms)"
    )


def test_a_power_is_reported_with_its_rail_sensor_period_and_gaps():
    one = measurement(power_w=5.0)
    one = replace(one, power_w=replace(one.power_w, gaps=2, coverage=0.875))
    assert told(one).endswith(
        "power of VDD_IN by ina3221 every 0.1 s (100 samples over 88% of the windows, silent 2 times)"
    )
    paced = replace(measurement(), at_rate=at_rate(15.0, power_w=4.0))
    assert "at the frame rate power of VDD_IN" in told(paced)


def test_a_report_of_an_earlier_version_is_read():
    (facts,) = report_of([candidate("fp16", measurement(power_w=5.0), evaluation())]).candidates
    old = asdict(facts)
    for key in ("temp_c", "cpu_mhz", "gpu_mhz", "at_rate", "launched", "launched_reason"):
        old["measured"].pop(key)
    for key in ("period_s", "gaps"):
        old["measured"]["power_w"].pop(key)
    assert "by ina3221 (100 samples" in circumstances(old, {})


def test_frames_of_a_still_scene_are_counted():
    calibration = {"frames": 16, "holdout": 4}
    assert still_scene(calibration) == "", "an earlier version did not count them"
    assert still_scene({**calibration, "distinct": 20}) == ""
    assert still_scene({**calibration, "distinct": 3}).startswith("only 3 of 20 frames differ")
