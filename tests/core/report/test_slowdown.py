"""A candidate slower than FP32 is reported with the layers that make it so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.core.records import (
    BaselineDifference,
    Candidate,
    LayerDifference,
    LayerTimes,
    Recipe,
)
from agent.core.report.slowdown import slowdown
from tests.support.candidates import candidate, measurement


def layer(name: str, own: float = 0.0, conversions: float = 0.0) -> LayerDifference:
    """Return a layer that takes so many us more than in FP32."""
    return LayerDifference(
        layer=name, operator="Conv", time_us=100.0 + own, conversions_us=conversions,
        baseline_time_us=100.0, baseline_conversions_us=0.0, difference_us=own + conversions,
    )  # fmt: skip


def slower(*layers: LayerDifference, between: float = 0.0, faster: float = 0.0) -> Candidate:
    """Return a candidate in INT8 at twice FP32's p50, with these layers in its profile."""
    own, conversions = (
        sum(one.time_us - 100.0 for one in layers), sum(one.conversions_us for one in layers),
    )  # fmt: skip
    change = BaselineDifference(
        baseline="fp32", difference_us=own + conversions + between + faster, slower_us=own,
        faster_us=faster, conversions_us=conversions, between_us=between, layers=layers,
    )  # fmt: skip
    times = LayerTimes(
        source="a test", runs=9, inference_us=1.0, conversions_us=0.0, between_us=0.0, count=1,
        layers=(), against_baseline=change,
    )  # fmt: skip
    return replace(candidate("int8-mse", measurement(20.0)), layer_times=times)


FP32 = {"fp32": candidate("fp32", measurement(10.0))}


def test_the_sentence_names_the_parts_largest_first_with_their_layers():
    found = slower(
        layer("Softmax_3", own=400, conversions=1100), layer("Resize_12", conversions=1000),
        layer("Conv_1", conversions=50), between=300, faster=-250,
    )  # fmt: skip
    assert slowdown(found, FP32) == (
        "INT8 is slower than FP32 here, by 2.6 ms by a test: +2.15 ms from conversions around "
        "Softmax_3 and Resize_12, +0.4 ms from slower layers (Softmax_3), +0.3 ms between the "
        "layers, -0.25 ms from faster ones"
    )


def test_small_parts_are_left_out_and_long_names_are_cut():
    found = slowdown(slower(layer("stem/" * 30 + "conv", own=1000), between=5.0), FP32)
    assert found == (
        "INT8 is slower than FP32 here, by 1 ms by a test: +1 ms from slower layers "
        f"(…{('stem/' * 30 + 'conv')[-48:]})"
    )


def test_another_precision_is_named_as_it_is():
    found = replace(slower(layer("a", own=1000)), recipe=Recipe(precision="fp16"))
    assert slowdown(found, FP32).startswith("fp16 is slower than FP32 here, by 1 ms")


def test_a_profile_that_shows_no_difference_is_said_to():
    found = slower(layer("a", own=10), faster=-50)
    assert slowdown(found, FP32) == "INT8 is slower than FP32 here, but not by a test"


SLOW = slower(layer("a", own=1000))


@pytest.mark.parametrize(
    ("mine", "theirs", "known"),
    [
        (measurement(20.0), measurement(10.0), True),
        (measurement(10.0), measurement(10.0), False),
        (measurement(10.1), measurement(10.0, noise=0.02), False),
        (measurement(9.0), measurement(10.0), False),
        (None, measurement(10.0), False),
        (measurement(20.0), None, False),
    ],
)
def test_only_beyond_the_noise_it_is_slower(mine, theirs, known):
    one = replace(SLOW, measurement=mine)
    assert bool(slowdown(one, {"fp32": candidate("fp32", theirs)})) is known


@pytest.mark.parametrize(("ratio", "known"), [((1.01, 1.2), True), ((0.99, 1.2), False)])
def test_the_ratio_round_by_round_decides_where_it_is_known(ratio, known):
    for p50 in (9.0, 20.0):
        measured = replace(measurement(p50), p50_ratio_ci95={"fp32": ratio})
        assert bool(slowdown(replace(SLOW, measurement=measured), FP32)) is known


def test_without_a_profile_or_its_baseline_nothing_is_reported():
    assert slowdown(replace(SLOW, layer_times=None), FP32) == ""
    assert slowdown(SLOW, {}) == ""
    assert slowdown(FP32["fp32"], FP32) == ""
