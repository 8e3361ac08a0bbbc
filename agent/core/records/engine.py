"""Engines, their fidelity and their memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent.core.records.digests import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """Counted nodes of the graph that a runtime executes.

    Attributes:
        int8: Convolutions and matrix products that compute on integers; fp16 and fp32 alike.
        conversions: Nodes that only change precision or layout.
        others: Everything else: activations, pooling, reshapes that were not fused.
        providers: Nodes by ONNX Runtime's execution provider; empty for TensorRT.
        told_by: The source of these counts.
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
class SqnrGroup:
    """SQNR of those channels of an output that are of like magnitude.

    Attributes:
        channels: Their numbers, as in "0-3, 7"; "all" if the output has one group.
        sqnr_db: None if nothing in it differs enough to be squared.
        magnitude: RMS of the baseline.
    """

    output: str
    channels: str
    sqnr_db: float | None
    magnitude: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Fidelity:
    """How near an engine's outputs are to FP32 on held-out frames; limits judge SQNR and agreement.

    The intervals are over frames like those. A reason is why a figure is None; empty if none is.

    Attributes:
        sqnr_db: Of the worst group of channels; None if nothing differs enough to be squared.
        sqnr_groups: All groups, the worst first.
        cosine: Of the worst output.
        per_output_sqnr_db: Of the worst group of each output.
        task: Task metrics by name, 0..1; empty for a generic task. Where true classes or boxes are
            given, also accuracy and baseline_accuracy (of boxes the AP50, and both with _ap50_95).
        agreement: The one task metric that `limits.agreement` is compared with.
        summary: What the engine does compared with FP32, in the task's own words.
        ci95_reason: Why the interval of one of these two is None.
        accuracy_ci95: That of task["accuracy"].
        accuracy_reason: Why there is no accuracy, or no interval of it, despite labels.
        frames: Held-out frames behind these numbers.
        judged_frames: Those of them on which FP32 sees something: a box, a mask, a class that is
            ahead by more than rounding; None where the task has no metric.
        labelled: Those of them with a label.
        threshold: The score of a class, or of a foreground, that stands alone and above which it was
            counted: 0.5 for probabilities, 0 for logits. None where there is no such score.
    """

    sqnr_db: float | None
    sqnr_db_ci95: tuple[float, float] | None
    sqnr_reason: str
    sqnr_groups: tuple[SqnrGroup, ...]
    cosine: float
    per_output_sqnr_db: Mapping[str, float | None]
    task: Mapping[str, float]
    agreement: float | None
    agreement_ci95: tuple[float, float] | None
    agreement_reason: str
    summary: str
    ci95_reason: str
    accuracy_ci95: tuple[float, float] | None
    frames: int
    judged_frames: int | None
    labelled: int
    accuracy_reason: str = ""
    threshold: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The memory and the fidelity of an engine, measured by running it.

    Attributes:
        identical: True if all outputs were bit for bit the baseline's.
        memory_mb: Of the process and of the device together; None where the runtime does not
            report the device's.
        memory_reason: Why it is None, else empty.
    """

    digest: Digest
    engine: Digest
    fidelity: Fidelity
    identical: bool
    memory_mb: float | None
    memory_reason: str = ""
