"""The answer in one sentence, and the speed-up that it gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from agent.core.choice.choose import choose
from agent.core.choice.requirements import Requirements
from agent.core.records import Activation, Candidate, Floor
from agent.core.report.document import Report
from agent.core.report.speedup import over_baseline
from agent.core.report.wording import headline
from tests.support.candidates import candidate, evaluation, measurement
from tests.support.reports import report_of

BOXES = "finds 98 % of FP32's boxes"


def measured(
    name: str, p50: float, *, does: str = BOXES, power_w: float | None = None
) -> Candidate:
    judged = evaluation(None if name == "fp32" else 30.0, agreement=0.98)
    judged = replace(judged, fidelity=replace(judged.fidelity, summary=does))
    return candidate(name, measurement(p50, power_w=power_w), judged)


def paired(one: Candidate, **ratios: tuple[float, float]) -> Candidate:
    assert one.measurement
    return replace(one, measurement=replace(one.measurement, p50_ratio_ci95=ratios))


def report(
    *found: Candidate,
    objective: str = "latency",
    limits: Mapping[str, float] | None = None,
    **changes: Any,
) -> Report:
    choice = choose(found, Requirements(objective, limits or {}))
    return report_of(found, choice=choice, **changes)


def test_it_gives_the_speedup_and_what_the_engine_does_in_the_tasks_words():
    found = report(measured("fp32", 13.0), measured("int8-mixed", 7.88))
    assert found.headline == (
        "int8-mixed is active: 1.65x as fast as FP32 and finds 98 % of its boxes"
    )


@pytest.mark.parametrize(
    ("does", "words"),
    [
        ("names FP32's class 96.8 % of the time", "names its class 96.8 % of the time"),
        ("finds 9 % of FP32's boxes, and 3 % of its own are none of FP32's",
         "finds 9 % of its boxes, and 3 % of its own are none of FP32's"),
        ("gives the baseline's very outputs", "gives its very outputs"),
        ("can't be judged: FP32 sees a box on 2 of 32 held-out frames",
         "can't be judged: FP32 sees a box on 2 of 32 held-out frames"),
    ],
)  # fmt: skip
def test_every_summary_of_a_task_completes_the_sentence(does, words):
    found = report(measured("fp32", 20.0), measured("int8", 10.0, does=does))
    assert found.headline == f"int8 is active: 2x as fast as FP32 and {words}"


def test_where_energy_decides_what_is_saved_is_in_it():
    fast = measured("int8", 10.0, power_w=5.0)
    found = report(measured("fp32", 20.0, power_w=5.0), fast, objective="energy")
    assert found.headline == (
        "int8 is active: 2x as fast as FP32 with 50% less energy and finds 98 % of its boxes"
    )


def test_a_difference_inside_the_noise_is_no_speedup():
    alike = paired(measured("fp32", 10.0), int8=(0.97, 1.04))
    large = replace(alike, evaluation=evaluation(None, agreement=1.0, memory_mb=200.0))
    found = report(large, measured("int8", 9.9), limits={"memory_mb": 150.0})
    assert "int8 is active: as fast as FP32 within the noise and finds" in found.headline
    rough = measured("int8", 5.0)
    assert rough.measurement
    unknown = replace(rough.measurement.latency_ms, ci95_p50=None, ci95_reason="a single round")
    rough = replace(rough, measurement=replace(rough.measurement, latency_ms=unknown))
    found = report(measured("fp32", 10.0), rough)
    assert "about 2x as fast as FP32" in found.headline
    assert (found.speedup.ci95, found.speedup.ci95_reason) == (None, "a single round")


def test_the_interval_is_of_the_rounds_that_both_were_measured_in():
    fp32, int8 = measured("fp32", 20.0), measured("int8", 10.0)
    apart = over_baseline(int8, (fp32, int8))
    assert (apart.factor, apart.paired) == (2.0, False)
    assert apart.ci95 == pytest.approx((19.8 / 10.1, 20.2 / 9.9))
    together = over_baseline(int8, (paired(fp32, int8=(1.99, 2.01)), int8))
    assert (together.factor, together.ci95, together.paired) == (2.0, (1.99, 2.01), True)
    assert together.over == "fp32"


def test_what_has_no_speedup_has_the_reason():
    fp32, int8 = measured("fp32", 20.0), measured("int8", 10.0)
    assert over_baseline(None, ()).reason == "nothing was chosen"
    assert over_baseline(fp32, (fp32, int8)).reason == "fp32 is what the others are compared with"
    other = replace(fp32, batch=4)
    assert "no candidate of the same batch" in over_baseline(int8, (other, int8)).reason
    failed = replace(fp32, measurement=None, failure="no kernel")
    assert over_baseline(int8, (failed, int8)).reason == "fp32 was not measured: no kernel"
    found = report(failed, int8)
    assert "not compared with FP32 in speed (fp32 was not measured: no kernel)" in found.headline


def test_a_baseline_that_wins_is_best_at_the_objective():
    found = report(measured("fp32", 10.0), measured("int8", 20.0))
    assert found.headline == "fp32 is active: the best latency within the limits, 10 ms"


def test_it_says_that_the_floor_is_off():
    floor = Floor(limit="agreement", bound=0.0, default=False)
    found = report(measured("fp32", 20.0), measured("int8", 10.0), floor=floor)
    assert found.headline.endswith("; no fidelity floor (limits.agreement = 0)")


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("unchanged", "int8 stays active: 2x"),
        ("rolled_back", "int8 was activated and rolled back: exit code 1"),
        ("interrupted", "int8 was chosen, but the switch to it was interrupted: exit code 1"),
    ],
)
def test_what_became_of_the_switch_comes_first(state, words):
    activation = Activation(state=state, release="r0", previous="r1", detail="exit code 1")
    found = report(measured("fp32", 20.0), measured("int8", 10.0), activation=activation)
    assert found.headline.startswith(words)


def test_nothing_that_fits_is_the_answer_too():
    assert report().headline == "Nothing fits: no candidate is usable: there is none"


def test_reports_of_earlier_versions_have_one():
    old = {"choice": {"why": "int8 has the best latency", "infeasible": False}}
    assert headline(old) == "int8 has the best latency"
    assert headline({"headline": "new", **old}) == "new"
    assert headline({"choice": {"why": "x", "infeasible": True}}) == "Nothing fits: x"
