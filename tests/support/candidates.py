"""Candidates with numbers of the test's choosing."""

from __future__ import annotations

from agent.core.records import (
    AtRate,
    Candidate,
    Digest,
    Engine,
    Evaluation,
    Fidelity,
    Latency,
    Layers,
    Measurement,
    Power,
    Recipe,
)


def latency(p50: float = 10.0, *, p99: float | None = None, noise: float = 0.01) -> Latency:
    """Return a latency, ms, whose p50 is known to a share of `noise`."""
    return Latency(
        p50=p50,
        p90=p50,
        p99=p50 if p99 is None else p99,
        ci95_p50=(p50 * (1 - noise), p50 * (1 + noise)),
        ci95_p99=(p99 or p50, p99 or p50),
        ci95_reason="",
    )


def measurement(
    p50: float = 10.0,
    *,
    p99: float | None = None,
    noise: float = 0.01,
    power_w: float | None = None,
    steady: bool = True,
    throttled: bool | None = None,
) -> Measurement:
    """Return a measurement; without power it carries a reason."""
    no_power = "no power sensor" if power_w is None else ""
    return Measurement(
        engine=Digest("e"),
        latency_ms=latency(p50, p99=p99, noise=noise),
        throughput_fps=1000 / p50,
        power_w=None
        if power_w is None
        else Power(
            mean=power_w, ci95=None, idle=1.0, rail="VDD_IN", excludes="", passed_over="",
            source="ina3221", period_s=0.1, samples=100, coverage=1.0, gaps=0, check_mean=None,
            check_source="",
        ),
        power_reason=no_power,
        energy_j=None if power_w is None else power_w * p50 / 1e3,
        energy_j_ci95=None,
        energy_net_j=None if power_w is None else (power_w - 1.0) * p50 / 1e3,
        energy_reason=no_power,
        steady=steady,
        throttled=throttled,
        throttled_reason="not reported by this board" if throttled is None else "",
        settled=True,
        starved=None,
        mode_change="",
        harness_ns=None,
        samples=1000,
        rounds=5,
        temp_c=None,
        cpu_mhz=None,
        gpu_mhz=None,
        device_p50_ms=None,
        device_reason="no clock of its own",
        launched=None,
        launched_reason="it launches by itself",
        at_rate=None,
        at_rate_reason="no rate",
        sketch_ms=(p50,),
    )  # fmt: skip


def at_rate(
    rate_fps: float, *, power_w: float | None = None, dropped: float = 0.0, p50: float = 12.0
) -> AtRate:
    """Return what was measured at a frame rate."""
    reached = rate_fps * (1 - dropped)
    known = measurement(p50, power_w=power_w)
    return AtRate(
        rate_fps=rate_fps,
        throughput_fps=reached,
        dropped=dropped,
        latency_ms=known.latency_ms,
        power_w=known.power_w,
        power_reason=known.power_reason,
        energy_j=None if power_w is None else power_w / reached,
        energy_j_ci95=None,
        energy_net_j=None if power_w is None else (power_w - 1.0) / reached,
        energy_reason=known.energy_reason,
        samples=100,
    )


def fidelity(
    sqnr_db: float | None, *, agreement: float | None = None, frames: int = 32
) -> Fidelity:
    """Return a fidelity; None dB is identical to the baseline."""
    return Fidelity(
        sqnr_db=sqnr_db,
        sqnr_db_ci95=None,
        sqnr_reason="identical to the baseline" if sqnr_db is None else "",
        sqnr_groups=(),
        cosine=1.0,
        per_output_sqnr_db={},
        task={} if agreement is None else {"top1": agreement},
        agreement=agreement,
        agreement_ci95=None,
        agreement_reason="no metric" if agreement is None else "",
        summary="",
        ci95_reason="too few frames",
        accuracy_ci95=None,
        frames=frames,
        judged_frames=None if agreement is None else frames,
        labelled=0,
    )


def evaluation(
    sqnr_db: float | None = 40.0, *, agreement: float | None = None, memory_mb: float | None = 100.0
) -> Evaluation:
    """Return an evaluation; None dB is identical to the baseline."""
    return Evaluation(
        digest=Digest("v"),
        engine=Digest("e"),
        fidelity=fidelity(sqnr_db, agreement=agreement),
        identical=sqnr_db is None,
        memory_mb=memory_mb,
        memory_reason="not reported" if memory_mb is None else "",
    )


def layers(**counts: int) -> Layers:
    """Return what a runtime made of a graph: nothing, but for the given counts."""
    none = dict.fromkeys(("int8", "fp16", "fp32", "conversions", "others"), 0)
    return Layers(**{**none, **counts}, providers={}, told_by="a test")


def engine(size_bytes: int = 1000, *, name: str = "e", batch: int = 1) -> Engine:
    """Return an engine's record."""
    return Engine(
        digest=Digest(name),
        quantized=Digest("q"),
        runtime="onnxruntime",
        runtime_version="1",
        device="cpu",
        file="model.onnx",
        file_digest="f",
        size_bytes=size_bytes,
        build_s=1.0,
        batch=batch,
        layers=layers(),
    )


def candidate(
    name: str,
    measured: Measurement | None = None,
    judged: Evaluation | None = None,
    *,
    size_bytes: int = 1000,
    failure: str = "",
) -> Candidate:
    """Return a candidate whose precision is the first part of its name."""
    return Candidate(
        id=name,
        recipe=Recipe(precision=name.split("-", maxsplit=1)[0]),
        runtime="onnxruntime",
        engine=engine(size_bytes),
        measurement=measured,
        evaluation=judged,
        failure=failure,
    )
