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
    """Reports progress with a note on the candidate that is warmed up or measured.

    Attributes:
        progress: Called with each report.
        meter: Of the power in notes; None if power is not measured.
        steps: All steps of the stage, for `progress`.
        done: Steps done.
        candidate: Its id.
        activity: What is done with it, before its id in a note.
        temp_c: Temperature when the window began; None if unknown.
    """

    progress: Progress
    meter: PowerMeter | None
    steps: int
    done: int = 0
    candidate: str = ""
    activity: str = ""
    temp_c: float | None = None

    def begin(self, candidate: str, activity: str = "", seen: Recording | None = None) -> None:
        """Show the next candidate, with the figures of its own last window if it had one."""
        self.candidate, self.activity, self.temp_c = candidate, activity, None
        if seen is None or not seen.rounds_ns:
            self._progress()
            return
        self.temp_c = seen.conditions[-1].temp_c
        self.show(seen.rounds_ns[-1], seen.windows_ns[-1])

    def show(self, times_ns: NDArray[np.int64], window_ns: Span) -> None:
        """Show the median of some runs, ns, the mean power of a window and the temperature."""
        figures = [f"p50 {np.median(times_ns) / 1e6:.2f} ms"]
        watts = self._watts(window_ns)
        if watts is not None:
            figures.append(f"{watts:.2f} W")
        if self.temp_c is not None:
            figures.append(f"{self.temp_c:.0f} °C")
        self._progress(*figures)

    def _progress(self, *figures: str) -> None:
        note = ", ".join([f"{self.activity} {self.candidate}".lstrip(), *figures])
        self.progress(self.done, self.steps, note, self.candidate)

    def _watts(self, window_ns: Span) -> float | None:
        if self.meter is None:
            return None
        with suppress(PowerError):
            samples = self.meter.samples()
            first = bisect_left(samples, window_ns[0], key=lambda one: one.t_ns)
            near = samples[max(first - 1, 0) :]
            return mean_power(near, [window_ns], self.meter.period_s, self.meter.most_w).mean_w
        return None
