"""Candidates compared round by round."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.measurement.ratios import p50_ratios_ci95


def rounds(*medians_ms):
    return [np.full(10, ms * 1e6, np.int64) for ms in medians_ms]


def test_what_moves_both_is_no_noise():
    drift = np.array([1.0, 1.3, 0.8, 1.1, 1.2])
    found = {"a": rounds(*(10 * drift)), "b": rounds(*(10.2 * drift))}
    (low, high) = p50_ratios_ci95(found, {"a": 10.0, "b": 10.2}, 5)["b"]["a"]
    assert low == pytest.approx(1.02)
    assert high == pytest.approx(1.02)


def test_only_those_of_every_round_are_compared():
    found = {"a": rounds(1, 1, 1), "b": rounds(2, 2, 2), "left out": rounds(3, 3), "none": []}
    p50s = dict.fromkeys(found, 1.0)
    assert p50_ratios_ci95(found, p50s, 3).keys() == {"a", "b"}
    assert p50_ratios_ci95({"a": rounds(1, 1), "b": rounds(2, 2)}, p50s, 2) == {}
    assert p50_ratios_ci95({}, {}, 3) == {}


levels = st.lists(st.tuples(st.floats(1, 100), st.floats(1, 100)), min_size=3, max_size=8)


@given(levels)
def test_one_against_another_is_the_other_way_round_reversed(pairs):
    found = {"a": rounds(*(a for a, _ in pairs)), "b": rounds(*(b for _, b in pairs))}
    p50s = {name: float(np.median(np.concatenate(one))) for name, one in found.items()}
    ratios = p50_ratios_ci95(found, p50s, len(pairs))
    low, high = ratios["a"]["b"]
    assert low <= p50s["a"] / p50s["b"] <= high
    assert ratios["b"]["a"] == pytest.approx((1 / high, 1 / low))
