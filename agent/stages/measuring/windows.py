"""The loops that take the times: one flat out, one at the application's frame rate.

Only `run()` lies between the two readings of the clock that time a run. Anything else
is done between runs, and kept short.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.core.measurement.recording import Span
from agent.ports import Clock, EngineRunner

_LEAST_RUNS = 5  # per window, however slow the candidate
_MOST_RUNS = 1_000_000
_SHOWN_RUNS = 1000  # the newest ones, in the note of progress
_EVERY_NS = 1_000_000_000
_CALLS = 2000

Show = Callable[[NDArray[np.int64], Span], None]
"""Called about once a second, between runs: (the newest runs' times, ns; begin and now, ns)."""


@dataclass(frozen=True, slots=True)
class Window:
    """The length of a measuring window, and what it reports to.

    Attributes:
        length_ns: How long it lasts.
        show: Called about once a second.
        run_ns: What a run takes as far as is known, so that the array of times has room.
    """

    clock: Clock
    length_ns: int
    show: Show
    run_ns: float = 0.0

    @property
    def room(self) -> int:
        """Runs that fit into the window, and half as many again."""
        runs = 1.5 * self.length_ns / self.run_ns if self.run_ns else 0.0
        return min(max(int(runs), 1024), _MOST_RUNS)


def flat_out(
    runner: EngineRunner, window: Window, device_ms: list[float]
) -> tuple[NDArray[np.int64], Span]:
    """Return the time of every run in a window, ns, and the window's (begin, end).

    Times are written into an array that grows, between runs, by doubling if it was made too
    small. Where the device has a clock of its own, its times are added to `device_ms`, also
    between runs.
    """
    has_clock = runner.device_ms() is not None  # it has run before: warm-up, and to fill the caches
    times_ns = np.zeros(window.room, np.int64)
    run, now_ns, length_ns = runner.run, window.clock.monotonic_ns, window.length_ns
    count = 0
    start = end = now_ns()
    due = start + _EVERY_NS
    while count < _MOST_RUNS and (end - start < length_ns or count < _LEAST_RUNS):
        begin = now_ns()
        run()
        end = now_ns()
        times_ns[count] = end - begin
        count += 1
        if has_clock:
            device_ms.append(runner.device_ms() or 0.0)
        if count == times_ns.size:
            times_ns = np.concatenate([times_ns, np.zeros_like(times_ns)])
        if end >= due:
            due = end + _EVERY_NS
            window.show(times_ns[max(count - _SHOWN_RUNS, 0) : count], (start, end))
    return times_ns[:count].copy(), (start, end)


def paced(
    runner: EngineRunner, window: Window, period_ns: int
) -> tuple[NDArray[np.int64], Span, int]:
    """Run as an application does that takes the newest frame of a live camera, and waits for it.

    A frame that comes while the engine is busy waits; the next one replaces it.

    Returns:
        The time of every run, ns; the window, whole periods long, ns; how many were replaced.
    """
    clock = window.clock
    frames = max(round(window.length_ns / period_ns), 1)
    times_ns: list[int] = []
    start = clock.monotonic_ns()
    due = start + _EVERY_NS
    frame = dropped = 0
    while frame < frames:
        clock.sleep(max(start + frame * period_ns - clock.monotonic_ns(), 0) / 1e9)
        begin = clock.monotonic_ns()
        runner.run()
        end = clock.monotonic_ns()
        times_ns.append(end - begin)
        newest = max(frame + 1, (end - start) // period_ns)
        dropped += min(newest, frames) - frame - 1
        frame = newest
        if end >= due:
            due = end + _EVERY_NS
            window.show(np.array(times_ns[-_SHOWN_RUNS:], np.int64), (start, end))
    clock.sleep(max(start + frames * period_ns - clock.monotonic_ns(), 0) / 1e9)
    return np.array(times_ns, np.int64), (start, clock.monotonic_ns()), dropped


def overhead_ns(clock: Clock) -> float:
    """Return what the loops add to every time: the median of calls that do nothing."""
    now_ns, run = clock.monotonic_ns, _Nothing().run
    times_ns = np.zeros(_CALLS, np.int64)
    for index in range(_CALLS):
        begin = now_ns()
        run()
        end = now_ns()
        times_ns[index] = end - begin
    return float(np.median(times_ns))


class _Nothing:
    def run(self) -> None:
        pass
