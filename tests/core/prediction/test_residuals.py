"""How far predictions were off, and what that makes of the next intervals."""

from __future__ import annotations

from dataclasses import replace
from math import log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.prediction.history import ENERGY, LATENCY, MIXED, POWER, PastMeasurement
from agent.core.prediction.residuals import accuracy, conformal_half_width, residuals

PAST = PastMeasurement(
    model="this", precision="int8", runtime="onnxruntime", batch=1, power_mode="", macs=1_000_000,
    latency_p50_ms=3.0, energy_j=0.02, predicted_ms=None, utc="2026-11-23T00:00:00Z",
)  # fmt: skip


def pairs(*ratios, source="trial", **changed):
    past = replace(PAST, predicted_ms=10.0, source=source, **changed)
    return [
        replace(past, latency_p50_ms=10.0 * ratio, utc=f"run {number}")
        for number, ratio in enumerate(ratios)
    ]


def width(history, *, mixed=False):
    return conformal_half_width(residuals(history, "trial", "onnxruntime", mixed=mixed), 0.25)


def test_intervals_are_as_wide_as_predictions_were_off():
    assert width([]) == width(pairs(*[1.01] * 8)) == 0.25
    assert width(pairs(*[1.01] * 8, 1.6)) == pytest.approx(log(1.6))  # nine: the farthest
    assert width(pairs(*[1.01] * 19, 1.6)) == pytest.approx(log(1.01))  # nine of ten
    assert width(pairs(*[1.02] * 2, 2.0)) == pytest.approx(log(2.0))  # too few, and far off


def test_the_candidates_of_a_run_are_one_observation():
    one_run = [replace(past, utc="once") for past in pairs(*[1.01] * 20)]
    assert width(one_run) == 0.25
    nine = [
        replace(past, utc=f"run {number // 2}")
        for number, past in enumerate(pairs(*[1.01, 1.02] * 8, 1.5, 1.6))
    ]
    assert width(nine) == pytest.approx(log(1.6))
    assert width(nine * 3) == pytest.approx(log(1.6))  # repeats of a run prove no more


@pytest.mark.parametrize("other", [{"source": "history"}, {"runtime": "tensorrt"}], ids=str)
def test_the_errors_of_one_source_do_not_count_for_another(other):
    assert width(pairs(*[1.01] * 20, **other)) == 0.25


@given(
    st.lists(st.tuples(st.integers(0, 30), st.floats(0.01, 100)), max_size=60),
    st.data(),
)
def test_a_width_is_one_that_was_seen_or_assumed_whatever_the_order(found, data):
    told = [(f"run {run}", abs(log(ratio))) for run, ratio in found]
    wide = conformal_half_width(told, 0.25)
    assert wide == conformal_half_width(data.draw(st.permutations(told)), 0.25)
    assert wide in {0.25, *(off for _, off in told)}
    assert (
        conformal_half_width([*told, ("one more", 10.0)], 0.25) >= wide
        or len({run for run, _ in told}) < 9
    )


@pytest.mark.parametrize(
    ("source", "judged"), [("trial", False), ("roofline", False), ("history", True)]
)
def test_a_span_whose_ends_an_earlier_version_did_not_keep_is_not_judged(source, judged):
    (past,) = pairs(1.9, source=source, precision=MIXED, predicted_j=0.02)
    past = replace(past, predicted_w=5.0, power_w=5.5)
    assert [bool(past.check(figure)) for figure in (LATENCY, ENERGY)] == [judged] * 2
    assert past.check(POWER)  # was never one of a span
    assert bool(residuals([past], source, "onnxruntime", mixed=True)) is judged


@given(st.floats(0.01, 100), st.floats(0.1, 1), st.floats(1, 10))
def test_a_span_is_missed_only_outside_it_and_never_by_more_than_its_middle(ratio, low, high):
    (point,) = pairs(ratio)
    span = replace(point, precision=MIXED, span_low_ms=10 * low, span_high_ms=10 * high)
    ((_, off),) = residuals([span], "trial", "onnxruntime", mixed=True)
    ((_, at_most),) = residuals([point], "trial", "onnxruntime")
    assert 0 <= off <= at_most + 1e-9
    assert (off == 0) == (10 * low <= span.latency_p50_ms <= 10 * high)
    assert residuals([span], "trial", "onnxruntime") == []


def test_accuracy_is_reported_of_what_was_checked_by_source_and_precision():
    assert accuracy([PAST]) == ()
    near = pairs(1.1, 0.9, 1.2, 1.0, 0.5, low_ms=8.5, high_ms=11.5)
    far = pairs(2.0, source="fleet", precision="fp32")
    fleet, trial, everything = accuracy([PAST, *near, *far])
    assert (fleet.source, fleet.precision, fleet.count, fleet.inside) == ("fleet", "fp32", 1, None)
    assert fleet.median_off == pytest.approx(1.0)
    assert (trial.source, trial.precision, trial.count) == ("trial", "int8", 5)
    assert trial.median_off == pytest.approx(0.1)
    assert trial.p90_off == pytest.approx(0.5)
    assert trial.inside == pytest.approx(3 / 5)
    assert (everything.source, everything.count) == ("all", 6)
    assert everything.inside == pytest.approx(3 / 5)


def test_power_and_energy_are_checked_where_they_were_predicted():
    past = replace(
        PAST, source="history", predicted_ms=4.0, power_w=6.0, predicted_w=5.0, low_w=4.0,
        high_w=5.5, energy_j=0.018, predicted_j=0.02,
    )  # fmt: skip
    found = {one.figure: one for one in accuracy([past]) if one.source == "all"}
    assert list(found) == ["latency", "power", "energy"]
    assert found["power"].median_off == pytest.approx(0.2)
    assert (found["power"].inside, found["energy"].inside) == (0.0, None)
    assert found["energy"].p90_off == pytest.approx(0.1)
    ((run, off),) = residuals([past], "history", "onnxruntime", figure="power")
    assert (run, off) == (PAST.utc, pytest.approx(log(1.2)))
    unknown = replace(past, power_w=None, energy_j=0.0)
    assert {one.figure for one in accuracy([unknown])} == {"latency"}


def test_the_energy_of_a_span_is_a_span():
    mixed = replace(
        PAST, precision="int8-mixed", predicted_ms=2.0, span_low_ms=1.0, span_high_ms=4.0,
        predicted_j=0.02, energy_j=0.035, source="trial",
    )  # fmt: skip
    assert mixed.check("energy").off == 0
    assert replace(mixed, energy_j=0.08).check("energy").off == pytest.approx(1.0)
