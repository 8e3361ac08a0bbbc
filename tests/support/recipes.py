"""The graphs that quantd makes of a model under TensorRT's scheme, each recipe once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx

from agent.adapters.graphs.conditioner import OnnxConditioner
from agent.adapters.graphs.quantizer import OnnxQuantizer
from agent.adapters.graphs.rehearsal import OnnxRehearsal
from agent.core.quantization.calibrators import range_of
from agent.core.quantization.mixed_search import WEIGHT_STEPS, Placement

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
    """Make a recipe's graph; return it, the layers that compute, and those left in float."""
    target = str(folder / "out.onnx")
    inputs = frames(model)
    quantizer = OnnxQuantizer(1)
    if recipe == "conditioned":
        for step in OnnxConditioner(1).steps(SCHEME):
            made = str(folder / f"{step}.onnx")
            if OnnxConditioner(1).apply(step, model, inputs, made):
                model = made
    if recipe in {"fp32", "fp16"}:
        quantizer.convert(model, recipe, inputs, target)
        return target, set(), set()
    found = quantizer.collect(model, inputs, len(inputs), lambda *_: None)
    ranges = {h.name: range_of(h, "percentile", True) for h in found}
    weights = str(folder / "weights.npz")
    OnnxConditioner(1).choose_weights(model, inputs, weights, lambda *_: None)
    rehearsal = OnnxRehearsal(model, SCHEME, ranges.keys(), inputs, 1, weights=weights)
    layers = set(rehearsal.layers())
    kept = frozenset(sorted(layers)[::2]) if recipe == "int8-mixed" else frozenset()
    _, floating = rehearsal.write(
        Placement(ranges=ranges, kept=kept, steps=WEIGHT_STEPS[-1]), target
    )
    return target, layers, set(floating)
