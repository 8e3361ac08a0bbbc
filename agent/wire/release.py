"""The contents of model.json: all that an application needs to use the engine of a release."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from agent.core.fidelity.task import Task
from agent.core.frames.input_spec import InputSpec
from agent.core.records import CleanModel, Digest, Recipe, TensorSpec

TENSORRT_PROVIDER = "TensorrtExecutionProvider"
_INTEGERS = {"int8", "int8-mixed", "as-given"}


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineTensor:
    """One input or output of the engine.

    Attributes:
        shape: With the batch that the engine takes; null for a side that depends on the picture.
        dtype: NumPy's name.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeDescription:
    """What the engine is made for, and how it was run when it was measured.

    Attributes:
        kind: onnxruntime or tensorrt.
        version: Of the runtime; another TensorRT does not load the engine.
        device: CPU, GPU or provider, as the runtime names it.
        l4t: Release of Jetson Linux.
        dla_core: The deep-learning accelerator that it was built for; -1 for none.
        threads: Of one inference by ONNX Runtime; 0 for all cores.
        providers: Of ONNX Runtime, in order of preference; empty for TensorRT.
        provider_options: Those that a provider needs to run the graph in its precision.
    """

    kind: str
    version: str
    device: str
    board: str | int | float | None
    compute_capability: str | int | float | None
    driver: str | int | float | None
    l4t: str | int | float | None
    dla_core: int
    threads: int
    providers: tuple[str, ...]
    provider_options: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFile:
    """The engine beside model.json."""

    file: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """Digests of the records behind the release.

    Attributes:
        model_sha256: Of the user's file.
        baseline: The engine in FP32 that its fidelity was judged by.
    """

    model_sha256: str
    model: Digest
    calibration: Digest
    conditioned: Digest | None
    statistics: Digest | None
    extends: Digest | None
    quantized: Digest
    engine: Digest
    baseline: Digest | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """The contents of model.json.

    Attributes:
        release: Its id, the name of its folder.
        identity: Digest of the engine and of what decides how it is fed, run and decoded.
        name: Of the model.
        candidate: As in report.json.
        power_mode: In which it was measured.
        launched: How its kernels were launched when it was measured; an application must do the same
            to get the figures. Null where the runtime launches by itself.
        batch: Frames of one inference.
        inputs: The one image.
        preprocess: How a frame becomes one row of the input.
    """

    schema: Literal[2]
    release: str
    identity: Digest
    name: str
    candidate: str
    precision: str
    power_mode: str | int | float | None
    launched: Literal["CUDA graph", "plain launches"] | None
    batch: int
    inputs: tuple[EngineTensor, ...]
    outputs: tuple[EngineTensor, ...]
    preprocess: InputSpec
    task: Task
    runtime: RuntimeDescription
    engine: EngineFile
    lineage: Lineage


def engine_tensors(
    model: CleanModel, batch: int
) -> tuple[tuple[EngineTensor, ...], tuple[EngineTensor, ...]]:
    """Return inputs and outputs of an engine of a batch; the model's own are those of batch 1."""
    varying = {
        name: axis
        for rows in model.ranked
        if rows.count is None
        for name, axis in rows.axes.items()
    }
    return (
        tuple(_tensor(one, batch, None) for one in model.inputs),
        tuple(_tensor(one, batch, varying.get(one.name)) for one in model.outputs),
    )


def provider_options(providers: Sequence[str], recipe: Recipe) -> dict[str, dict[str, str]]:
    """Return the options with which ONNX Runtime's providers run a graph in its precision.

    Source: onnxruntime.ai, "TensorRT Execution Provider": without the flag of a precision it refuses
        Q/DQ, or computes float16 in float32.
    """
    if TENSORRT_PROVIDER not in providers:
        return {}
    found = {}
    if recipe.precision in _INTEGERS:
        found["trt_int8_enable"] = "True"
    if recipe.precision == "fp16" or (recipe.scheme or "").endswith("FP16"):
        found["trt_fp16_enable"] = "True"
    return {TENSORRT_PROVIDER: found}


def _tensor(spec: TensorSpec, batch: int, varying: int | None) -> EngineTensor:
    sides: list[int | None] = list(spec.shape)
    if spec.shape:
        sides[0] = spec.shape[0] * batch
    if varying is not None:
        sides[varying] = None
    return EngineTensor(name=spec.name, shape=tuple(sides), dtype=spec.dtype)
