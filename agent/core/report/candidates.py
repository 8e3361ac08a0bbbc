"""What the report says of a candidate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent.core.records import (
    UNPREDICTED,
    Candidate,
    Choice,
    Fidelity,
    LayerCost,
    Layers,
    Measurement,
    Prediction,
)
from agent.core.report.measured import Measured, measured_facts


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFacts:
    """The engine's file: sha256, size, seconds to build; and what the runtime made of the graph."""

    digest: str
    bytes: int
    build_s: float
    layers: Layers


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """What was expected before anything was built, and from what.

    Attributes:
        inside: Whether p50 then lay within the interval; None where there was none, or no p50.
        power_w_ci90: As of latency: the 90 % interval; None where there is no prediction.
    """

    latency_p50_ms: float | None
    latency_p50_ms_ci90: tuple[float, float] | None
    inside: bool | None
    throughput_fps: float | None
    throughput_fps_ci90: tuple[float, float] | None
    power_w: float | None
    power_w_ci90: tuple[float, float] | None
    energy_j: float | None
    energy_j_ci90: tuple[float, float] | None
    basis: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FidelityFacts:
    """How near the outputs are to FP32 on held-out frames; the limits judge SQNR and agreement.

    Where true classes are given, `task` also holds accuracy and baseline_accuracy, over the
    `labelled` ones among the frames.
    The intervals are over frames like those; where one of a number is None, ci95_reason says why.
    """

    sqnr_db: float | None
    sqnr_db_ci95: tuple[float, float] | None
    sqnr_reason: str
    cosine: float
    per_output_sqnr_db: Mapping[str, float | None]
    task: Mapping[str, float]
    agreement: float | None
    agreement_ci95: tuple[float, float] | None
    agreement_reason: str
    ci95_reason: str
    accuracy_ci95: tuple[float, float] | None
    frames: int
    labelled: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizationFacts:
    """How the graph got its precision.

    Attributes:
        steps: What was done for INT8 beside rounding, in order.
        kept_float: Compute nodes that stay wider than the precision says.
        evaluations: How often a whole graph was tried to find them.
        sensitivity: The layers that cost most in INT8, worst first, where that was measured.
    """

    steps: tuple[str, ...]
    kept_float: tuple[str, ...]
    evaluations: int
    sensitivity: tuple[LayerCost, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateFacts:
    """One candidate, with its verdict and the reasons.

    Attributes:
        flags: What makes its numbers doubtful, which is among the reasons too.
    """

    id: str
    precision: str
    calibrator: str | None
    runtime: str
    power_mode: str | None
    batch: int
    int8_macs_fraction: float | None
    quantization: QuantizationFacts | None
    engine: EngineFacts | None
    predicted: Predicted
    measured: Measured | None
    fidelity: FidelityFacts | None
    verdict: str
    reasons: tuple[str, ...]
    flags: tuple[str, ...]


def candidate_facts(one: Candidate, choice: Choice) -> CandidateFacts:
    """Return a candidate as the report tells it, with its verdict of the choice."""
    verdict = choice.verdicts[one.id]
    return CandidateFacts(
        id=one.id,
        precision=one.recipe.precision,
        calibrator=one.recipe.calibrator,
        runtime=one.runtime,
        power_mode=one.power_mode,
        batch=one.batch,
        int8_macs_fraction=one.quantized.int8_macs_fraction if one.quantized else None,
        quantization=QuantizationFacts(
            steps=one.quantized.steps,
            kept_float=one.quantized.kept_float,
            evaluations=one.quantized.evaluations,
            sensitivity=one.quantized.sensitivity,
        )
        if one.quantized
        else None,
        engine=EngineFacts(
            digest=one.engine.file_digest,
            bytes=one.engine.size_bytes,
            build_s=one.engine.build_s,
            layers=one.engine.layers,
        )
        if one.engine
        else None,
        predicted=_predicted(one.predicted or UNPREDICTED, one.measurement, one.batch),
        measured=measured_facts(one.measurement, one.evaluation) if one.measurement else None,
        fidelity=_fidelity(one.evaluation.fidelity) if one.evaluation else None,
        verdict=verdict.verdict,
        reasons=verdict.reasons,
        flags=verdict.flags,
    )


def _predicted(one: Prediction, measured: Measurement | None, batch: int) -> Predicted:
    span = one.latency_p50_ms_ci90
    return Predicted(
        latency_p50_ms=one.latency_p50_ms,
        latency_p50_ms_ci90=span,
        inside=span[0] <= measured.latency_ms.p50 <= span[1] if span and measured else None,
        throughput_fps=one.throughput_fps,
        throughput_fps_ci90=(1e3 * batch / span[1], 1e3 * batch / span[0]) if span else None,
        power_w=one.power_w,
        power_w_ci90=one.power_w_ci90,
        energy_j=one.energy_j,
        energy_j_ci90=one.energy_j_ci90,
        basis=one.basis,
    )


def _fidelity(one: Fidelity) -> FidelityFacts:
    return FidelityFacts(
        sqnr_db=one.sqnr_db,
        sqnr_db_ci95=one.sqnr_db_ci95,
        sqnr_reason=_sqnr_reason(one),
        cosine=one.cosine,
        per_output_sqnr_db=one.per_output_sqnr_db,
        task=one.task,
        agreement=one.agreement,
        agreement_ci95=one.agreement_ci95,
        agreement_reason=one.agreement_reason,
        ci95_reason=_ci95_reason(one),
        accuracy_ci95=one.accuracy_ci95,
        labelled=one.labelled,
        frames=one.frames,
    )


def _sqnr_reason(one: Fidelity) -> str:
    if one.sqnr_db is not None:
        return ""
    return "identical to the baseline" if one.identical else "differs too little to be squared"


def _ci95_reason(one: Fidelity) -> str:
    pairs = ((one.sqnr_db, one.sqnr_db_ci95), (one.agreement, one.agreement_ci95))
    if all(span is not None or value is None for value, span in pairs):
        return ""
    if one.identical:
        return "identical to the baseline"
    return f"{one.frames} held-out frames do not tell: too few, or hardly any of them differs"
