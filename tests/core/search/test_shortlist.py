"""What a fast search leaves out, and what it never does."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.choice.choose import choose
from agent.core.choice.requirements import Requirements
from agent.core.records import UNPREDICTED
from agent.core.search.shortlist import (
    PREDICTION,
    doubtful,
    same_graph_alternatives,
    shortlist,
    wave,
    worth_making,
)
from tests.support.candidates import candidate, evaluation, measurement


def predicted(low, high):
    middle = (low * high) ** 0.5
    return replace(
        UNPREDICTED, latency_p50_ms=middle, basis="a test", latency_p50_ms_ci90=(low, high)
    )


def one(name, sqnr_db=30.0, agreement=None, span=None, memory_mb=100.0, batch=1):
    judged = evaluation(sqnr_db, agreement=agreement, memory_mb=memory_mb)
    made = candidate(name, None, judged)
    if name == "int8-mixed":  # the precision, where others are calibrators of int8
        made = replace(made, recipe=replace(made.recipe, precision=name))
    return replace(made, predicted=predicted(*span) if span else None, batch=batch)


def left_out(*found, objective="latency", **limits):
    return {c.id: c.failure for c in shortlist(found, Requirements(objective, limits)) if c.failure}


def test_of_the_calibrators_the_two_most_faithful_are_measured():
    found = left_out(
        one("fp32", None), one("int8-minmax", 20.0), one("int8-mse", 31.0),
        one("int8-entropy", 25.0), one("int8-mixed", 40.0),
    )  # fmt: skip
    assert list(found) == ["int8-minmax"]
    assert "int8-mse" in found["int8-minmax"]


def test_agreement_counts_before_noise():
    found = left_out(
        one("int8-a", 20.0, agreement=0.9), one("int8-b", 31.0, agreement=0.8),
        one("int8-c", 10.0, agreement=0.85),
    )  # fmt: skip
    assert list(found) == ["int8-b"]


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (
            {"sqnr_db": 25.0},
            "SQNR of the worst group of channels 20 dB is under the limit of 25 dB",
        ),
        ({"agreement": 0.95}, "agreement"),
        ({"memory_mb": 50.0}, "MB"),
    ],
)
def test_what_misses_a_limit_that_is_known_by_now_is_not_measured(limits, words):
    found = left_out(one("fp32", None), one("int8-a", 20.0, agreement=0.9), **limits)
    assert list(found) == ["int8-a"]
    assert words in found["int8-a"]


def test_intervals_that_are_apart_settle_it_and_those_that_meet_do_not():
    fast, slow, near = (
        one("fp16", span=(1, 2)),
        one("int8-mixed", span=(3, 4)),
        one("int8-a", span=(1.5, 3)),
    )
    found = left_out(fast, slow, near, one("fp32", None, span=(9, 10)))
    assert list(found) == ["int8-mixed"]
    assert "3 to 4 ms, against 1 to 2 of fp16" in found["int8-mixed"]
    assert left_out(fast, slow, objective="energy") == {}


def test_a_batch_that_is_faster_by_the_frame_drops_none_that_is_faster_by_itself():
    single, four = one("fp16", span=(2, 2.2)), one("fp16-b4", span=(4, 4.4), batch=4)
    assert left_out(single, four, objective="throughput", latency_p99_ms=3.0) == {}
    assert left_out(single, four, objective="latency", fps=600.0) == {}
    slow = one("int8-mixed", span=(9, 10), batch=1)
    assert list(left_out(single, four, slow, objective="throughput")) == ["int8-mixed"]


def test_what_takes_longer_may_be_what_keeps_a_limit_on_power():
    fast, slow = one("fp16", span=(1, 2)), one("fp16@15W", span=(3, 4))
    assert list(left_out(fast, slow)) == ["fp16@15W"]
    assert left_out(fast, slow, power_w=8.0) == left_out(fast, slow, energy_j=1.0) == {}


names = st.sampled_from(["fp32", "fp16", "int8-a", "int8-b", "int8-mixed"])
some = st.lists(
    st.builds(
        one, names, st.none() | st.floats(-10, 60), st.none() | st.floats(0, 1),
        st.none() | st.tuples(st.floats(1, 5), st.floats(5, 9)),
    ),
    unique_by=lambda c: c.id,
)  # fmt: skip


@given(found=some, limits=st.sampled_from([{}, {"sqnr_db": 20.0}, {"agreement": 0.5}]))
def test_the_baseline_and_one_that_keeps_the_limits_stay_whatever_the_order(found, limits):
    left = shortlist(found, Requirements("latency", limits))
    assert [c.id for c in left] == [c.id for c in found]
    assert not [c for c in left if c.recipe.precision == "fp32" and c.failure]
    assert {c.id: c.failure for c in shortlist(found[::-1], Requirements("latency", limits))} == {
        c.id: c.failure for c in left
    }
    kept = [c for c in left if not c.failure]
    others = [c for c in left if c.failure and "limit" not in c.failure]
    assert kept or not others  # somebody better is the only reason but a limit


def test_spares_are_the_less_faithful_of_one_graph():
    found = [one("fp32", None), one("int8-a", 20.0), one("int8-b", 31.0), one("int8-mixed", 40.0)]
    assert same_graph_alternatives(found) == {"int8-a": "int8-b"}
    assert same_graph_alternatives([*found, one("int8-b4", 10.0, batch=4)]) == {"int8-a": "int8-b"}
    failing = shortlist([*found, one("int8-c", 50.0)], Requirements("latency", {"sqnr_db": 25.0}))
    assert same_graph_alternatives(failing) == {"int8-b": "int8-c"}


def unmade(name, span=None, batch=1):
    made = replace(one(name, span=span, batch=batch), evaluation=None, engine=None)
    return replace(made, recipe=replace(made.recipe, precision=name.partition("-b")[0]))


def ids(found):
    return [c.id for c in found]


def test_the_fastest_by_prediction_are_made_first_and_the_slower_wait():
    found = [
        unmade("int8-mixed", (5, 6)), unmade("fp16", (2.5, 4)), unmade("int8", (2, 3)),
        unmade("fp32", (9, 10)), unmade("int4"),
    ]  # fmt: skip
    now, waiting = wave(found, Requirements("latency", {}))
    assert (ids(now), ids(waiting)) == (["fp32", "int8", "fp16", "int4"], ["int8-mixed"])
    now, waiting = wave(found, Requirements("energy", {}))
    assert len(now) == len(found)
    assert not waiting


def test_what_is_slower_than_one_that_keeps_the_limits_is_not_even_built():
    fast, mixed = one("int8", 15.0, span=(2, 3)), unmade("int8-mixed", (5, 6))
    (left,) = worth_making([mixed], [fast], Requirements("latency", {}))
    assert left.failure == "not built: predicted 5 to 6 ms, against 2 to 3 of int8"
    assert left.left_out == PREDICTION
    for limits in ({"sqnr_db": 20.0}, {"memory_mb": 50.0}, {"power_w": 5.0}):
        assert worth_making([mixed], [fast], Requirements("latency", limits)) == [mixed]
    untold = replace(fast, evaluation=replace(fast.evaluation, memory_mb=None))
    assert worth_making([mixed], [untold], Requirements("latency", {"memory_mb": 500.0})) == [mixed]
    assert worth_making([mixed], [fast], Requirements("latency", {"agreement": 0.9})) == [mixed]
    failing = replace(fast, failure="it does not load")
    assert worth_making([mixed], [failing], Requirements("latency", {})) == [mixed]


def test_int8_that_is_slower_than_fp32_is_not_calibrated():
    int8 = unmade("int8", (5, 6))
    (left,) = worth_making([int8], [one("fp32", None, span=(1, 2))], Requirements("latency", {}))
    assert left.left_out


guesses = st.lists(
    st.builds(
        unmade, st.sampled_from(["fp32", "fp16", "int8", "int8-mixed", "int8-b4", "fp16-b4"]),
        st.none() | st.tuples(st.floats(1, 9), st.floats(0, 3)).map(lambda s: (s[0], sum(s))),
        st.sampled_from([1, 4]),
    ),
    unique_by=lambda c: c.id, min_size=1,
)  # fmt: skip


@given(guesses, st.sampled_from(["latency", "throughput", "energy"]))
def test_waves_end_and_lose_no_candidate(found, objective):
    pending, seen = found, []
    while pending:
        now, pending = wave(pending, Requirements(objective, {}))
        assert now
        seen += ids(now)
    assert sorted(seen) == sorted(ids(found))


@given(guesses, st.data())
def test_the_candidate_predicted_best_is_always_built_and_one_left_out_never_wins(found, data):
    """Whatever each turns out to take inside its interval, and however faithful it is."""
    true_ms = {
        c.id: data.draw(
            st.floats(*c.predicted.latency_p50_ms_ci90) if c.predicted else st.floats(1, 9)
        )
        for c in found
    }
    judge = {c.id: evaluation(data.draw(st.floats(0, 40))) for c in found}
    limits = {"sqnr_db": 20.0}
    judged, pending = [], found
    while pending:
        now, pending = wave(pending, Requirements("latency", limits))
        judged += [replace(c, evaluation=judge[c.id]) for c in now]
        told = worth_making(pending, judged, Requirements("latency", limits))
        judged += [c for c in told if c.left_out]
        pending = [c for c in told if not c.left_out]
    assert sorted(ids(judged)) == sorted(ids(found))

    def measured(c):
        return replace(c, evaluation=judge[c.id], measurement=measurement(true_ms[c.id], noise=0))

    fast = [
        c if c.failure else measured(c) for c in shortlist(judged, Requirements("latency", limits))
    ]
    full = [measured(replace(c, failure="")) for c in judged]
    chosen, best = (choose(some, Requirements("latency", limits)) for some in (fast, full))
    assert not [c for c in fast if c.left_out and chosen.verdicts[c.id].verdict != "rejected"]
    if not doubtful(fast, chosen, Requirements("latency", limits)) and best.candidate:
        assert true_ms[chosen.candidate] == true_ms[best.candidate]


def after(*found, objective="latency", **limits):
    return doubtful(
        found, choose(found, Requirements(objective, limits)), Requirements(objective, limits)
    )


def test_a_choice_is_made_again_where_what_was_left_out_might_win_after_all():
    best = replace(one("int8", 30.0), measurement=measurement(3.0))
    fp16 = replace(unmade("fp16", (5, 6)), failure="slower", left_out=PREDICTION)
    assert not after(best)
    assert not after(best, fp16)
    slow = replace(best, measurement=measurement(5.5))
    assert after(slow, fp16)
    assert not after(slow, replace(fp16, left_out="limit"))
    assert after(best, fp16, latency_p99_ms=1.0)  # nothing is feasible
    assert not after(best, latency_p99_ms=1.0)  # and nobody else could be
    behind = replace(best, measurement=replace(measurement(3.0), eliminated=True))
    assert after(behind)


@pytest.mark.parametrize(("objective", "limits"), [("energy", {}), ("latency", {"power_w": 5.0})])
def test_where_power_decides_and_is_unknown_measuring_all_candidates_adds_nothing(
    objective, limits
):
    spare = replace(one("int8-b"), failure="of other scales", left_out="scales")
    blind = replace(one("int8-a"), measurement=measurement(3.0, power_w=None))
    sees = replace(one("int8-a"), measurement=measurement(3.0, power_w=9.0))
    assert not after(blind, spare, objective=objective, **limits)
    assert after(sees, spare, objective=objective, **{**limits, "energy_j": 1e-9})
    lost = replace(one("int8-a"), failure="killed")
    assert after(lost, spare, objective=objective, **limits)
