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
        mean=p50,
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
    return Measurement(
        engine=Digest("e"),
        latency_ms=latency(p50, p99=p99, noise=noise),
        throughput_fps=1000 / p50,
        power=None
        if power_w is None
        else Power(
            mean=power_w, idle=1.0, rail="VDD_IN", source="ina3221", samples=100, coverage=1.0,
            period_s=0.1,
        ),
        power_reason="no power sensor" if power_w is None else "",
        energy_j=None if power_w is None else power_w * p50 / 1e3,
        steady=steady,
        throttled=throttled,
        throttled_reason="not told by this board" if throttled is None else "",
        samples=1000,
        rounds=5,
        sketch_ms=(p50,),
        temp_c=None,
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
        power=known.power,
        power_reason=known.power_reason,
        energy_j=None if power_w is None else power_w / reached,
        energy_ci95_j=None,
        energy_net_j=None if power_w is None else (power_w - 1.0) / reached,
        samples=100,
    )


def evaluation(
    sqnr_db: float | None = 40.0, *, agreement: float | None = None, memory_mb: float | None = 100.0
) -> Evaluation:
    """Return an evaluation; None dB is identical to the baseline."""
    return Evaluation(
        digest=Digest("v"),
        engine=Digest("e"),
        fidelity=Fidelity(
            sqnr_db=sqnr_db,
            identical=sqnr_db is None,
            cosine=1.0,
            per_output_sqnr_db={},
            task={} if agreement is None else {"top1": agreement},
            agreement=agreement,
            agreement_reason="no metric" if agreement is None else "",
            frames=32,
        ),
        memory_mb=memory_mb,
        memory_reason="not told" if memory_mb is None else "",
    )


def layers(**counts: int) -> Layers:
    """Return what a runtime made of a graph: nothing, but for what is told."""
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
