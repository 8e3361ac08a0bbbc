"""Mean power of time windows, from a sensor's samples. Pure and numpy-free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

_GAP = 2.5  # sample periods without a sample are a gap and not integrated
MOST_W = 10_000.0
"""More is no reading of a machine that this is for, where its board file has no maximum: NVML
reports 4294967295 mW where it has none (nv-monitor issue 17)."""


@dataclass(frozen=True, slots=True)
class PowerSample:
    """Power at one time.

    Attributes:
        t_ns: The sensor's sample time on the monotonic clock.
        period_s: Of the sensor at that time, if it may change; None for the meter's.
    """

    t_ns: int
    power_w: float
    period_s: float | None = None


@dataclass(frozen=True, slots=True)
class ClockTotal:
    """Time that clocks have run since boot, s, and the sum of frequency times time, MHz s."""

    seconds: float
    mhz_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """State of a machine at one moment; None where it is unknown.

    Attributes:
        temp_c: Of the hottest zone.
        throttle_events: Counted since boot.
        cooling: Number of active cooling devices that slow down CPU or GPU.
        cpu_mhz: Clock of the fastest core.
        gpu_mhz: Clock of the GPU.
        cpu_clocked: Totals of the clocks of all clusters.
        gpu_clocked: Of the GPU.
        waited_ns: Time that the threads of this process have waited for a CPU.
        ran_ns: Time that they have run on one.
    """

    temp_c: float | None = None
    throttle_events: int | None = None
    cooling: int | None = None
    cpu_mhz: float | None = None
    gpu_mhz: float | None = None
    cpu_clocked: ClockTotal | None = None
    gpu_clocked: ClockTotal | None = None
    waited_ns: int | None = None
    ran_ns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowPower:
    """Power over one or more windows.

    Attributes:
        mean_w: Trapezoidal mean over the covered time; None without two samples.
        coverage: Share of the windows' time between samples at most 2.5 periods apart, 0..1.
        samples: Samples inside the windows.
        gaps: Stretches of the windows without a sample for 2.5 periods, counted per window.
    """

    mean_w: float | None
    coverage: float
    samples: int
    gaps: int


def mean_power(
    samples: Sequence[PowerSample],
    windows_ns: Sequence[tuple[int, int]],
    period_s: float,
    most_w: float = MOST_W,
) -> WindowPower:
    """Integrate power over the windows by trapezoids, at the sensor's sample times.

    Args:
        samples: Ordered by time.
        windows_ns: (begin, end) on the same clock, ns; they must not overlap.
        period_s: The sensor's sample period.
        most_w: Samples above it are left out, as if the sensor had been silent.
    """
    samples = [sample for sample in samples if sample.power_w <= most_w]
    joules = covered_ns = 0.0
    used: set[int] = set()
    gaps = _gaps_at_ends(samples, windows_ns, period_s)
    for before, after in pairwise(samples):
        longest_ns = min(_longest_ns(before, period_s), _longest_ns(after, period_s))
        near = after.t_ns - before.t_ns <= longest_ns
        for begin, end in windows_ns:
            low, high = max(begin, before.t_ns), min(end, after.t_ns)
            if high <= low:
                continue
            if not near:
                gaps += 1
                continue
            middle = _interpolated_w(before, after, (low + high) / 2)
            joules += middle * (high - low) / 1e9
            covered_ns += high - low
    for sample in samples:
        if any(begin <= sample.t_ns <= end for begin, end in windows_ns):
            used.add(sample.t_ns)
    whole_ns = sum(end - begin for begin, end in windows_ns)
    return WindowPower(
        mean_w=joules / (covered_ns / 1e9) if covered_ns else None,
        coverage=covered_ns / whole_ns if whole_ns else 0.0,
        samples=len(used),
        gaps=gaps,
    )


def _longest_ns(sample: PowerSample, period_s: float) -> float:
    return _GAP * (sample.period_s or period_s) * 1e9


def _gaps_at_ends(
    samples: Sequence[PowerSample], windows_ns: Sequence[tuple[int, int]], period_s: float
) -> int:
    """Count gaps before the first sample and after the last one."""
    if not samples:
        return sum(end - begin > _GAP * period_s * 1e9 for begin, end in windows_ns)
    first, last = samples[0], samples[-1]
    return sum(
        (min(end, first.t_ns) - begin > _longest_ns(first, period_s))
        + (end - max(begin, last.t_ns) > _longest_ns(last, period_s))
        for begin, end in windows_ns
    )


def _interpolated_w(before: PowerSample, after: PowerSample, t_ns: float) -> float:
    share = (t_ns - before.t_ns) / (after.t_ns - before.t_ns)
    return before.power_w + share * (after.power_w - before.power_w)
