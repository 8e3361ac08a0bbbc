"""Measurements of engines: latency, power, energy and their conditions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from agent.core.records.digests import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """Mean power of one rail in a window, W; meaningless without its rail and source.

    Attributes:
        ci95: 95 % interval of the mean, from how the rounds differ; None with a single one.
        idle: While the machine was at rest; None if that was not measured.
        excludes: What the rail leaves out on this machine, in words; empty if unknown.
        passed_over: Why sensors that go before this one were not used; empty if it is the first.
        period_s: Between two readings of the sensor.
        coverage: Share of the windows that its readings cover, 0..1.
        gaps: Stretches inside the windows in which the sensor was silent.
        check_mean: Of the same rail in the same windows by check_source; None if nothing else
            reads it.
    """

    mean: float
    ci95: tuple[float, float] | None
    idle: float | None
    rail: str
    excludes: str
    passed_over: str
    source: str
    period_s: float
    samples: int
    coverage: float
    gaps: int
    check_mean: float | None
    check_source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Wall time per inference in ms, warm-up removed (nearest-rank percentiles).

    Attributes:
        ci95_p50: 95 % interval; None of a single round.
        ci95_p99: The same of p99; None of so few runs that the slowest may well be faster.
        ci95_reason: Why one of them is None, in words; else empty.
    """

    p50: float
    p90: float
    p99: float
    ci95_p50: tuple[float, float] | None
    ci95_p99: tuple[float, float] | None
    ci95_reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Launches:
    """How the kernels of an engine get onto the GPU: all at once, or one by one.

    Attributes:
        reason: Why: both times, or what stood in the way of a graph.
    """

    by: Literal["CUDA graph", "plain launches"]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AtRate:
    """A candidate at the application's frame rate, resting between inferences.

    Attributes:
        rate_fps: As configured.
        throughput_fps: As reached.
        dropped: Share of the frames, 0..1, that came and were replaced by newer ones while the
            engine was busy.
        latency_ms: Of the inferences; slower than flat out where clocks fall in the pauses.
        energy_j: Joules per frame inferred, the pauses included.
        energy_net_j: The same above what the machine took at rest.
    """

    rate_fps: float
    throughput_fps: float
    dropped: float
    latency_ms: Latency
    power_w: Power | None
    power_reason: str
    energy_j: float | None
    energy_j_ci95: tuple[float, float] | None
    energy_net_j: float | None
    energy_reason: str
    samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What the report gives of a measurement: flat out, and at the application's frame rate.

    A reason is why the figure before it is None, in words; empty if it is known.

    Attributes:
        energy_j: Joules per frame (a batch has several), gross.
        energy_j_ci95: 95 % interval of energy_j, from how the rounds differ.
        energy_net_j: energy_j above what the machine took at rest; None if that is not known.
        memory_mb: What engine and runtime take of process and device, from the evaluation.
        settled: False if warm-up ended before its latency, or the machine's temperature, was flat.
        starved: Share of a window, or of the time that several threads would have run, for which
            they waited for a CPU, 0..1; None where the kernel does not count it.
        mode_change: That the power mode changed meanwhile, in words; else empty.
        harness_ns: What is in every time that is not the inference's: two readings of the clock
            and a call.
        temp_c: The highest around its windows; None if unknown.
        cpu_mhz: The lowest and the highest clock of its windows: their means over all cores where
            the kernel counts them, else that of the fastest as they began and ended.
        gpu_mhz: The same of the GPU.
        device_p50_ms: Median time of an inference by the device's own clock, copies left out.
        launched: How its kernels were launched; an application must do the same to get these
            figures. None where the runtime launches by itself.
        launched_reason: Why so: both times, or what stood in the way of a graph.
        at_rate: At measure.rate_fps, where that is set; power and energy are then judged by it.
    """

    latency_ms: Latency
    throughput_fps: float
    power_w: Power | None
    power_reason: str
    energy_j: float | None
    energy_j_ci95: tuple[float, float] | None
    energy_net_j: float | None
    energy_reason: str
    memory_mb: float | None
    memory_reason: str
    steady: bool
    throttled: bool | None
    throttled_reason: str
    settled: bool
    starved: float | None
    mode_change: str
    harness_ns: float | None
    samples: int
    rounds: int
    temp_c: float | None
    cpu_mhz: tuple[float, float] | None
    gpu_mhz: tuple[float, float] | None
    device_p50_ms: float | None
    device_reason: str
    launched: Literal["CUDA graph", "plain launches"] | None
    launched_reason: str
    at_rate: AtRate | None
    at_rate_reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement(Measured):
    """One candidate measured in interleaved rounds.

    Attributes:
        memory_mb: Not known to a measurement; the report takes it from the evaluation.
        eliminated: True if it was left out of the last rounds, since it could no longer win.
        p50_ratio_ci95: 95 % interval of its p50 over that of another candidate, by id, from the
            rounds that both were measured in; empty unless that was every round.
        sketch_ms: Up to 512 evenly spaced order statistics of the latencies, for plots.
    """

    engine: Digest
    memory_mb: float | None = None
    memory_reason: str = "it was not evaluated"
    eliminated: bool = False
    p50_ratio_ci95: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    sketch_ms: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerWindow:
    """A stretch in which power was taken, s on the monotonic clock.

    Attributes:
        candidate: Its id; "" while the machine was at rest.
        kind: "idle", "flat out" or "at rate".
    """

    candidate: str
    kind: str
    begin_s: float
    end_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerTrace:
    """Readings of the sensor while candidates were measured: (s, W), thinned for a plot."""

    points: tuple[tuple[float, float], ...] = ()
    windows: tuple[PowerWindow, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurements:
    """All candidates of one run, measured together; failures by candidate with their reason.

    Attributes:
        trace: Of power; empty where none was measured.
    """

    measured: Mapping[str, Measurement]
    failed: Mapping[str, str]
    trace: PowerTrace = field(default_factory=PowerTrace)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What the rounds measured so far show of a candidate."""

    p99_ms: float
    throughput_fps: float
