"""What the report says of a measurement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from agent.core.records import AtRate, Evaluation, Latency, Measurement, Power

_NO_DEVICE_CLOCK = "this runtime tells no time of the device itself"
_OWN_LAUNCHES = "this runtime launches by itself"
_NO_RATE = "measure.rate_fps is not set"


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyFacts:
    """Wall time per inference, ms.

    Attributes:
        ci95_p50: Null of a single round.
        ci95_p99: Null of so few runs that the slowest may well be faster than p99.
        ci95_reason: Why one of them is null; empty if none is.
    """

    p50: float
    p90: float
    p99: float
    ci95_p50: tuple[float, float] | None
    ci95_p99: tuple[float, float] | None
    ci95_reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerFacts:
    """Power of one rail, W.

    Attributes:
        ci95: Null where there was one round only.
        passed_over: Why sensors that go before this one were not used; empty if it is the first.
        period_s: Between two readings of the sensor.
        check_mean: By check_source, another way to read the same rail; null where there is none.
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
class AtRateFacts:
    """What was measured at the application's frame rate.

    Attributes:
        dropped: Share of the frames, 0..1, for which the engine was too slow.
    """

    rate_fps: float
    throughput_fps: float
    dropped: float
    latency_ms: LatencyFacts
    power_w: PowerFacts | None
    power_reason: str
    energy_j: float | None
    energy_j_ci95: tuple[float, float] | None
    energy_net_j: float | None
    energy_reason: str
    samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was measured flat out, and under which flags.

    Attributes:
        cpu_mhz: The lowest and the highest clock of the windows: their means over all cores where
            the kernel counts them, else that of the fastest as they began and ended; null where
            the machine tells neither.
        gpu_mhz: The same of the GPU.
        settled: False if warm-up ended before its latency, or the machine's temperature, was flat.
        starved: For which share of a window, or of the time that its threads would have run where
            those are several, they waited for a CPU; null where the kernel does not tell.
        mode_change: That the power mode changed meanwhile; empty if it did not.
        harness_ns: What is in every time that is not the inference's.
        memory_mb: What the engine and its runtime hold, of the process and of the device; null
            with a reason where the runtime does not tell the device's.
        launched: How the kernels were launched, and an application must for these figures to hold;
            null where the runtime does that by itself.
        launched_reason: Why so: both times, or what stood in the way of a graph.
        at_rate: The same at `measure.rate_fps`, where that is set; power and energy are then
            judged by it.
    """

    latency_ms: LatencyFacts
    throughput_fps: float
    power_w: PowerFacts | None
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
    at_rate: AtRateFacts | None
    at_rate_reason: str


def measured_facts(one: Measurement, judged: Evaluation | None) -> Measured:
    """Return a measurement as the report tells it.

    Args:
        one: The measurement.
        judged: What tells its memory; None if the engine was not evaluated.
    """
    return Measured(
        latency_ms=_latency(one.latency_ms),
        throughput_fps=one.throughput_fps,
        power_w=_power(one.power) if one.power else None,
        power_reason=one.power_reason,
        energy_j=one.energy_j,
        energy_j_ci95=one.energy_ci95_j,
        energy_net_j=one.energy_net_j,
        energy_reason="" if one.energy_j is not None else one.power_reason,
        memory_mb=judged.memory_mb if judged else None,
        memory_reason=judged.memory_reason if judged else "it was not evaluated",
        steady=one.steady,
        throttled=one.throttled,
        throttled_reason=one.throttled_reason,
        settled=one.settled,
        starved=one.starved,
        mode_change=one.mode_change,
        harness_ns=one.harness_ns,
        samples=one.samples,
        rounds=one.rounds,
        temp_c=one.temp_c,
        cpu_mhz=one.cpu_mhz,
        gpu_mhz=one.gpu_mhz,
        device_p50_ms=one.device_p50_ms,
        device_reason="" if one.device_p50_ms is not None else _NO_DEVICE_CLOCK,
        launched=one.launches.by if one.launches else None,
        launched_reason=one.launches.reason if one.launches else _OWN_LAUNCHES,
        at_rate=_at_rate(one.at_rate) if one.at_rate else None,
        at_rate_reason="" if one.at_rate else _NO_RATE,
    )


def _at_rate(one: AtRate) -> AtRateFacts:
    return AtRateFacts(
        rate_fps=one.rate_fps,
        throughput_fps=one.throughput_fps,
        dropped=one.dropped,
        latency_ms=_latency(one.latency_ms),
        power_w=_power(one.power) if one.power else None,
        power_reason=one.power_reason,
        energy_j=one.energy_j,
        energy_j_ci95=one.energy_ci95_j,
        energy_net_j=one.energy_net_j,
        energy_reason="" if one.energy_j is not None else one.power_reason,
        samples=one.samples,
    )


def _latency(one: Latency) -> LatencyFacts:
    return LatencyFacts(
        p50=one.p50,
        p90=one.p90,
        p99=one.p99,
        ci95_p50=one.ci95_p50,
        ci95_p99=one.ci95_p99,
        ci95_reason=one.ci95_reason,
    )


def _power(one: Power) -> PowerFacts:
    return PowerFacts(
        mean=one.mean,
        ci95=one.ci95,
        idle=one.idle,
        rail=one.rail,
        excludes=one.excludes,
        passed_over=one.passed_over,
        source=one.source,
        period_s=one.period_s,
        samples=one.samples,
        coverage=one.coverage,
        gaps=one.gaps,
        check_mean=one.check_mean,
        check_source=one.check_source,
    )
