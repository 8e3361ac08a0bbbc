"""A thread that reads a sensor periodically, for meters without a service of their own."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence

from agent.core.errors import PowerError
from agent.core.measurement.power import MOST_W, PowerSample

_JOIN_S = 2.0


class SampledMeter:
    """A PowerMeter over a function that reads watts.

    A failed read leaves a gap in the samples, which the integration detects.

    Args:
        source: Technology, as reports show it.
        rail: Name of the measured rail.
        period_s: Time between reads.
        read: Returns the power now, W; raises PowerError if the sensor is gone.
        averages: True if it returns the mean since its last call; the sample's time is then the
            middle between the calls.
        now_ns: Monotonic clock for the times of samples, ns.
    """

    def __init__(
        self,
        source: str,
        rail: str,
        period_s: float,
        read: Callable[[], float],
        *,
        averages: bool = False,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.source = source
        self.rail = rail
        self.period_s = period_s
        self.most_w = MOST_W
        self._read = read
        self._averages = averages
        self._now_ns = now_ns
        self._read_ns = now_ns()
        self._samples: list[PowerSample] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"power-{source}", daemon=True)

    def __enter__(self) -> SampledMeter:
        """Read once, so that a broken sensor fails here; then start sampling."""
        self._take()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(_JOIN_S)

    def samples(self) -> Sequence[PowerSample]:
        """See `ports.PowerMeter`."""
        return tuple(self._samples)

    def _run(self) -> None:
        due = time.monotonic() + self.period_s
        while not self._stopped.wait(max(0.0, due - time.monotonic())):
            with contextlib.suppress(PowerError):
                self._take()
            # half a period at least: the mean over a shorter time is that of a counter's last step
            due = max(due + self.period_s, time.monotonic() + self.period_s / 2)

    def _take(self) -> None:
        begin_ns = self._read_ns if self._averages else self._now_ns()
        power_w = self._read()
        self._read_ns = self._now_ns()
        self._samples.append(PowerSample((begin_ns + self._read_ns) // 2, power_w))
