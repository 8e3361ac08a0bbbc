"""A front is short, ordered, ends where the limit is met, and has the knee in it."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from agent.core.quantization.mixed_front import members
from agent.core.quantization.mixed_search import LayerNoise, NoiseModel, find_plan
from agent.core.quantization.time_model import TimeModel


def layers(*noise: float) -> NoiseModel:
    return NoiseModel(
        [
            LayerNoise(name=f"n{i}", operator="Conv", macs=1, noise=(one,))
            for i, one in enumerate(noise)
        ],
        [],
        (0.01,),
    )


def front_of(model: NoiseModel, times: TimeModel, first: frozenset[str] = frozenset()):
    plan = find_plan(
        model, times, lambda kept: model.excess(kept) <= 1, lambda _: True, first=first
    )
    assert plan is not None
    return plan, members(model, times, plan, first, 4)


@given(
    st.lists(
        st.tuples(st.floats(1e-5, 1), st.floats(0.1, 10), st.floats(0.1, 10)),
        min_size=1, max_size=20,
    )
)  # fmt: skip
def test_each_member_is_slower_and_more_faithful_than_the_one_before(given_layers):
    model = layers(*(noise for noise, _, _ in given_layers))
    times = TimeModel({f"n{i}": one[1:] for i, one in enumerate(given_layers)}, [])
    first = times.slower()
    plan, front = front_of(model, times, first)
    assert 1 <= len(front) <= 4
    assert front[-1] == plan.kept
    assert all(first <= one for one in front)
    for before, after in itertools.pairwise(front):
        assert times.time(before) < times.time(after)
        assert model.excess(before) >= model.excess(after)


def test_the_knee_is_offered_beside_the_strict_limit():
    """One cheap layer makes most of the noise; the limit needs the dear ones too."""
    model = layers(1.0, *[0.02] * 6)
    times = TimeModel({"n0": (1.0, 2.0), **{f"n{i}": (1.0, 5.0) for i in range(1, 7)}}, [])
    plan, front = front_of(model, times)
    assert front[0] == frozenset()
    assert front[1] == {"n0"}
    assert len(plan.kept) > 5
    assert model.excess(front[-1]) <= 1


def test_where_int8_meets_the_limit_there_is_one_graph():
    model = layers(1e-4, 1e-4)
    _, front = front_of(model, TimeModel({"n0": (1.0, 2.0), "n1": (1.0, 2.0)}, []))
    assert front == (frozenset(),)


def test_a_layer_that_costs_more_time_is_left_in_float_later():
    """Both make the same noise; what decides is the time, not the compute."""
    model = layers(0.02, 0.02, 1e-4)
    times = TimeModel({"n0": (1.0, 9.0), "n1": (1.0, 2.0), "n2": (1.0, 2.0)}, [])
    assert model.order(times)[:2] == ("n1", "n0")
