"""When a sample was taken, and of which time it is."""

from __future__ import annotations

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
