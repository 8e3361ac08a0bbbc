"""The machine, and the user's model made ordinary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent.core.records.digests import Digest
from agent.core.records.graphs import FP32


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """The machine and the runtime that will execute: they decide which recipes make sense.

    Attributes:
        runtime: tensorrt or onnxruntime.
        scheme: The quantization scheme of that runtime: "S8S8-FP16", "S8S8" or "U8S8".
        fp16_reason: Why FP16 gains nothing here; empty where it is a candidate.
        device: CPU or GPU name.
        environment: For the report: board, l4t, versions, power mode, memory.
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
class RankedRows:
    """Outputs with rows in one order that the model finds itself, as by score.

    Attributes:
        axes: The axis of the rows in each output, by name.
        count: Of the rows; None if it varies with the picture.
    """

    axes: Mapping[str, int]
    count: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeCheck:
    """How far the clean graph is from the user's file, on frames of the camera.

    Attributes:
        frames: Compared, as the file is written and as the clean graph.
        output: The one that differs most.
        max_difference: Its largest difference, in its own unit; None if nothing was compared.
        relative: The same, of the largest magnitude of the channels like its own; for a file in half
            precision or of integers the RMS of the difference, of their RMS.
        tolerance: What `relative` may be, so that rounding explains it.
        reason: Why nothing was compared; else "".
        doubts: What the baseline finds on frames that a wrong input would explain, in words.
    """

    frames: int = 0
    output: str = ""
    max_difference: float | None = None
    relative: float | None = None
    tolerance: float = 0.0
    reason: str = ""
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedIntake(IntakeCheck):
    """The check of a clean model on the frames of a calibration set."""

    digest: Digest
    model: Digest
    calibration: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Which model.

    Attributes:
        sha256: Digest of the user's own file.
        macs: Multiply-accumulates of one inference (batch 1).
        changes: What intake changed, in words.
        ranked: Outputs with rows that are matched before they are compared.
        quantized: The operators of the file that quantize or compute on integers, counted; empty
            for a file in float.
        baseline: The precision that others are compared with: fp32; as-given if the file is
            quantized already and no FP32 can be made of it.
        intake: How far it is from the user's file; None before it was checked.
    """

    name: str
    sha256: str
    macs: int
    changes: tuple[str, ...]
    ranked: tuple[RankedRows, ...] = ()
    quantized: str = ""
    baseline: str = FP32
    intake: IntakeCheck | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanModel(Model):
    """A user's model made ordinary: `model.onnx`, opset >= 17, fixed shapes, named nodes.

    Of a file that is quantized already `model.onnx` is FP32, if that can be made of it, and
    `as-given.onnx` the file made ordinary; if not, `model.onnx` is the latter.

    Attributes:
        weight_bytes: Size of all initializers.
        activation_bytes: Bytes written by all nodes of one inference.
    """

    digest: Digest
    opset: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    weight_bytes: int
    activation_bytes: int
