"""Mean power of windows: exact on what can be done by hand, and what holds for any samples."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.measurement.power import PowerSample, WindowPower, mean_power

SECOND = 1_000_000_000
NOTHING = WindowPower(mean_w=None, coverage=0.0, samples=0, gaps=0)


def every_second(*watts: float) -> list[PowerSample]:
    return [PowerSample(index * SECOND, power_w) for index, power_w in enumerate(watts)]


@st.composite
def traces(draw):
    """Samples in order of time, with gaps, repeated times and jitter; ns."""
    steps = draw(st.lists(st.integers(0, 8 * SECOND), min_size=1, max_size=12))
    watts = draw(st.lists(st.floats(0, 100), min_size=len(steps), max_size=len(steps)))
    t_ns = draw(st.integers(0, 10**15))
    found = []
    for step, power_w in zip(steps, watts, strict=True):
        t_ns += step
        found.append(PowerSample(t_ns, power_w))
    return found


@st.composite
def windows_over(draw, samples):
    """Windows in order that do not overlap, inside, around and beside the samples."""
    low, high = samples[0].t_ns - 5 * SECOND, samples[-1].t_ns + 5 * SECOND
    edges = sorted(draw(st.lists(st.integers(low, high), max_size=8)))
    return list(zip(edges[::2], edges[1::2], strict=False))


@pytest.mark.parametrize(
    ("window_s", "mean_w"),
    [((0, 4), 6.0), ((1, 3), 6.0), ((0, 2), 4.0), ((0.5, 1.5), 4.0), ((3.5, 3.75), 9.25)],
)
def test_a_ramp_is_integrated_exactly_wherever_the_window_cuts_it(window_s, mean_w):
    begin, end = (int(edge * SECOND) for edge in window_s)
    found = mean_power(every_second(2, 4, 6, 8, 10), [(begin, end)], 1.0)
    assert found.mean_w == pytest.approx(mean_w)
    assert found.coverage == 1.0
    assert found.gaps == 0


def test_power_between_the_windows_does_not_count():
    samples = every_second(1, 1, 90, 1, 1)
    found = mean_power(samples, [(0, SECOND), (3 * SECOND, 4 * SECOND)], 1.0)
    assert found == WindowPower(mean_w=1.0, coverage=1.0, samples=4, gaps=0)


def test_a_longer_window_weighs_more():
    samples = every_second(4, 4, 4, 10, 10)
    found = mean_power(samples, [(0, 2 * SECOND), (3 * SECOND, 4 * SECOND)], 1.0)
    assert found.mean_w == pytest.approx((2 * 4 + 10) / 3)


def test_what_the_sensor_missed_is_a_gap_and_never_guessed():
    early, late = PowerSample(0, 5.0), PowerSample(SECOND, 5.0)
    samples = [early, late, PowerSample(9 * SECOND, 50.0), PowerSample(10 * SECOND, 50.0)]
    found = mean_power(samples, [(0, 10 * SECOND)], 1.0)
    assert found.mean_w == pytest.approx((5 + 50) / 2)
    assert found.coverage == pytest.approx(0.2)
    assert (found.samples, found.gaps) == (4, 1)


@pytest.mark.parametrize(("apart_s", "gaps"), [(2.5, 0), (2.51, 1)])
def test_two_and_a_half_periods_are_the_longest_that_is_no_gap(apart_s, gaps):
    samples = [PowerSample(0, 3.0), PowerSample(int(apart_s * SECOND), 3.0)]
    found = mean_power(samples, [(0, SECOND)], 1.0)
    assert (found.gaps, found.mean_w) == (gaps, None if gaps else 3.0)


def test_time_without_samples_at_the_ends_is_not_covered():
    found = mean_power(every_second(7, 7, 7), [(-2 * SECOND, 6 * SECOND)], 1.0)
    assert (found.mean_w, found.coverage) == (7.0, 0.25)


@pytest.mark.parametrize(
    ("windows_s", "gaps"),
    [
        ([(0, 4), (5, 9), (10, 14), (15, 19), (20, 24)], 3),  # alive until 11 s
        ([(0, 4), (5, 9), (10, 11)], 0),
        ([(9, 13)], 0),  # 2 s without a sample are no gap yet
        ([(-3, 4)], 1),
        ([(-9, -3)], 1),
        ([(12, 14)], 0),  # too short for a gap
    ],
)
def test_a_sensor_that_dies_for_good_or_wakes_late_leaves_gaps_too(windows_s, gaps):
    windows = [(begin * SECOND, end * SECOND) for begin, end in windows_s]
    assert mean_power(every_second(*[5.0] * 12), windows, 1.0).gaps == gaps


def test_a_sensor_that_never_spoke_is_one_gap_a_window():
    found = mean_power([], [(0, 4 * SECOND), (5 * SECOND, 9 * SECOND)], 1.0)
    assert (found.gaps, found.samples, found.mean_w) == (2, 0, None)


def test_each_stretch_is_judged_by_the_period_that_the_sensor_had_then():
    """Another client of jtop may change its interval in the middle of a run."""
    fast = [PowerSample(t * SECOND // 2, 4.0, period_s=0.5) for t in range(9)]
    slow = [PowerSample(t * SECOND, 6.0, period_s=5.0) for t in (6, 11, 16)]
    found = mean_power([*fast, *slow], [(0, 16 * SECOND)], 5.0)
    assert (found.gaps, found.coverage) == (1, (4 + 10) / 16)  # 2 s at the change are a gap
    found = mean_power([*fast, *slow], [(0, 26 * SECOND)], 0.5)
    assert found.gaps == 1  # 10 s after the last one are none at its own period


@pytest.mark.parametrize("samples", [[], every_second(5.0)], ids=["none", "one"])
def test_power_takes_two_samples(samples):
    assert mean_power(samples, [(-SECOND, SECOND)], 1.0).mean_w is None


def test_no_window_and_an_empty_window_have_no_power():
    assert mean_power(every_second(5, 5), [], 1.0) == NOTHING
    empty = mean_power(every_second(5, 5), [(SECOND // 2, SECOND // 2)], 1.0)
    assert (empty.mean_w, empty.coverage) == (None, 0.0)


def test_a_sample_that_came_twice_counts_once():
    samples = [PowerSample(0, 3.0), PowerSample(0, 3.0), PowerSample(SECOND, 3.0)]
    assert mean_power(samples, [(0, SECOND)], 1.0) == WindowPower(
        mean_w=3.0, coverage=1.0, samples=2, gaps=0
    )


@given(data=st.data(), samples=traces(), period_s=st.sampled_from([0.1, 1.0, 2.0]))
def test_a_mean_lies_between_the_samples_and_coverage_between_0_and_1(data, samples, period_s):
    windows = data.draw(windows_over(samples))
    found = mean_power(samples, windows, period_s)
    assert 0.0 <= found.coverage <= 1.0
    assert (found.mean_w is None) == (found.coverage == 0.0)
    assert 0 <= found.samples <= len(samples)
    if found.mean_w is not None:
        watts = [sample.power_w for sample in samples]
        assert min(watts) - 1e-6 <= found.mean_w <= max(watts) + 1e-6


@given(data=st.data(), samples=traces())
def test_cutting_a_window_in_two_changes_nothing(data, samples):
    begin, middle, end = sorted(
        data.draw(st.integers(samples[0].t_ns, samples[-1].t_ns)) for _ in range(3)
    )
    whole = mean_power(samples, [(begin, end)], 1.0)
    parts = mean_power(samples, [(begin, middle), (middle, end)], 1.0)
    assert parts.coverage == pytest.approx(whole.coverage)
    assert parts.samples == whole.samples
    assert (parts.mean_w is None) == (whole.mean_w is None)
    if whole.mean_w is not None:
        assert parts.mean_w == pytest.approx(whole.mean_w, abs=1e-6)


@given(data=st.data(), samples=traces(), later_ns=st.integers(0, 10**15))
def test_when_the_clock_began_does_not_matter(data, samples, later_ns):
    windows = data.draw(windows_over(samples))
    found = mean_power(samples, windows, 1.0)
    moved = mean_power(
        [PowerSample(sample.t_ns + later_ns, sample.power_w) for sample in samples],
        [(begin + later_ns, end + later_ns) for begin, end in windows],
        1.0,
    )
    assert moved.coverage == found.coverage
    assert (moved.samples, moved.gaps) == (found.samples, found.gaps)
    if found.mean_w is not None:
        assert moved.mean_w == pytest.approx(found.mean_w, abs=1e-6)
