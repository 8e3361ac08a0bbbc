"""What changed against the release before, as far as it can be compared."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from agent.core.records import Activation, Candidate
from agent.core.report.change import Comparison, PreviousRelease
from agent.core.report.document import Report
from agent.run.report import encode
from tests.support.candidates import at_rate, candidate, evaluation, measurement
from tests.support.reports import report_of

NOW = Activation(state="active", release="r1", previous="r0")


def one(name: str, p50: float, *, file: str, power_w: float | None = 4.0) -> Candidate:
    found = candidate(name, measurement(p50, power_w=power_w), evaluation(30.0, agreement=0.96))
    assert found.engine
    return replace(found, engine=replace(found.engine, file_digest=file))


def before(*found: Candidate, of: str, **changes: Any) -> PreviousRelease:
    report = json.loads(encode(report_of(found))) | changes
    return PreviousRelease(release="r0", candidate=of, report=report)


def run(previous: PreviousRelease | None, *found: Candidate, state: str = "active") -> Report:
    return report_of(found, previous=previous, activation=replace(NOW, state=state))


def compared(previous: PreviousRelease, *found: Candidate) -> Comparison:
    report = run(previous, *found)
    assert report.against_previous, report.against_previous_reason
    return report.against_previous


def test_figures_of_another_run_stand_beside_the_present_ones():
    found = compared(before(one("fp16", 8.0, file="a"), of="fp16"), one("int8", 4.0, file="b"))
    assert (found.release, found.candidate, found.precision) == ("r0", "fp16", "fp16")
    assert (found.same_run, found.measured) == (False, "2026-11-23T10:17:00Z")
    assert (found.speedup.factor, found.speedup.paired) == (2.0, False)
    assert found.speedup.ci95 == pytest.approx((7.92 / 4.04, 8.08 / 3.96))
    figures = {name: (each.before, each.now) for name, each in found.figures.items()}
    assert figures == {
        "latency_p50_ms": (8.0, 4.0), "latency_p99_ms": (8.0, 4.0), "throughput_fps": (125.0, 250.0),
        "power_w": (4.0, 4.0), "energy_j": (0.032, 0.016), "memory_mb": (100.0, 100.0),
        "sqnr_db": (30.0, 30.0), "agreement": (0.96, 0.96),
    }  # fmt: skip
    assert not any(each.reason for each in found.figures.values())


def test_an_engine_that_this_run_measured_too_is_compared_within_it():
    again = one("fp16", 6.0, file="a")
    assert again.measurement
    again = replace(
        again, measurement=replace(again.measurement, p50_ratio_ci95={"int8": (1.4, 1.6)})
    )
    found = compared(
        before(one("fp16", 8.0, file="a"), of="fp16"), again, one("int8", 4.0, file="b")
    )
    assert found.same_run
    assert (found.speedup.factor, found.speedup.ci95) == (1.5, (1.4, 1.6))
    assert found.figures["latency_p50_ms"].before == 6.0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"environment": {"cpu": "another"}},
         "it was measured on another machine (cpu another, now small)"),
        ({"environment": {"cpu": "small", "power_mode": "15W"}},
         "it was measured in power mode 15W, now None"),
        ({"candidates": []}, "release r0 has no report with its figures"),
        ({"candidates": [{"id": "fp16", "batch": 4}]}, "it takes a batch of 4, now 1"),
    ],
)  # fmt: skip
def test_nothing_is_compared_across_conditions(changes, reason):
    found = compared(
        before(one("fp16", 8.0, file="a"), of="fp16", **changes), one("int8", 4.0, file="b")
    )
    assert (found.speedup.factor, found.speedup.reason) == (None, reason)
    assert {(each.before, each.reason) for each in found.figures.values()} == {(None, reason)}
    assert found.figures["latency_p50_ms"].now == 4.0


def test_fidelity_is_compared_for_the_same_model_only_and_speed_for_any():
    other = before(one("fp16", 8.0, file="a"), of="fp16", model={"sha256": "6" * 64})
    found = compared(other, one("int8", 4.0, file="b"))
    assert found.figures["agreement"].reason == "it is of another model file"
    assert found.figures["sqnr_db"].before is None
    assert found.speedup.factor == 2.0


def test_power_is_compared_at_one_rate_and_of_one_rail():
    now = one("int8", 4.0, file="b")
    assert now.measurement
    assert now.measurement.power_w
    paced = replace(now.measurement, at_rate=at_rate(30.0, power_w=2.0))
    previous = before(one("fp16", 8.0, file="a"), of="fp16")
    found = compared(previous, replace(now, measurement=paced)).figures
    assert found["power_w"].reason == "its power was measured flat out, now at 30 FPS"
    assert found["latency_p50_ms"].before == 8.0
    rail = replace(now.measurement.power_w, rail="VDD_CPU")
    other = replace(now, measurement=replace(now.measurement, power_w=rail))
    assert compared(previous, other).figures["energy_j"].reason == (
        "its power was of VDD_IN, now of VDD_CPU"
    )


def test_what_either_run_did_not_measure_has_its_reason():
    previous = before(one("fp16", 8.0, file="a", power_w=None), of="fp16")
    found = compared(previous, one("int8", 4.0, file="b")).figures["power_w"]
    assert (found.before, found.now, found.reason) == (None, 4.0, "before: no power sensor")


@pytest.mark.parametrize("report", [{}, {"candidates": None}, {"candidates": [3, {"id": "fp16"}]},
    {"candidates": [{"id": "fp16", "measured": {"latency_ms": {"p50": "fast", "ci95_p50": 3}}}],
     "environment": [], "model": 1}])  # fmt: skip
def test_a_report_of_any_content_is_no_error(report):
    previous = PreviousRelease(release="r0", candidate="fp16", report=report)
    found = compared(previous, one("int8", 4.0, file="b"))
    assert found.speedup.factor is None
    assert found.speedup.reason


def test_no_comparison_has_the_reason():
    now = one("int8", 4.0, file="b")
    previous = before(now, of="int8")
    for report, reason in (
        (run(None, now), "no release was active before"),
        (run(previous, now, state="unchanged"), "release r1 was active before, too"),
        (run(previous, replace(now, failure="it failed")), "nothing was chosen"),
    ):
        assert report.against_previous is None
        assert report.against_previous_reason.startswith(reason)
