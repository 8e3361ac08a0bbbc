"""The raw times and readings of one candidate, and their reduction to a measurement. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from agent.core.measurement.latency import interval, sketch, steady, summarize
from agent.core.measurement.power import (
    MOST_W,
    ClockTotal,
    Conditions,
    PowerSample,
    WindowPower,
    mean_power,
)
from agent.core.records import AtRate, Digest, Launches, Measurement, Power

_LEAST_COVERAGE = 0.5  # power of a window less covered than this is not reported
_FEW_OUTLIERS = 3  # a sensor that gives more of them is broken
_NO_DEVICE_CLOCK = "this runtime has no clock of the device"
_NO_RATE = "measure.rate_fps is not set"
_OWN_LAUNCHES = "this runtime launches by itself"
_UNKNOWN_THROTTLING = "this machine has no throttling flag that quantd reads"

Span = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """The readings of a power sensor during a run, and which sensor it was.

    Attributes:
        samples: In order of time.
        most_w: More than the rail can carry.
        check: Those of another sensor of the same rail.
    """

    samples: Sequence[PowerSample]
    rail: str
    source: str
    period_s: float
    most_w: float = MOST_W
    check: Readings | None = None


@dataclass(slots=True)
class Recording:
    """The raw times and readings of one candidate.

    Attributes:
        batch: Frames of an inference.
        rounds_ns: Wall time of every inference, by round.
        windows_ns: Begin and end of each round.
        paced_ns: As rounds_ns, at the application's frame rate; empty where none was asked.
        paced_windows_ns: Begin and end of each of these.
        dropped: Inferences that the rate asked for and that never began.
        conditions: Before and after each window, in turn; each paced window follows its other.
        device_ms: Time of every inference by the device's own clock, flat out.
        settled: False if warm-up ended before its latency, or the machine's temperature, was flat.
        launches: How its kernels were launched; None where the runtime does that by itself.
    """

    batch: int
    rounds_ns: list[NDArray[np.int64]] = field(default_factory=list)
    windows_ns: list[Span] = field(default_factory=list)
    paced_ns: list[NDArray[np.int64]] = field(default_factory=list)
    paced_windows_ns: list[Span] = field(default_factory=list)
    dropped: int = 0
    conditions: list[Conditions] = field(default_factory=list)
    device_ms: list[float] = field(default_factory=list)
    settled: bool = True
    launches: Launches | None = None

    @property
    def spans_ns(self) -> list[Span]:
        """Every window, in the order of the conditions around them."""
        if not self.paced_windows_ns:
            return self.windows_ns
        pairs = zip(self.windows_ns, self.paced_windows_ns, strict=True)
        return [span for pair in pairs for span in pair]


class _Consumption(TypedDict):
    power_w: Power | None
    power_reason: str
    energy_j: float | None
    energy_j_ci95: tuple[float, float] | None
    energy_net_j: float | None
    energy_reason: str


def to_measurement(
    seen: Recording,
    engine: Digest,
    readings: Readings | str,
    *,
    idle_ns: Span | None,
    harness_ns: float | None = None,
    rate_fps: float = 0.0,
) -> Measurement:
    """Reduce a recording to a measurement.

    Args:
        seen: At least one round.
        engine: What was measured.
        readings: Of the power sensor, or why there are none.
        idle_ns: When the machine was at rest, if it was.
        harness_ns: What is in every time that is not the inference's.
        rate_fps: The frame rate of the paced rounds.
    """
    throttled = _throttled(seen.conditions)
    return Measurement(
        engine=engine,
        latency_ms=summarize(seen.rounds_ns),
        throughput_fps=_frames(seen.rounds_ns, seen.batch) / _seconds(seen.windows_ns),
        **_consumption(seen.rounds_ns, seen.windows_ns, seen.batch, readings, idle_ns),
        steady=steady(seen.rounds_ns),
        settled=seen.settled,
        mode_change="",
        harness_ns=harness_ns,
        launched=seen.launches.by if seen.launches else None,
        launched_reason=seen.launches.reason if seen.launches else _OWN_LAUNCHES,
        starved=_starved_share(seen.conditions, seen.spans_ns),
        throttled=throttled,
        throttled_reason=_UNKNOWN_THROTTLING if throttled is None else "",
        samples=sum(one.size for one in seen.rounds_ns),
        rounds=len(seen.rounds_ns),
        sketch_ms=sketch(seen.rounds_ns),
        temp_c=max((c.temp_c for c in seen.conditions if c.temp_c is not None), default=None),
        device_p50_ms=float(np.median(seen.device_ms)) if seen.device_ms else None,
        device_reason="" if seen.device_ms else _NO_DEVICE_CLOCK,
        cpu_mhz=_min_max(_mean_clocks_mhz([c.cpu_clocked for c in seen.conditions]))
        or _min_max([c.cpu_mhz for c in seen.conditions]),
        gpu_mhz=_min_max(_mean_clocks_mhz([c.gpu_clocked for c in seen.conditions]))
        or _min_max([c.gpu_mhz for c in seen.conditions]),
        at_rate=_at_rate(seen, readings, idle_ns, rate_fps) if seen.paced_ns else None,
        at_rate_reason="" if seen.paced_ns else _NO_RATE,
    )


def _at_rate(
    seen: Recording, readings: Readings | str, idle_ns: Span | None, rate_fps: float
) -> AtRate:
    count = sum(one.size for one in seen.paced_ns)
    return AtRate(
        rate_fps=rate_fps,
        throughput_fps=_frames(seen.paced_ns, seen.batch) / _seconds(seen.paced_windows_ns),
        dropped=seen.dropped / (seen.dropped + count),
        latency_ms=summarize(seen.paced_ns),
        **_consumption(seen.paced_ns, seen.paced_windows_ns, seen.batch, readings, idle_ns),
        samples=count,
    )


def _frames(rounds_ns: Sequence[NDArray[np.int64]], batch: int) -> int:
    return batch * sum(one.size for one in rounds_ns)


def _seconds(windows_ns: Sequence[Span]) -> float:
    return sum(end - begin for begin, end in windows_ns) / 1e9


def _min_max(values: Sequence[float | None]) -> tuple[float, float] | None:
    known = [value for value in values if value is not None]
    return (min(known), max(known)) if known else None


def _mean_clocks_mhz(clocked: Sequence[ClockTotal | None]) -> list[float | None]:
    """Return the mean clock of each window, MHz, from what was counted before and after it."""
    return [
        (after.mhz_s - before.mhz_s) / (after.seconds - before.seconds)
        for before, after in zip(clocked[0::2], clocked[1::2], strict=True)
        if before is not None and after is not None and after.seconds > before.seconds
    ]


def _throttled(conditions: Sequence[Conditions]) -> bool | None:
    """Return whether the machine slowed itself inside a window; None if neither is known.

    Events are counted all the time, cooling is seen as windows begin and end.
    """
    events = [
        (before.throttle_events, after.throttle_events)
        for before, after in zip(conditions[0::2], conditions[1::2], strict=True)
    ]
    counted = [b > a for a, b in events if a is not None and b is not None]
    cooled = [one.cooling > 0 for one in conditions if one.cooling is not None]
    return any(counted + cooled) if counted or cooled else None


def _starved_share(conditions: Sequence[Conditions], spans_ns: Sequence[Span]) -> float | None:
    """Return for which share of a window threads waited for a CPU; None if that is not known.

    Of the window, or of the time that they would have run where that is more: sixteen threads
    that each wait for a hundredth of it wait no more than one does. The median of the windows:
    one that was disturbed moves p50 as little.
    """
    shares = []
    for before, after, (begin, end) in zip(
        conditions[0::2], conditions[1::2], spans_ns, strict=True
    ):
        waited_ns, ran_ns = (
            max(b - a, 0) if a is not None and b is not None else None
            for a, b in ((before.waited_ns, after.waited_ns), (before.ran_ns, after.ran_ns))
        )
        if waited_ns is not None and ran_ns is not None:
            shares.append(waited_ns / max(end - begin, ran_ns + waited_ns))
    return float(np.median(shares)) if shares else None


def _consumption(
    rounds_ns: Sequence[NDArray[np.int64]],
    windows_ns: Sequence[Span],
    batch: int,
    readings: Readings | str,
    idle_ns: Span | None,
) -> _Consumption:
    if isinstance(readings, str):
        return _unknown(readings)
    if reason := _outliers(readings, windows_ns):
        return _unknown(reason)
    load = _power(readings, windows_ns)
    if load.mean_w is None or load.coverage < _LEAST_COVERAGE:
        return _unknown(f"{readings.source} covered only {load.coverage:.0%} of the windows")
    if load.mean_w <= 0.0:
        return _unknown(f"{readings.source} reported {load.mean_w:g} W for {readings.rail}")
    rest_w = _mean_w(readings, [idle_ns]) if idle_ns else None
    if rest_w is not None and rest_w <= 0.0:
        rest_w = None
    rounds_w = [_power(readings, [window]).mean_w for window in windows_ns]
    rounds_j = [
        watts * _seconds([window]) / (one.size * batch)
        for watts, window, one in zip(rounds_w, windows_ns, rounds_ns, strict=True)
        if watts is not None
    ]
    frame_s = _seconds(windows_ns) / _frames(rounds_ns, batch)
    other = readings.check
    return _Consumption(
        power_w=Power(
            mean=load.mean_w,
            check_mean=_mean_w(other, windows_ns) if other else None,
            check_source=other.source if other else "",
            ci95=interval(load.mean_w, [watts for watts in rounds_w if watts is not None]),
            idle=rest_w,
            rail=readings.rail,
            source=readings.source,
            excludes="",
            passed_over="",
            samples=load.samples,
            coverage=load.coverage,
            gaps=load.gaps,
            period_s=readings.period_s,
        ),
        power_reason="",
        energy_j=load.mean_w * frame_s,
        energy_j_ci95=interval(load.mean_w * frame_s, rounds_j),
        energy_net_j=(load.mean_w - rest_w) * frame_s if rest_w is not None else None,
        energy_reason="",
    )


def _unknown(reason: str) -> _Consumption:
    return _Consumption(
        power_w=None, power_reason=reason, energy_j=None, energy_j_ci95=None, energy_net_j=None,
        energy_reason=reason,
    )  # fmt: skip


def _outliers(readings: Readings, windows_ns: Sequence[Span]) -> str:
    """Return why the readings are no measurement if several in the windows can't be true."""
    found = [
        one.power_w
        for one in readings.samples
        if not one.power_w <= readings.most_w  # nan, too
        and any(begin <= one.t_ns <= end for begin, end in windows_ns)
    ]
    if len(found) <= _FEW_OUTLIERS:
        return ""
    return (
        f"{readings.source} reported {found[-1]:g} W for {readings.rail}, more than the "
        f"{readings.most_w:g} W that it can be, {len(found)} times"
    )


def _power(readings: Readings, windows_ns: Sequence[Span]) -> WindowPower:
    return mean_power(readings.samples, windows_ns, readings.period_s, readings.most_w)


def _mean_w(readings: Readings, windows_ns: Sequence[Span]) -> float | None:
    load = _power(readings, windows_ns)
    return load.mean_w if load.coverage >= _LEAST_COVERAGE else None
