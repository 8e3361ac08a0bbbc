"""A model file through the intake and into each precision, as a run makes it."""

from __future__ import annotations

from pathlib import Path

import onnx

from agent.adapters.graphs.conditioner import OnnxConditioner
from agent.adapters.graphs.intake import OnnxIntake
from agent.adapters.graphs.quantizer import OnnxQuantizer
from agent.core.frames.input_spec import InputSpec
from agent.core.quantization.mixed_search import BIAS_CORRECTION, Placement
from agent.core.records import CleanModel
from tests.support.onnx_runs import Inputs, random_inputs
from tests.support.trials import together, trial_of

SCHEMES = ("U8S8", "S8S8")


def cleaned(
    model: onnx.ModelProto, folder: Path, spec: InputSpec | None = None
) -> tuple[CleanModel, str]:
    """Return the record of the intake and the path of the clean model."""
    onnx.save(model, folder / "raw.onnx")
    spec = spec or InputSpec(width=0, height=0)
    record = OnnxIntake().clean(str(folder / "raw.onnx"), "m", spec, str(folder))
    return record, str(folder / "model.onnx")


def frames_of(path: str, count: int = 6) -> list[Inputs]:
    """Return frames of noise for the model's input."""
    return [random_inputs(onnx.load(path), seed) for seed in range(count)]


def half(path: str, folder: Path, frames: list[Inputs] | None = None) -> str:
    """Return the path of the FP16 graph."""
    target = str(folder / "half.onnx")
    OnnxQuantizer(1).convert(path, "fp16", frames or frames_of(path), target)
    return target


def int8(
    path: str, folder: Path, scheme: str, frames: list[Inputs] | None = None
) -> tuple[str, float, tuple[str, ...]]:
    """Return the path of the INT8 graph, its share and the layers left in float."""
    frames = frames or frames_of(path)
    found = list(OnnxQuantizer(1, scheme).collect(path, frames, 6, lambda *_: None))
    placement = Placement(calibrator="minmax", steps=(BIAS_CORRECTION,))
    target = str(folder / f"{scheme}.onnx")
    return target, *trial_of(path, scheme, found, frames).write(placement, target)


def conditioned(path: str, folder: Path, scheme: str) -> None:
    """Apply every step; each must work or leave the graph as it is."""
    conditioner, frames = OnnxConditioner(1), frames_of(path)
    for step in conditioner.steps(scheme):
        conditioner.apply(step, path, frames, str(folder / f"{step}.onnx"))
    conditioner.choose_weights(path, together(frames), str(folder / "w.npz"), lambda *_: None)
