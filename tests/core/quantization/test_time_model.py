"""Times of layers add up, changes of precision are counted once, and slow layers are found."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.quantization.time_model import TimeModel
from agent.core.records import Digest, LayerSpeed, LayerSpeeds

times = st.floats(0.01, 100)


@st.composite
def models(draw: st.DrawFn) -> TimeModel:
    names = [f"n{i}" for i in range(draw(st.integers(1, 12)))]
    beside = st.frozensets(st.sampled_from(names), min_size=1, max_size=3)
    return TimeModel(
        {name: (draw(times), draw(times)) for name in names},
        draw(st.lists(st.tuples(st.floats(0, 10), beside), max_size=12)),
    )


@given(models(), st.data())
def test_the_change_by_one_layer_is_the_difference_of_the_whole(model, data):
    kept = frozenset(data.draw(st.sets(st.sampled_from(sorted(model.layers)))))
    name = data.draw(st.sampled_from(sorted(model.layers)))
    if name not in kept:
        change = model.change(name, kept)
        assert model.time(kept | {name}) - model.time(kept) == pytest.approx(change, abs=1e-9)


@given(models())
def test_leaving_the_slow_layers_in_float_is_faster_and_no_return_would_be(model):
    slower = model.slower()
    assert model.time(slower) <= model.time(())
    for name in slower:
        assert model.time(slower - {name}) >= model.time(slower) - 1e-9
        assert model.layers[name][1] < model.layers[name][0]


def test_layers_that_are_slower_alone_but_not_with_their_conversions_stay_in_int8():
    beside = [(3.0, frozenset("ab")), (3.0, frozenset("bc"))]
    alone = TimeModel({"a": (9.0, 9.0), "b": (10.0, 5.0), "c": (9.0, 9.0)}, beside)
    assert alone.slower() == frozenset()
    worth = TimeModel({"a": (9.0, 9.0), "b": (20.0, 5.0), "c": (9.0, 9.0)}, beside)
    assert worth.slower() == {"b"}


def test_neighbours_that_are_slow_together_need_no_conversion_between_them():
    layers = {"a": (10.0, 7.0), "b": (10.0, 7.0), "c": (50.0, 50.0)}
    model = TimeModel(layers, [(4.0, frozenset("ab")), (4.0, frozenset("bc"))])
    assert model.slower() == {"a", "b"}  # 6 saved, 4 for the change to c
    assert model.time("ab") == model.time("") - 2.0


def test_a_gain_within_the_noise_of_a_profile_is_none():
    assert TimeModel({"a": (1.0, 0.5), "b": (99.0, 99.0)}, []).slower() == frozenset()


def test_times_are_of_this_device_and_what_was_not_timed_counts_by_its_compute():
    speeds = LayerSpeeds(
        digest=Digest("s"), source="p", floating="fp16", conversion_ns=2.0,
        layers=(LayerSpeed(layer="a", int8_us=1.0, float_us=3.0),),
    )  # fmt: skip
    both = frozenset("ab")
    model = TimeModel.of_speeds(
        speeds, {"a": 10, "b": 20}, {"t": both, "u": both}, {"t": 1000, "u": 4000}
    )
    assert model.layers == {"a": (1.0, 3.0), "b": (2.0, 6.0)}
    assert model.time("a") == 3.0 + 2.0 + 8.0  # the region is converted once, at its largest
    assert (model.all_int8, model.all_float) == (3.0, 9.0)
