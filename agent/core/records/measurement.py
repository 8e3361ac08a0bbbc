"""What was measured of an engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from agent.core.records.digests import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """Mean power of a window; meaningless without its rail and source.

    Attributes:
        ci95: 95 % interval of the mean, from how the rounds differ; None with a single one.
        gaps: Stretches inside the windows in which the sensor was silent.
        check_mean: Mean of the same rail in the same windows by another way to read it; None
            where there is none.
        check_source: That way.
        excludes: What the rail leaves out on this machine, in words; empty where nobody knows.
        passed_over: Why sensors that go before this one were not used, in words; else empty.
    """

    mean: float
    idle: float | None
    rail: str
    source: str
    samples: int
    coverage: float
    period_s: float
    excludes: str = ""
    passed_over: str = ""
    gaps: int = 0
    ci95: tuple[float, float] | None = None
    check_mean: float | None = None
    check_source: str = ""


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
    mean: float
    ci95_reason: str = ""


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
        rate_fps: What was asked.
        throughput_fps: What was reached.
        dropped: Share of the frames, 0..1, that came and were replaced by newer ones while the
            engine was busy.
        latency_ms: Of the inferences; slower than flat out where clocks fall in the pauses.
        energy_j: Joules per frame inferred, the pauses included.
    """

    rate_fps: float
    throughput_fps: float
    dropped: float
    latency_ms: Latency
    power: Power | None
    power_reason: str
    energy_j: float | None
    energy_ci95_j: tuple[float, float] | None
    energy_net_j: float | None
    samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One candidate measured in interleaved rounds.

    Attributes:
        power: None where it can't be measured; `power_reason` then says why.
        energy_j: Joules per frame (a batch has several), gross; None as for power.
        energy_ci95_j: 95 % interval of energy_j, from how the rounds differ.
        energy_net_j: The same above what the machine took at rest; None if that is not known.
        at_rate: At the application's frame rate; None where none was asked.
        device_p50_ms: Median time of an inference by the device's own clock, copies left out;
            None where the runtime has no such clock.
        launches: How its kernels were launched; None where the runtime does that by itself.
        behind: True if it was left out at the end, since it could no longer win.
        settled: False if warm-up ended before its latency, or the machine's temperature, was flat.
        starved: For which share of a window, or of the time that its threads would have run where
            those are several, they waited for a CPU, 0..1; None where the kernel does not tell.
        mode_change: That the power mode changed meanwhile, in words; else empty.
        harness_ns: What is in every time that is not the inference's: two readings of the clock
            and a call.
        temp_c: The highest around its windows; None if unknown.
        cpu_mhz: The lowest and the highest clock of its windows: their means over all cores where
            the kernel counts them, else that of the fastest as they began and ended.
        gpu_mhz: The same of the GPU.
        against: 95 % interval of its p50 over that of others, by candidate, from the rounds that
            both were measured in; of none where that was not every round.
        sketch_ms: Up to 512 evenly spaced order statistics of the latencies, for plots.
    """

    engine: Digest
    latency_ms: Latency
    throughput_fps: float
    power: Power | None
    power_reason: str
    energy_j: float | None
    steady: bool
    throttled: bool | None
    throttled_reason: str
    samples: int
    rounds: int
    sketch_ms: tuple[float, ...]
    temp_c: float | None
    device_p50_ms: float | None = None
    behind: bool = False
    energy_net_j: float | None = None
    energy_ci95_j: tuple[float, float] | None = None
    at_rate: AtRate | None = None
    cpu_mhz: tuple[float, float] | None = None
    gpu_mhz: tuple[float, float] | None = None
    settled: bool = True
    starved: float | None = None
    mode_change: str = ""
    harness_ns: float | None = None
    launches: Launches | None = None
    against: Mapping[str, tuple[float, float]] = field(default_factory=dict)


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
    """What the sensor told during a sitting, thinned for a plot: (s, W), and the windows in it."""

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
