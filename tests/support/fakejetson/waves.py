"""Power over time that is known exactly, played into a sensor's files."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from itertools import pairwise

Wave = Callable[[float], float]
"""Watts at a time in seconds since the wave began."""

_STEP_S = 0.005


def constant(watts: float) -> Wave:
    return lambda _: watts


def square(low_w: float, high_w: float, period_s: float) -> Wave:
    """Half of each period low, the other half high."""
    return lambda t: low_w if t % period_s < period_s / 2 else high_w


def sine(low_w: float, high_w: float, period_s: float) -> Wave:
    """From its middle upward."""
    middle_w, reach_w = (low_w + high_w) / 2, (high_w - low_w) / 2
    return lambda t: middle_w + reach_w * math.sin(2 * math.pi * t / period_s)


def ramp(from_w: float, to_w: float, duration_s: float) -> Wave:
    """A straight line, and its end from then on."""
    return lambda t: from_w + (to_w - from_w) * min(t / duration_s, 1.0)


class Player:
    """Sets a rail to its wave until left, and remembers what it has set and when.

    The truth is what was really written, not what was planned: a late thread writes late.
    """

    def __init__(self, wave: Wave, put: Callable[[float], None]) -> None:
        self._wave = wave
        self._put = put
        self._written: list[tuple[int, float]] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._play, name="wave")

    def __enter__(self) -> Player:
        self.begin_ns = time.monotonic_ns()
        self._write(self._wave(0.0))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def mean_w(self, begin_ns: int, end_ns: int) -> float:
        """Return the true mean power of a window that has passed."""
        steps = [*self._written, (end_ns, 0.0)]
        joules = sum(
            watts * max(0, min(until, end_ns) - max(since, begin_ns))
            for (since, watts), (until, _) in pairwise(steps)
        )
        return joules / (end_ns - begin_ns)

    def watts_near(self, t_ns: int, slack_s: float) -> set[float]:
        """Return every value that the rail had within so much of a time."""
        slack_ns = int(slack_s * 1e9)
        before = [watts for t, watts in self._written if t <= t_ns - slack_ns]
        near = {w for t, w in self._written if abs(t - t_ns) < slack_ns}
        return near | {before[-1]} if before else near

    def _play(self) -> None:
        while not self._stopped.wait(_STEP_S):
            watts = self._wave((time.monotonic_ns() - self.begin_ns) / 1e9)
            if watts != self._written[-1][1]:
                self._write(watts)

    def _write(self, watts: float) -> None:
        self._put(watts)
        self._written.append((time.monotonic_ns(), watts))
