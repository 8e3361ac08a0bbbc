"""What a fast search leaves out, and what it never does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.halving import survivors
from agent.core.lineage import Prediction
from agent.core.shortlist import shortlist, spares
from tests.support.candidates import candidate, evaluation


def predicted(low, high):
    middle = (low * high) ** 0.5
    return Prediction(
        latency_p50_ms=middle, energy_j=None, basis="a test", latency_p50_ms_ci90=(low, high)
    )


def one(name, sqnr_db=30.0, agreement=None, span=None, memory_mb=100.0, batch=1):
    judged = evaluation(sqnr_db, agreement=agreement, memory_mb=memory_mb)
    made = candidate(name, None, judged)
    if name == "int8-mixed":  # the precision, where others are calibrators of int8
        made = replace(made, recipe=replace(made.recipe, precision=name))
    return replace(made, predicted=predicted(*span) if span else None, batch=batch)


def left_out(*found, objective="latency", **limits):
    return {c.id: c.failure for c in shortlist(found, objective, limits) if c.failure}


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
        ({"sqnr_db": 25.0}, "sqnr_db"),
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
    left = shortlist(found, "latency", limits)
    assert [c.id for c in left] == [c.id for c in found]
    assert not [c for c in left if c.recipe.precision == "fp32" and c.failure]
    assert {c.id: c.failure for c in shortlist(found[::-1], "latency", limits)} == {
        c.id: c.failure for c in left
    }
    kept = [c for c in left if not c.failure]
    others = [c for c in left if c.failure and "limit" not in c.failure]
    assert kept or not others  # somebody better is the only reason but a limit


def rounds(*medians_ms):
    return [np.full(10, ms * 1e6, np.int64) for ms in medians_ms]


def test_who_can_still_win_goes_on_and_the_baseline_for_three_rounds():
    found = {
        "fp32": rounds(20, 21),
        "a": rounds(10, 11),
        "b": rounds(10.9, 12),
        "c": rounds(13, 14),
    }
    frames = dict.fromkeys(found, 1)
    assert survivors(found, frames, ["fp32"], {}) == {"fp32", "a", "b"}
    assert survivors(found, {**frames, "c": 4}, [], {}) == {"c"}
    longer = {name: [*one, one[-1]] for name, one in found.items()}
    assert survivors(longer, frames, ["fp32"], {}) == {"a", "b"}
    assert survivors({name: one[:1] for name, one in found.items()}, frames, [], {}) == set(found)


@given(
    st.dictionaries(
        st.sampled_from("abcdef"),
        st.lists(st.floats(0.01, 1e3), min_size=3, max_size=3),
        min_size=1,
    )
)
def test_the_leader_is_never_dropped(medians):
    found = {name: rounds(*values) for name, values in medians.items()}
    kept = survivors(found, dict.fromkeys(found, 1), [], {})
    leader = min(found, key=lambda name: max(float(np.median(r)) for r in found[name]))
    assert leader in kept


def test_a_spare_is_measured_only_while_the_other_is_disturbed():
    twins = {"int8-a": "int8-b"}
    found = {"int8-a": rounds(10, 10.1), "int8-b": rounds(10.1, 10.2), "fp16": rounds(10, 10)}
    frames = dict.fromkeys(found, 1)
    assert survivors(found, frames, [], twins) == {"int8-b", "fp16"}
    disturbed = {**found, "int8-b": rounds(10.1, 14)}
    assert survivors(disturbed, frames, [], twins) == set(found)
    gone = {**found, "int8-b": rounds(13, 14)}
    assert survivors(gone, frames, [], twins) == {"int8-a", "fp16"}


def test_spares_are_the_less_faithful_of_one_graph():
    found = [one("fp32", None), one("int8-a", 20.0), one("int8-b", 31.0), one("int8-mixed", 40.0)]
    assert spares(found) == {"int8-a": "int8-b"}
    assert spares([*found, one("int8-b4", 10.0, batch=4)]) == {"int8-a": "int8-b"}
    failing = shortlist([*found, one("int8-c", 50.0)], "latency", {"sqnr_db": 25.0})
    assert spares(failing) == {"int8-b": "int8-c"}
