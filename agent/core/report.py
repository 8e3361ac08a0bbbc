"""The report of a run, schema 1: the chain's records put into one document. Pure.

What was not measured is None with a reason beside it, never 0. `configs/schema/report.json`
is generated from these classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.core.lineage import (
    Activation,
    AtRate,
    CalibrationSet,
    Candidate,
    Choice,
    CleanModel,
    Fidelity,
    Latency,
    LayerCost,
    Layers,
    Measurement,
    Power,
    Prediction,
    Rejected,
    Statistics,
)

SCHEMA = 1
_NO_DEVICE_CLOCK = "this runtime tells no time of the device itself"
_NO_RATE = "measure.rate_fps is not set"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """Which model."""

    name: str
    sha256: str
    macs: int
    changes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationFacts:
    """Where the frames came from and how many were kept and turned away.

    Attributes:
        captured: When, RFC 3339 in UTC; "" if an earlier version stored them and didn't say.
        reused: True if they are those of an earlier run.
        statistics: Digest of what the INT8 scales were found with; None without INT8.
        conditioned: Digest of the graph that the statistics belong to.
        scale_frames: Frames behind the INT8 scales, those of earlier captures included.
        scale_captures: How many captures these come from; 0 where nothing was calibrated.
        not_extended: Why the statistics were not added to earlier ones, though asked.
    """

    source: str
    synthetic: bool
    frames: int
    holdout: int
    digest: str
    seen: int
    lost: int
    rejected: Rejected
    captured: str = ""
    reused: bool = False
    statistics: str | None = None
    conditioned: str | None = None
    scale_frames: int = 0
    scale_captures: int = 0
    not_extended: str = ""


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
    """

    latency_p50_ms: float | None
    latency_p50_ms_ci90: tuple[float, float] | None
    inside: bool | None
    throughput_fps: float | None
    power_w: float | None
    energy_j: float | None
    basis: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyFacts:
    """Wall time per inference, ms."""

    p50: float
    p90: float
    p99: float
    ci95_p50: tuple[float, float]
    ci95_p99: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerFacts:
    """Power of one rail, W; its interval is null where there was one round only."""

    mean: float
    ci95: tuple[float, float] | None
    idle: float | None
    rail: str
    excludes: str
    source: str
    samples: int
    coverage: float
    gaps: int


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
    steady: bool
    throttled: bool | None
    throttled_reason: str
    samples: int
    rounds: int
    temp_c: float | None
    device_p50_ms: float | None
    device_reason: str
    at_rate: AtRateFacts | None
    at_rate_reason: str


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
    """One candidate, with its verdict and the reasons."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceFacts:
    """The answer."""

    candidate: str | None
    objective: str
    why: str
    pareto: tuple[str, ...]
    infeasible: bool
    nearest_miss: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The whole document.

    Attributes:
        conditioning: What was tried to make the model easier to quantize, in words.
    """

    schema: int
    run_id: str
    device: str
    model: ModelFacts
    trigger: str
    started: str
    finished: str
    environment: Mapping[str, str | int | float | None]
    calibration: CalibrationFacts
    conditioning: tuple[str, ...]
    limits: Mapping[str, float]
    candidates: tuple[CandidateFacts, ...]
    choice: ChoiceFacts
    activation: Activation
    timings_s: Mapping[str, float]


def compose(  # noqa: PLR0913 - one argument a record of the chain
    *,
    run_id: str,
    device: str,
    trigger: str,
    started: str,
    finished: str,
    environment: Mapping[str, str | int | float | None],
    model: CleanModel,
    calibration: CalibrationSet,
    reused: bool = False,
    counted: Statistics | None = None,
    not_extended: str = "",
    conditioning: Sequence[str],
    limits: Mapping[str, float],
    candidates: Sequence[Candidate],
    choice: Choice,
    activation: Activation,
    timings_s: Mapping[str, float],
) -> Report:
    """Put a finished run's records into its report."""
    return Report(
        schema=SCHEMA,
        run_id=run_id,
        device=device,
        model=ModelFacts(
            name=model.name, sha256=model.sha256, macs=model.macs, changes=model.changes
        ),
        trigger=trigger,
        started=started,
        finished=finished,
        environment=environment,
        calibration=CalibrationFacts(
            source=calibration.source,
            synthetic=calibration.synthetic,
            frames=len(calibration.frames),
            holdout=len(calibration.holdout),
            digest=calibration.digest,
            seen=calibration.seen,
            lost=calibration.lost,
            rejected=calibration.rejected,
            captured=calibration.captured,
            reused=reused,
            statistics=counted.digest if counted else None,
            conditioned=counted.model if counted else None,
            scale_frames=counted.frames if counted else 0,
            scale_captures=counted.captures if counted else 0,
            not_extended=not_extended,
        ),
        conditioning=tuple(conditioning),
        limits={name: value for name, value in limits.items() if value},
        candidates=tuple(_candidate(one, choice) for one in candidates),
        choice=ChoiceFacts(
            candidate=choice.candidate,
            objective=choice.objective,
            why=choice.why,
            pareto=choice.pareto,
            infeasible=choice.infeasible,
            nearest_miss=choice.nearest_miss,
        ),
        activation=activation,
        timings_s=timings_s,
    )


def _candidate(one: Candidate, choice: Choice) -> CandidateFacts:
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
        predicted=_predicted(one.predicted or _UNPREDICTED, one.measurement),
        measured=_measured(one.measurement, one.evaluation.memory_mb if one.evaluation else None)
        if one.measurement
        else None,
        fidelity=_fidelity(one.evaluation.fidelity) if one.evaluation else None,
        verdict=verdict.verdict,
        reasons=verdict.reasons,
    )


_UNPREDICTED = Prediction(latency_p50_ms=None, energy_j=None, basis="not predicted")


def _predicted(one: Prediction, measured: Measurement | None) -> Predicted:
    span = one.latency_p50_ms_ci90
    return Predicted(
        latency_p50_ms=one.latency_p50_ms,
        latency_p50_ms_ci90=span,
        inside=span[0] <= measured.latency_ms.p50 <= span[1] if span and measured else None,
        throughput_fps=one.throughput_fps,
        power_w=one.power_w,
        energy_j=one.energy_j,
        basis=one.basis,
    )


def _measured(one: Measurement, memory_mb: float | None) -> Measured:
    return Measured(
        latency_ms=_latency(one.latency_ms),
        throughput_fps=one.throughput_fps,
        power_w=_power(one.power) if one.power else None,
        power_reason=one.power_reason,
        energy_j=one.energy_j,
        energy_j_ci95=one.energy_ci95_j,
        energy_net_j=one.energy_net_j,
        energy_reason="" if one.energy_j is not None else one.power_reason,
        memory_mb=memory_mb,
        steady=one.steady,
        throttled=one.throttled,
        throttled_reason=one.throttled_reason,
        samples=one.samples,
        rounds=one.rounds,
        temp_c=one.temp_c,
        device_p50_ms=one.device_p50_ms,
        device_reason="" if one.device_p50_ms is not None else _NO_DEVICE_CLOCK,
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
        p50=one.p50, p90=one.p90, p99=one.p99, ci95_p50=one.ci95_p50, ci95_p99=one.ci95_p99
    )


def _power(one: Power) -> PowerFacts:
    return PowerFacts(
        mean=one.mean,
        ci95=one.ci95,
        idle=one.idle,
        rail=one.rail,
        excludes=one.excludes,
        source=one.source,
        samples=one.samples,
        coverage=one.coverage,
        gaps=one.gaps,
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
