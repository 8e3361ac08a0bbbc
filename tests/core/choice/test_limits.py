"""What is said of a limit that is not kept must be true in the digits it is said in."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from agent.core.choice.candidates import MeasuredCandidate
from agent.core.choice.limits import doubts, format_distinct, loosened, violations
from tests.support.candidates import at_rate, candidate, evaluation, measurement

numbers = st.floats(1e-6, 1e7)


def known(**measured) -> MeasuredCandidate:
    one, judged = measurement(**measured), evaluation(40.0)
    return MeasuredCandidate(
        candidate=candidate("int8", one, judged), measurement=one, evaluation=judged
    )


@given(one=numbers, other=numbers)
@example(one=45.124, other=45.123)
@example(one=10.004, other=10.001)
@example(one=45.124, other=45.116)
@example(one=99999.6, other=0.0)
def test_two_numbers_are_formatted_distinctly_and_in_their_order(one, other):
    assume(one != other)
    assert (float(format_distinct(one, other)) > float(format_distinct(other, one))) == (
        one > other
    )
    assert float(format_distinct(one, other)) == pytest.approx(one, rel=1e-3)


@given(one=numbers)
def test_equal_numbers_are_formatted_shortly(one):
    text = format_distinct(one, one)
    assert text == format_distinct(one, one)
    assert len(re.sub(r"e.*|\.|^0\.0*", "", text)) <= max(4, len(f"{one:.0f}"))


@pytest.mark.parametrize(
    ("value", "other", "text"),
    [(2.0, 2.0, "2"), (1 / 3, 1 / 3, "0.3333"), (12345.6, 12000, "12346")],
)
def test_a_number_has_no_more_digits_than_needed(value, other, text):
    assert format_distinct(value, other) == text


@given(p50=st.floats(0.01, 1e4), bound=st.floats(0.01, 1e4).map(lambda v: float(f"{v:.5g}")))
@example(p50=10.004, bound=10.001)
def test_a_broken_limit_reads_true(p50, bound):
    found = violations(known(p50=p50), {"latency_p99_ms": bound})
    assert bool(found) == (p50 > bound)
    for one in found:
        value, limit = map(float, re.findall(r"(\S+) ms", one.reason))
        assert value > limit == bound
        assert one.excess == pytest.approx((p50 - bound) / bound)
        assert one.loosened >= p50


@pytest.mark.parametrize("bounds", [{}, {"latency_p99_ms": 0.0}])
def test_zero_and_absent_are_no_limit(bounds):
    assert violations(known(p50=1e6), bounds) == ()


@pytest.mark.parametrize("key", ["power_w", "energy_j"])
def test_a_limit_that_can_not_be_judged_has_a_reason_and_no_number_would_help(key):
    (found,) = violations(known(), {key: 5.0})
    assert "no power sensor" in found.reason
    assert (found.loosened, found.excess) == (None, float("inf"))


def test_the_agreements_own_reason_is_given():
    (found,) = violations(known(), {"agreement": 0.9})
    assert found.reason == "agreement with FP32 has a limit of 0.9: no metric"


def test_a_limit_on_unknown_memory_is_not_met():
    """What a runtime holds on its GPU may be more than any limit."""
    one = replace(known(), evaluation=evaluation(memory_mb=None))
    assert violations(one, {}) == ()
    (broken,) = violations(one, {"memory_mb": 500.0})
    assert broken.reason == "memory has a limit of 500 MB: not reported"


def test_a_p99_without_an_interval_and_one_above_the_limit_at_the_frame_rate_are_doubts():
    one = measurement(p50=10.0, p99=12.0)
    few = replace(one.latency_ms, ci95_p99=None, ci95_reason="p99 of 25 runs only")
    judged = evaluation(40.0)

    def doubted(measured, bound):
        known = MeasuredCandidate(
            candidate=candidate("int8"), measurement=measured, evaluation=judged
        )
        return doubts(known, {"latency_p99_ms": bound})

    assert doubted(one, 20.0) == doubted(replace(one, latency_ms=few), 0.0) == ()
    (told_here,) = doubted(replace(one, latency_ms=few), 20.0)
    assert "p99 of 25 runs only" in told_here
    paced = replace(one, at_rate=at_rate(30.0, p50=25.0))
    assert "at 30 FPS p99 is 25 ms, over the limit of 20 ms" in doubted(paced, 20.0)[0]
    assert doubted(paced, 30.0) == ()


@pytest.mark.parametrize(
    ("asked", "weaker"),
    [
        ({}, ()),
        ({"power_w": 10.0}, ()),
        ({"power_w": 9.0, "agreement": 0.96, "fps": 30.0}, ()),
        ({"power_w": 10.1}, ("power_w",)),
        ({"power_w": 0.0, "memory_mb": 5.0, "agreement": 0.94}, ("power_w", "agreement")),
        ({"agreement": 0.0}, ("agreement",)),
        ({"memory_mb": 0.0}, ()),
    ],
)
def test_what_loosens_a_limit(asked, weaker):
    bounds = {"power_w": 10.0, "agreement": 0.95, "memory_mb": 0.0}
    assert loosened(bounds, asked) == weaker
