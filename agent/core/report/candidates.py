"""What the report gives of a candidate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from agent.core.records import (
    UNPREDICTED,
    Candidate,
    Choice,
    Fidelity,
    Layers,
    LayerTimes,
    Measured,
    Predicted,
    Quantization,
)
from agent.core.report.slowdown import slowdown

PartT = TypeVar("PartT")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineReport:
    """The engine's file: sha256, size, seconds to build; and what the runtime made of the graph."""

    digest: str
    bytes: int
    build_s: float
    layers: Layers


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateReport:
    """One candidate, with its verdict and the reasons.

    Attributes:
        layer_times: Of a few candidates: FP32, the chosen one, the fastest in INT8.
        flags: What makes its numbers doubtful, which is among the reasons too.
    """

    id: str
    precision: str
    calibrator: str | None
    runtime: str
    power_mode: str | None
    batch: int
    int8_macs_fraction: float | None
    quantization: Quantization | None
    engine: EngineReport | None
    predicted: Predicted
    measured: Measured | None
    layer_times: LayerTimes | None
    layer_times_reason: str
    fidelity: Fidelity | None
    verdict: str
    reasons: tuple[str, ...]
    flags: tuple[str, ...]


def reported(kind: type[PartT], record: PartT, **changes: object) -> PartT:
    """Return the part of a record that its base class `kind` declares, which is what is reported."""
    found: dict[str, Any] = {
        field.name: getattr(record, field.name)
        for field in fields(kind)  # type: ignore[arg-type]  # mypy knows no bound for dataclasses
    }
    return kind(**found | changes)


def candidate_report(
    one: Candidate, choice: Choice, others: Mapping[str, Candidate]
) -> CandidateReport:
    """Return a candidate as the report gives it.

    Args:
        one: The candidate.
        choice: With its verdict.
        others: All candidates by id.
    """
    verdict = choice.verdicts[one.id]
    slower = slowdown(one, others)
    return CandidateReport(
        id=one.id,
        precision=one.recipe.precision,
        calibrator=one.recipe.calibrator,
        runtime=one.runtime,
        power_mode=one.power_mode,
        batch=one.batch,
        int8_macs_fraction=one.quantized.int8_macs_fraction if one.quantized else None,
        quantization=reported(Quantization, one.quantized) if one.quantized else None,
        engine=EngineReport(
            digest=one.engine.file_digest,
            bytes=one.engine.size_bytes,
            build_s=one.engine.build_s,
            layers=one.engine.layers,
        )
        if one.engine
        else None,
        predicted=_predicted(one),
        measured=_measured(one),
        layer_times=one.layer_times,
        layer_times_reason="" if one.layer_times else one.layer_times_reason,
        fidelity=one.evaluation.fidelity if one.evaluation else None,
        verdict=verdict.verdict,
        reasons=(*verdict.reasons, *filter(None, (slower, one.short_of_memory))),
        flags=verdict.flags,
    )


def _predicted(one: Candidate) -> Predicted:
    found = one.predicted or UNPREDICTED
    span = found.latency_p50_ms_ci90
    if span is None or one.measurement is None:
        return reported(Predicted, found)
    return reported(Predicted, found, inside=span[0] <= one.measurement.latency_ms.p50 <= span[1])


def _measured(one: Candidate) -> Measured | None:
    if one.measurement is None:
        return None
    if one.evaluation is None:
        return reported(Measured, one.measurement)
    memory_mb, reason = one.evaluation.memory_mb, one.evaluation.memory_reason
    return reported(Measured, one.measurement, memory_mb=memory_mb, memory_reason=reason)
