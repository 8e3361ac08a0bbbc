"""Which of two INT8 graphs is better: the metric where it can decide, else SQNR."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.quantization.trial_results import (
    TrialResult,
    agrees_more,
    best_of,
    is_better,
    is_decided,
)
from tests.support.candidates import fidelity

NAN = math.nan


def result(sqnr_db: float, by_frame: Sequence[float] = ()) -> TrialResult:
    return TrialResult(
        fidelity=fidelity(sqnr_db, frames=len(by_frame) or 8), agreement_by_frame=tuple(by_frame)
    )


results = st.builds(
    result,
    st.floats(-10, 60),
    st.lists(st.sampled_from([0.0, 0.5, 1.0, NAN]), min_size=12, max_size=12),
)


@pytest.mark.parametrize(
    ("better", "worse", "decided"),
    [(5, 0, True), (4, 0, False), (7, 1, True), (6, 1, False), (15, 5, True), (14, 6, False)],
)
def test_the_metric_decides_where_chance_does_not(better, worse, decided):
    ties = [0.5, NAN, 1.0]
    one = result(10, [*ties, *[1.0] * better, *[0.5] * worse])
    other = result(30, [*ties, *[0.5] * better, *[1.0] * worse])
    assert agrees_more(one, other) is decided
    assert is_better(one, other) is decided  # where it does not decide, SQNR does
    assert not agrees_more(other, one)


def test_without_a_metric_or_where_nothing_is_seen_sqnr_decides():
    assert is_better(result(20.1), result(20.0))
    assert is_better(result(20.1, [NAN] * 16), result(20.0, [NAN] * 16))
    assert is_better(result(20.1, [1.0] * 16), result(20.0, [1.0] * 16))  # saturated
    assert not is_better(result(20.0), result(20.0))


def test_outputs_that_are_not_finite_are_worse_than_any():
    broken = TrialResult(fidelity=None)
    assert is_better(result(-30, [0.0] * 8), broken)
    assert not is_better(broken, result(-30, [0.0] * 8))
    assert best_of({"a": broken, "b": result(-30, [0.0] * 8)}) == "b"


@given(results, results)
def test_of_two_at_most_one_is_better(one, other):
    assert not (is_better(one, other) and is_better(other, one))
    assert is_better(one, other) or is_better(other, one) or one.sqnr_db == other.sqnr_db


def test_the_best_has_the_highest_sqnr_unless_another_agrees_on_more_frames():
    low, high = [0.5] * 16, [1.0] * 16
    found = {"a": result(12, high), "b": result(30, low), "c": result(20, low)}
    assert best_of(found) == "a"
    assert best_of({"a": result(12), "b": result(30), "c": result(20)}) == "b"
    assert best_of({"first": result(20), "second": result(20)}) == "first"


def test_words_have_the_metric_where_it_was_judged():
    assert str(result(20.04)) == "20.0 dB"


@pytest.mark.parametrize(
    ("gains", "decided"),
    [
        ([1.0] * 20, True),
        ([-1.0] * 20, True),
        ([1.0] * 19 + [-1.0], True),
        ([1.0] * 15 + [-1.0] * 5, False),
        ([0.0] * 20, False),
    ],
)
def test_a_comparison_is_decided_when_resamples_of_the_frames_agree(gains, decided):
    """Each resample of both graphs is of the same frames, however much resamples differ."""
    level = np.linspace(5, 25, len(gains))
    one, other = (
        TrialResult(fidelity=fidelity(10.0, frames=8), resampled_db=tuple(values.tolist()))
        for values in (level + gains, level)
    )
    assert is_decided(one, other) is decided


def test_outputs_that_are_not_finite_decide_and_too_few_frames_do_not():
    few = TrialResult(fidelity=fidelity(10.0, frames=4))
    assert not is_decided(few, few)
    assert is_decided(few, TrialResult(fidelity=None))
