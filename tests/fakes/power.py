"""A power meter whose sensor and clock tests turn."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from agent.core.errors import PowerError
from agent.core.measurement.power import MOST_W, PowerSample
from tests.fakes.runners import FakeClock


@dataclass
class FakePowerMeter:
    """Samples `watts(time in ns)` of the fake clock every period while it is entered.

    Attributes:
        broken: Why `samples` fails; empty if it doesn't.
        absent: Why there is no sensor; empty if there is one.
        gone_ns: When the sensor vanishes.
    """

    clock: FakeClock
    watts: Callable[[int], float] = lambda _: 5.0
    period_s: float = 0.1
    broken: str = ""
    source: str = "fake"
    rail: str = "VDD_IN"
    absent: str = ""
    gone_ns: float = math.inf
    most_w: float = MOST_W

    def __post_init__(self) -> None:
        self._since_ns = 0
        self._until_ns: int | None = None

    def __enter__(self) -> FakePowerMeter:
        if self.absent:
            raise PowerError(self.absent, code="no_sensor")
        self._since_ns = self.clock.now_ns
        return self

    def __exit__(self, *_: object) -> None:
        self._until_ns = self.clock.now_ns

    def samples(self) -> list[PowerSample]:
        if self.broken:
            raise PowerError(self.broken)
        step = int(self.period_s * 1e9)
        end_ns = self.clock.now_ns if self._until_ns is None else self._until_ns
        times = range(self._since_ns, end_ns + step, step)
        return [PowerSample(t, self.watts(t)) for t in times if t < self.gone_ns]
