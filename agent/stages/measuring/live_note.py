"""The note of progress while a candidate is measured: p50, power, temperature."""

from __future__ import annotations

from bisect import bisect_left
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.core.errors import PowerError
from agent.core.measurement.power import mean_power
from agent.core.measurement.recording import Recording, Span
from agent.ports import PowerMeter, Progress


@dataclass(slots=True)
class LiveNote:
    """The note beside a bar of progress.

    Attributes:
        progress: Shows it.
        meter: For the power; None if it is not measured.
        steps: Of the whole bar.
        done: Of them.
        name: Of the candidate on the bench.
        temp_c: As the window began; None if unknown.
    """

    progress: Progress
    meter: PowerMeter | None
    steps: int
    done: int = 0
    name: str = ""
    temp_c: float | None = None

    def of(self, name: str, seen: Recording | None = None) -> None:
        """Begin with a candidate; show the figures of its last window, if it had one."""
        self.name, self.temp_c = name, None
        if seen is None or not seen.rounds_ns:
            self.progress(self.done, self.steps, name)
            return
        self.temp_c = seen.conditions[-1].temp_c
        self.show(seen.rounds_ns[-1], seen.windows_ns[-1])

    def show(self, times_ns: NDArray[np.int64], window_ns: Span) -> None:
        """Show the median of some runs, the mean power of a window and the temperature."""
        note = [self.name, f"p50 {np.median(times_ns) / 1e6:.2f} ms"]
        watts = self._watts(window_ns)
        if watts is not None:
            note.append(f"{watts:.2f} W")
        if self.temp_c is not None:
            note.append(f"{self.temp_c:.0f} °C")
        self.progress(self.done, self.steps, ", ".join(note))

    def _watts(self, window_ns: Span) -> float | None:
        if self.meter is None:
            return None
        with suppress(PowerError):
            samples = self.meter.samples()
            first = bisect_left(samples, window_ns[0], key=lambda one: one.t_ns)
            near = samples[max(first - 1, 0) :]
            return mean_power(near, [window_ns], self.meter.period_s).mean_w
        return None
