"""The search for the layers that stay in float: bounded, valid, and small."""

from __future__ import annotations

import itertools
import math

from hypothesis import given
from hypothesis import strategies as st

from agent.core.quantization.mixed_search import (
    LayerNoise,
    NoiseModel,
    Plan,
    TensorNoise,
    find_plan,
    sqnr_db,
)
from agent.core.quantization.time_model import TimeModel

powers = st.floats(1e-6, 10)


@st.composite
def models(draw: st.DrawFn) -> NoiseModel:
    count = draw(st.integers(1, 40))
    outputs = draw(st.integers(1, 3))
    noise = st.tuples(*[powers] * outputs)
    layers = [
        LayerNoise(
            name=f"n{i}", operator="Conv", macs=draw(st.integers(0, 1000)), noise=draw(noise)
        )
        for i in range(count)
    ]
    names = st.frozensets(st.sampled_from([layer.name for layer in layers]), min_size=1, max_size=3)
    tensors = [
        TensorNoise(name=f"t{i}", noise=draw(noise), layers=draw(names)) for i in range(count)
    ]
    return NoiseModel(layers, tensors, draw(st.tuples(*[st.floats(1e-3, 100)] * outputs)))


def compute(model: NoiseModel) -> TimeModel:
    return TimeModel.of_compute({name: one.macs for name, one in model.layers.items()}, {})


def searched(model: NoiseModel, least_share: float = 0.0) -> tuple[Plan | None, int]:
    """Search with an oracle that says what the model predicts; count its calls."""
    calls = 0

    def holds(kept: frozenset[str]) -> bool:
        nonlocal calls
        calls += 1
        return model.excess(kept) <= 1

    plan = find_plan(model, compute(model), holds, lambda kept: model.share(kept) >= least_share)
    return plan, calls


@given(models())
def test_float_never_adds_noise_and_the_order_has_every_layer_once(model: NoiseModel) -> None:
    order = model.order(compute(model))
    assert sorted(order) == sorted(model.layers)
    excesses = [model.excess(order[:k]) for k in range(len(order) + 1)]
    assert all(after <= before + 1e-9 for before, after in itertools.pairwise(excesses))
    assert excesses[-1] <= 1e-9


@given(models(), st.floats(0, 0.9))
def test_the_search_is_bounded_and_what_it_finds_holds(model: NoiseModel, least: float) -> None:
    plan, calls = searched(model, least)
    assert calls <= 2 * math.log2(max(len(model.layers), 2)) + 10
    if plan is not None:
        assert plan.evaluations == calls
        assert model.excess(plan.kept) <= 1
        assert model.share(plan.kept) >= least or not plan.kept
        assert not plan.kept or model.excess(()) > 1  # nothing is kept without need


@given(models())
def test_where_everything_may_be_float_there_is_an_answer(model: NoiseModel) -> None:
    plan, _ = searched(model)
    assert plan is not None


@given(models())
def test_what_never_holds_has_no_answer(model: NoiseModel) -> None:
    assert find_plan(model, compute(model), lambda _: False, lambda _: True) is None


def chain(*layers: tuple[int, float]) -> NoiseModel:
    return NoiseModel(
        [
            LayerNoise(name=f"n{i}", operator="Conv", macs=macs, noise=(noise,))
            for i, (macs, noise) in enumerate(layers)
        ],
        [],
        (0.01,),
    )


def test_a_small_noisy_layer_stays_in_float_before_a_large_one() -> None:
    plan, _ = searched(chain((1000, 0.004), (10, 0.02), (1000, 0.003)))
    assert plan is not None
    assert plan.kept == {"n1"}


def test_a_layer_given_back_makes_the_set_smaller() -> None:
    # By noise per compute n1 and n2 come first; n0 alone would do, so n1 and n2 go back.
    plan, calls = searched(chain((500, 0.03), (1, 0.001), (1, 0.001), (5000, 0.004)))
    assert plan is not None
    assert plan.kept == {"n0"}
    assert calls < 8


def test_a_tensor_is_float_only_when_all_that_hold_it_are() -> None:
    layers = [LayerNoise(name=n, operator="Conv", macs=1, noise=(0.0,)) for n in "ab"]
    shared = TensorNoise(name="t", noise=(1.0,), layers=frozenset("ab"))
    model = NoiseModel(layers, [shared], (0.5,))
    assert model.predicted({"a"}) == (1.0,)
    assert model.predicted({"a", "b"}) == (0.0,)
    assert model.cost("a") == (0.5,)
    assert model.cost("b", {"a"}) == (1.0,)


def test_decibels() -> None:
    assert sqnr_db((0.01, 0.1)) == 10.0
    assert sqnr_db((0.0,)) == math.inf
