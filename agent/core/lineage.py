"""The records of the chain, frozen, each naming its parents by digest.

    CleanModel ─────┬─> ConditionedModel -> Statistics -> QuantizedModel -> Engine
    CalibrationSet ─┘
    Engine ─┬─> Evaluation  ─┬─> Choice -> Activation -> Report
            └─> Measurement ─┘

A digest identifies the inputs that made a record (parents, settings, format), so a stage
whose inputs have been seen before finds its record instead of doing the work again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NewType

Digest = NewType("Digest", str)


def digest_of(stage: str, *inputs: object) -> Digest:
    """Return the identity of a stage's result from everything that determines it.

    Args:
        stage: Name of the stage, with a format number that changes when its output would.
        inputs: JSON values: digests of parents, settings as plain mappings.
    """
    text = json.dumps([stage, *inputs], sort_keys=True, separators=(",", ":"))
    return Digest(hashlib.sha256(text.encode()).hexdigest())


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """The machine and the runtime that will execute: what decides which recipes make sense.

    Attributes:
        runtime: tensorrt or onnxruntime.
        scheme: The quantization scheme of that runtime: "S8S8" or "U8S8".
        fp16_reason: Why FP16 gains nothing here; empty where it is a candidate.
        device: CPU or GPU name.
        environment: Facts for the report: board, l4t, versions, power mode, memory.
    """

    runtime: str
    runtime_version: str
    scheme: str
    fp16_reason: str
    device: str
    environment: Mapping[str, str | int | float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """One input or output: name, shape with every dimension positive, numpy dtype name."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanModel:
    """A user's model made ordinary: `model.onnx`, opset >= 17, fixed shapes, named nodes.

    Attributes:
        sha256: Digest of the user's own file.
        macs: Multiply-accumulates of one inference (batch 1).
        weight_bytes: Size of all initializers.
        activation_bytes: Bytes written by all nodes of one inference, for prediction.
        changes: What intake changed, in words.
    """

    digest: Digest
    name: str
    sha256: str
    opset: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    macs: int
    weight_bytes: int
    activation_bytes: int
    changes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """How many frames were turned away, by the first reason that applied."""

    blur: int = 0
    exposure: int = 0
    duplicate: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationSet:
    """Frames kept from one capture, as PNG files `frames/*.png` beside the record.

    Attributes:
        source: Camera URI without credentials.
        synthetic: True if no real camera or recording was behind it.
        frames: File names for calibration, in order of selection.
        holdout: File names never used for calibration, only to judge fidelity.
        seen: Frames looked at in the window.
        lost: Times the stream was lost and came back during the window.
        origins: What the camera calls the frames, by file name, where it has names for them.
        captured: When the window began, RFC 3339 in UTC; "" if an earlier version didn't say.
    """

    digest: Digest
    source: str
    synthetic: bool
    width: int
    height: int
    frames: tuple[str, ...]
    holdout: tuple[str, ...]
    seen: int
    lost: int
    rejected: Rejected
    origins: Mapping[str, str] = field(default_factory=dict)
    captured: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionedModel:
    """`model.onnx` made easier to quantize; in float it computes what the clean model does.

    Attributes:
        scheme: The scheme under which the steps were tried.
        steps: Names of the steps that were kept.
        tried: Every step in words: what it changed, and what INT8 gained or lost by it.
    """

    digest: Digest
    model: Digest
    calibration: Digest
    scheme: str
    steps: tuple[str, ...] = ()
    tried: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Histograms of every tensor to be quantized, in `statistics.npz`: one pass, all calibrators.

    Attributes:
        model: The conditioned model.
        frames: Frames behind them, those of earlier captures included.
        captures: How many captures these come from.
        extends: The earlier statistics that are in them too.
    """

    digest: Digest
    model: Digest
    calibration: Digest
    tensors: int
    frames: int
    captures: int = 1
    extends: Digest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a precision is made: the graph carries it, not the builder.

    Attributes:
        precision: fp32, fp16, int8 or int8-mixed.
        calibrator: minmax, entropy, percentile or mse, or per-tensor for the best of them at
            each tensor; None where nothing is calibrated.
        scheme: "S8S8" (TensorRT) or "U8S8" (ONNX Runtime on x86); None for float.
    """

    precision: str
    calibrator: str | None = None
    scheme: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCost:
    """What one layer alone costs in INT8, weights and activations.

    Attributes:
        layer: The node.
        operator: Its ONNX operator.
        macs_fraction: Its share of the multiply-accumulates, 0..1.
        sqnr_db: Of the worst output with this layer alone in INT8; None if nothing is lost.
        kept_float: True if it was left in float.
    """

    layer: str
    operator: str
    macs_fraction: float
    sqnr_db: float | None
    kept_float: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizedModel:
    """`model.onnx` with its precision in the graph.

    Attributes:
        int8_macs_fraction: Share of the multiply-accumulates that run in INT8, 0..1.
        kept_float: Names of the compute nodes left in float on purpose.
        steps: What was done for INT8 beside rounding, in order.
        sensitivity: The layers that cost most, worst first, where that was measured.
        evaluations: How often a whole graph was evaluated to find it.
    """

    digest: Digest
    model: Digest
    statistics: Digest | None
    recipe: Recipe
    int8_macs_fraction: float = 0.0
    kept_float: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    sensitivity: tuple[LayerCost, ...] = ()
    evaluations: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """What a runtime made of a graph, counted.

    Attributes:
        int8: Convolutions and matrix products that compute on integers; fp16 and fp32 alike.
        conversions: Nodes that only change precision or layout.
        others: Everything else: activations, pooling, reshapes that were not fused.
        providers: Nodes by ONNX Runtime's execution provider; empty for TensorRT.
        told_by: Who says so.
    """

    int8: int
    fp16: int
    fp32: int
    conversions: int
    others: int
    providers: Mapping[str, int]
    told_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What a runtime executes: `engine.plan` or `model.onnx` (`file`) beside the record.

    Attributes:
        file_digest: sha256 of the file's bytes.
        device: What it was built for: CPU or GPU name, or a compute capability.
        runnable: False for an engine cross-built on a machine that can't execute it.
        dla_core: The deep-learning accelerator it was built for; -1 for the GPU alone.
    """

    digest: Digest
    quantized: Digest
    runtime: str
    runtime_version: str
    device: str
    file: str
    file_digest: str
    size_bytes: int
    build_s: float
    batch: int
    layers: Layers
    runnable: bool = True
    dla_core: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Fidelity:
    """How near an engine's outputs are to the FP32 baseline's on held-out frames.

    Attributes:
        sqnr_db: Of the worst output; None if every output was identical (infinite).
        identical: True if all outputs were bit for bit the baseline's.
        cosine: Of the worst output.
        task: Task metrics by name, 0..1; empty for a generic task.
        agreement: The one task metric that `limits.agreement` is compared with.
        agreement_reason: Why there is none; empty where there is one.
        frames: Held-out frames behind these numbers.
        sqnr_db_ci95: 95 % interval of the worst output's SQNR over frames; None with few frames
            or identical outputs.
        agreement_ci95: That of the agreement.
        accuracy_ci95: That of task["accuracy"], where true classes are given.
        labelled: Held-out frames with a true class.
    """

    sqnr_db: float | None
    identical: bool
    cosine: float
    per_output_sqnr_db: Mapping[str, float | None]
    task: Mapping[str, float]
    agreement: float | None
    frames: int
    agreement_reason: str = ""
    sqnr_db_ci95: tuple[float, float] | None = None
    agreement_ci95: tuple[float, float] | None = None
    accuracy_ci95: tuple[float, float] | None = None
    labelled: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What an engine costs in memory and in fidelity, found through the engine itself."""

    digest: Digest
    engine: Digest
    fidelity: Fidelity
    memory_mb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """Mean power of a window; meaningless without its rail and source.

    Attributes:
        ci95: 95 % interval of the mean, from how the rounds differ; None with a single one.
        trace: (s on the monotonic clock, W) inside the windows, for a plot.
        gaps: Stretches inside the windows in which the sensor was silent.
        excludes: What the rail leaves out on this board, in words; empty where nobody knows.
    """

    mean: float
    idle: float | None
    rail: str
    source: str
    samples: int
    coverage: float
    period_s: float
    excludes: str = ""
    gaps: int = 0
    trace: tuple[tuple[float, float], ...] = ()
    ci95: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Wall time per inference in ms, warm-up removed (nearest-rank percentiles)."""

    p50: float
    p90: float
    p99: float
    ci95_p50: tuple[float, float]
    ci95_p99: tuple[float, float]
    mean: float


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
        behind: True if it was left out of later rounds, being slower than another in each.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurements:
    """All candidates of one run, measured together; failures by candidate with their reason."""

    measured: Mapping[str, Measurement]
    failed: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What was expected before anything was built; None with a reason where nothing is known.

    Attributes:
        latency_p50_ms_ci90: Where p50 should lie nine times of ten.
        energy_j: Joules per frame.
        source: history, trial, fleet or other models; "" where nothing is known.
    """

    latency_p50_ms: float | None
    energy_j: float | None
    basis: str
    source: str = ""
    latency_p50_ms_ci90: tuple[float, float] | None = None
    throughput_fps: float | None = None
    power_w: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One way to run the model: recipe x runtime x power mode x batch, and what is known of it.

    Attributes:
        dla_core: The deep-learning accelerator to build for; -1 for the GPU alone.
        failure: Why a stage could not make or run it; empty if all went well.
    """

    id: str
    recipe: Recipe
    runtime: str
    batch: int = 1
    power_mode: str | None = None
    dla_core: int = -1
    predicted: Prediction | None = None
    quantized: QuantizedModel | None = None
    engine: Engine | None = None
    evaluation: Evaluation | None = None
    measurement: Measurement | None = None
    failure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """chosen, feasible or rejected, and why in words."""

    verdict: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The answer. `candidate` is None if nothing is feasible; then the device is not touched."""

    candidate: str | None
    objective: str
    why: str
    pareto: tuple[str, ...]
    verdicts: Mapping[str, Verdict]
    infeasible: bool
    nearest_miss: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """State of the switch: active, unchanged, rolled_back or not_attempted."""

    state: str
    release: str | None
    previous: str | None
    detail: str = ""
