"""What the plot of power is drawn from."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.core.measurement.power import PowerSample
from agent.core.measurement.power_trace import downsampled, power_trace
from agent.core.measurement.recording import Recording

SECOND = 10**9


def test_the_trace_begins_with_the_first_window_and_ends_with_the_last():
    samples = [PowerSample(t * SECOND, float(t)) for t in range(20)]
    seen = {
        "a": Recording(batch=1, windows_ns=[(5 * SECOND, 7 * SECOND)]),
        "b": Recording(
            batch=1,
            windows_ns=[(8 * SECOND, 9 * SECOND)],
            paced_windows_ns=[(9 * SECOND, 12 * SECOND)],
        ),
    }
    found = power_trace(samples, (2 * SECOND, 4 * SECOND), seen)
    assert [t for t, _ in found.points] == list(range(2, 13))
    assert [(w.candidate, w.kind, w.begin_s, w.end_s) for w in found.windows] == [
        ("", "idle", 2, 4), ("a", "flat out", 5, 7), ("b", "flat out", 8, 9), ("b", "at rate", 9, 12),
    ]  # fmt: skip
    assert power_trace(samples, None, {}).windows == ()


@given(st.lists(st.floats(0, 100), max_size=5000))
def test_a_thinned_trace_keeps_the_order_the_spikes_and_a_limit(watts):
    points = [(float(at), one) for at, one in enumerate(watts)]
    found = downsampled(points)
    assert len(found) <= 1600
    assert list(found) == sorted(found)
    assert set(found) <= set(points)
    if points:
        assert {min(watts), max(watts)} <= {one for _, one in found}
