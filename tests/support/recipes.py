"""The graphs that quantd makes of a model under TensorRT's scheme, each recipe once."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from agent.adapters.graphs.conditioner import OnnxConditioner
from agent.adapters.graphs.quantization_trial import OnnxQuantizationTrial
from agent.adapters.graphs.quantizer import OnnxQuantizer
from agent.core.quantization.mixed_search import BIAS_CORRECTION, WEIGHT_STEPS, Placement
from tests.support.trials import trial_of

SCHEME = "S8S8-FP16"
RECIPES = ("fp32", "fp16", "int8", "int8-mixed", "conditioned")


def frames(model: str, count: int = 4) -> list[dict[str, np.ndarray[Any, Any]]]:
    """Return inputs of random values, whatever type the model takes, on levels as pixels have."""
    (value,) = onnx.load(model).graph.input
    shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
    dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    rng = np.random.default_rng(0)
    return [
        {value.name: pixels if dtype == np.uint8 else ((pixels - 128.0) / 64).astype(dtype)}
        for pixels in rng.integers(0, 256, (count, *shape), np.uint8)
    ]


def quantized(recipe: str, model: str, folder: Path) -> tuple[str, set[str], set[str]]:
    """Make a recipe's graph; return it, the layers that compute, and those left in float.

    What all recipes of a model stand on is made once, so that its file has to stay.
    """
    target = str(folder / "out.onnx")
    if recipe in {"fp32", "fp16"}:
        OnnxQuantizer(1).convert(model, recipe, frames(model), target)
        return target, set(), set()
    chosen = recipe == "conditioned"  # whose weights take as long as all else together
    trial = _calibrated(_conditioned(model) if chosen else model, chosen)
    layers = set(trial.layers())
    kept = frozenset(sorted(layers)[1::2]) if recipe == "int8-mixed" else frozenset()
    steps = WEIGHT_STEPS[-1] if chosen else (BIAS_CORRECTION,)
    _, floating = trial.write(Placement(calibrator="percentile", kept=kept, steps=steps), target)
    return target, layers, set(floating)


@functools.cache
def _conditioned(model: str) -> str:
    inputs, source = frames(model), model
    for step in OnnxConditioner(1).steps(SCHEME):
        made = f"{source}.{step}.onnx"
        if OnnxConditioner(1).apply(step, model, inputs, made):
            model = made
    return model


@functools.cache
def _calibrated(model: str, chosen: bool) -> OnnxQuantizationTrial:
    inputs = frames(model)
    found = OnnxQuantizer(1).collect(model, inputs, len(inputs), lambda *_: None)
    return trial_of(model, SCHEME, found, inputs, weights=f"{model}.npz" if chosen else "")
