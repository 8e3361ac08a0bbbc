"""When a sample was taken, and of which time it is."""

from __future__ import annotations

import threading
import time

import pytest

from agent.adapters.power.sampling import SampledMeter


@pytest.mark.parametrize(
    ("averages", "moment_ns"),
    [(True, (100 + 520) // 2), (False, (500 + 520) // 2)],
    ids=["a mean is of the middle of its time", "a value is of its moment"],
)
def test_a_sample_is_stamped_by_the_time_of_its_sensor(averages: bool, moment_ns: int) -> None:
    clock_ns = [100]

    def read() -> float:
        clock_ns[0] += 20  # which reading takes
        return 5.0

    meter = SampledMeter("test", "RAIL", 60.0, read, averages=averages, now_ns=lambda: clock_ns[0])
    clock_ns[0] = 500
    with meter:
        (sample,) = meter.samples()
    assert (sample.t_ns, sample.power_w) == (moment_ns, 5.0)


def test_after_a_late_reading_the_next_is_half_a_period_away_at_least() -> None:
    """The mean of a counter over microseconds is that of its last step, whatever is drawn."""
    period_s, apart_s, enough = 0.02, [], threading.Event()
    ended_s = float("-inf")

    def read() -> float:
        nonlocal ended_s
        apart_s.append(time.monotonic() - ended_s)
        if len(apart_s) % 3 == 2:
            time.sleep(3 * period_s)
        if len(apart_s) == 10:
            enough.set()
        ended_s = time.monotonic()
        return 5.0

    with SampledMeter("test", "RAIL", period_s, read):
        assert enough.wait(20)
    assert min(apart_s) >= period_s / 2


def test_a_meter_that_is_read_in_time_keeps_its_period() -> None:
    begun_s: list[float] = []

    def read() -> float:
        begun_s.append(time.monotonic())
        return 5.0

    with SampledMeter("test", "RAIL", 0.02, read):
        deadline_s = time.monotonic() + 20
        while len(begun_s) < 10:
            assert time.monotonic() < deadline_s
            time.sleep(0.005)
    assert begun_s[9] - begun_s[0] >= 0.9 * 9 * 0.02
