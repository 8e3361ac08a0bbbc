"""What is remembered of a run, and what is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.core.prediction.history import remembered
from agent.core.records import UNPREDICTED, CleanModel, Digest
from tests.support.candidates import candidate, measurement

MODEL = CleanModel(
    digest=Digest("m"), name="faces", sha256="this", opset=17, inputs=(), outputs=(),
    macs=1_000_000, weight_bytes=4000, activation_bytes=400_000, changes=(),
)  # fmt: skip


def kept(*found):
    return remembered(found, MODEL, "15W", "2026-11-23T10:15:00Z")


def test_a_measurement_is_remembered_with_what_was_predicted_of_it():
    guess = replace(UNPREDICTED,
        latency_p50_ms=9.0, basis="a trial", source="trial",
        latency_p50_ms_ci90=(5.0, 16.0), latency_p50_ms_span=(6.0, 13.5),
        power_w=4.0, power_w_ci90=(3.0, 5.5),
    )  # fmt: skip
    mixed = replace(candidate("fp16", measurement(power_w=5.0)), predicted=guess)
    (past,) = kept(mixed, candidate("int8"))
    assert (past.model, past.macs, past.precision, past.power_mode) == (
        "this", 1_000_000, "fp16", "15W",
    )  # fmt: skip
    assert (past.latency_p50_ms, past.power_w, past.energy_j) == (10.0, 5.0, 0.05)
    assert (past.predicted_ms, past.source) == (9.0, "trial")
    assert (past.low_ms, past.high_ms) == (5.0, 16.0)
    assert (past.span_low_ms, past.span_high_ms) == (6.0, 13.5)
    assert (past.predicted_w, past.low_w, past.high_w, past.low_j) == (4.0, 3.0, 5.5, None)
    assert past.utc == "2026-11-23T10:15:00Z"


def test_one_without_prediction_is_remembered_and_a_mode_of_its_own_counts():
    (past,) = kept(replace(candidate("fp16", measurement()), power_mode="MAXN"))
    assert (past.predicted_ms, past.source, past.power_mode) == (None, "", "MAXN")


@pytest.mark.parametrize(
    "flaw",
    [
        {"steady": False},
        {"throttled": True},
        {"eliminated": True},
        {"starved": 1.0},
    ],
    ids=str,
)
def test_what_was_disturbed_or_not_measured_to_the_end_is_forgotten(flaw):
    assert kept(candidate("fp16", replace(measurement(), **flaw))) == ()


def test_a_machine_that_still_got_warmer_is_remembered():
    assert kept(candidate("fp16", replace(measurement(), settled=False)))
