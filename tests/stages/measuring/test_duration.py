"""How long the windows are: long enough for the sensor that decides, but for no slow one."""

from __future__ import annotations

from itertools import repeat

import pytest

from agent.config import Measure
from agent.core.choice.candidates import ENOUGH_SAMPLES
from agent.core.measurement.power import Conditions, PowerSample
from agent.stages.measuring.duration import stretched
from agent.stages.measuring.measure import measure
from tests.fakes.power import FakePowerMeter
from tests.fakes.runners import FakeClock, FakeRunner
from tests.support.candidates import engine


class LateMeter(FakePowerMeter):
    """As jtop: it sleeps for its period after each sample, so every sample is a little late."""

    late = 1.004

    def samples(self) -> list[PowerSample]:
        step = self.period_s * self.late * 1e9
        count = int(self.clock.now_ns / step) + 1
        return [PowerSample(int(number * step), 5.0) for number in range(count)]


@pytest.mark.parametrize("phase_s", [0.0, 0.1, 0.2, 0.3, 0.4])
def test_a_meter_that_is_always_late_gives_enough_samples_all_the_same(phase_s: float) -> None:
    clock = FakeClock()
    clock.sleep(phase_s)
    meter = LateMeter(clock, period_s=0.5)
    found = measure(
        {"a": engine(name="a"), "b": engine(name="b")},
        stretched(Measure(warmup_s=1.0, idle_s=2.0), meter.period_s),
        make_runner=lambda _: FakeRunner(clock, repeat(10.0)),
        tensors=lambda _: [{}],
        power=[meter],
        clock=clock,
        conditions=Conditions,
        seed=1,
        progress=lambda *_: None,
    ).measured
    assert all(one.power_w.samples >= ENOUGH_SAMPLES for one in found.values())


@pytest.mark.parametrize(
    ("duration_s", "period_s", "expected_s"),
    [(1.0, 0.1, 30.0), (30.0, 0.5, 60.0), (90.0, 0.5, 90.0), (30.0, 1.0, 120.0)],
)
def test_windows_are_as_long_as_the_sensor_needs(duration_s, period_s, expected_s):
    assert stretched(Measure(duration_s=duration_s), period_s).duration_s == expected_s


@pytest.mark.parametrize("period_s", [5.0, 60.0])
def test_a_sensor_slower_than_a_second_is_not_waited_for(period_s):
    """Another client of jtop may have asked for a sample every five seconds, or fewer."""
    assert stretched(Measure(), period_s) == stretched(Measure(), 1.0)
