"""When a sample was taken, and of which time it is."""

from __future__ import annotations

import time

import pytest

from agent.adapters.power.sampling import SampledMeter


def after(pause_s: float, *, averages: bool) -> float:
    """Return how long before the end of its read a first sample is stamped, s."""
    meter = SampledMeter("test", "RAIL", 60.0, lambda: 5.0, averages=averages)
    begin_ns = time.monotonic_ns()
    while time.monotonic_ns() - begin_ns < pause_s * 1e9:
        pass
    with meter:
        end_ns = time.monotonic_ns()
    return (end_ns - meter.samples()[0].t_ns) / 1e9


def test_a_mean_is_of_the_middle_of_its_time_and_a_value_of_its_moment():
    assert after(0.03, averages=True) == pytest.approx(0.015, abs=0.01)
    assert after(0.03, averages=False) < 0.01
