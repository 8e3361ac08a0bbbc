"""int8-mixed: as few layers in float as the fidelity limit allows, found by trials."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from agent.core.errors import QuantizeError
from agent.core.fidelity.comparison import Comparison
from agent.core.quantization.calibrator_names import CALIBRATORS
from agent.core.quantization.mixed_search import (
    LayerNoise,
    NoiseModel,
    Placement,
    Plan,
    TensorNoise,
    find_plan,
    sqnr_db,
)
from agent.core.quantization.trial_results import TrialResult, best_of
from agent.core.records import LayerCost, QuantizedModel
from agent.core.search.target import Target
from agent.ports import Progress, QuantizationTrial

_LEAST_SHARE = 0.2  # less compute than this in INT8 is not worth the conversions around it
_SHOWN = 10


def mixed(
    blank: QuantizedModel,
    weight_steps: tuple[str, ...],
    target: Target,
    trial: QuantizationTrial,
    *,
    work: str,
    comparison: Callable[[], Comparison],
    progress: Progress,
) -> QuantizedModel:
    """Write work/model.onnx with as few layers in float as the target allows.

    Args:
        blank: The record with its parents and recipe.
        weight_steps: Applied to the weights of INT8 layers.
        target: The limits.
        trial: Of the conditioned model.
        work: Directory to write into.
        comparison: Returns a new comparison with FP32.
        progress: Called before every trial.

    Raises:
        QuantizeError: "not_offered" if no set of layers meets the target with enough in INT8.
    """
    evaluated = 0

    def evaluate(placement: Placement, note: str) -> TrialResult:
        nonlocal evaluated
        evaluated += 1
        progress(0, 0, f"trial {evaluated}: {note}")
        return trial.evaluate(placement, comparison())

    found = {
        name: evaluate(Placement(calibrator=name, steps=weight_steps), f"all in INT8 by {name}")
        for name in CALIBRATORS
    }
    chosen = best_of(found)
    model = _noise_model(trial, chosen, target, weight_steps, progress)

    def meets_limit(kept: frozenset[str]) -> bool:
        if not kept:
            return target.is_met(found[chosen].fidelity)
        note = f"{len(kept)} of {len(model.layers)} in float"
        placement = Placement(calibrator=chosen, kept=kept, steps=weight_steps)
        return target.is_met(evaluate(placement, note).fidelity)

    plan = find_plan(model, meets_limit, _LEAST_SHARE, spent=evaluated)
    costs = _costs(model, plan)
    if plan is None:
        raise _not_offered(target, costs)
    placement = Placement(calibrator=chosen, kept=plan.kept, steps=weight_steps)
    share, kept = trial.write(placement, str(Path(work) / "model.onnx"))
    return replace(
        blank,
        int8_macs_fraction=share,
        kept_float=kept,
        steps=(*blank.steps, *weight_steps, f"{chosen}-ranges"),
        sensitivity=costs,
        evaluations=evaluated,
    )


def _not_offered(target: Target, costs: Sequence[LayerCost]) -> QuantizeError:
    worst = ", ".join(f"{c.layer} ({c.sqnr_db:.1f} dB)" for c in costs[:3] if c.sqnr_db is not None)
    return QuantizeError(
        f"int8-mixed is not offered: with {_LEAST_SHARE:.0%} of the compute in INT8 the model "
        f"still misses {target}; single layers cost most at {worst}",
        code="not_offered",
    )


def _noise_model(
    trial: QuantizationTrial,
    calibrator: str,
    target: Target,
    steps: tuple[str, ...],
    progress: Progress,
) -> NoiseModel:
    """Measure the noise of each layer's weights and of each group of activations alone."""
    layers = trial.layers()
    groups: dict[
        frozenset[str], list[str]
    ] = {}  # activations of the same layers, quantized together
    for name, sharing in trial.tensors.items():
        if sharing:
            groups.setdefault(sharing, []).append(name)
    weights: list[LayerNoise] = []
    activations: list[TensorNoise] = []
    for name, (operator, macs) in layers.items():
        progress(len(weights), len(layers) + len(groups), name)
        noise = trial.weight_noise([name], steps)
        weights.append(LayerNoise(name=name, operator=operator, macs=macs, noise=noise))
    for sharing, names in groups.items():
        progress(len(weights) + len(activations), len(layers) + len(groups), names[0])
        noise = trial.activation_noise(names, calibrator)
        activations.append(TensorNoise(name=names[0], noise=noise, layers=sharing))
    return NoiseModel(weights, activations, target.allowed(len(weights[0].noise) if weights else 1))


def _costs(model: NoiseModel, plan: Plan | None) -> tuple[LayerCost, ...]:
    """Return the layers that cost most, worst first."""
    total = sum(layer.macs for layer in model.layers.values()) or 1
    costs = {name: sqnr_db(model.cost(name)) for name in model.layers}
    return tuple(
        LayerCost(
            layer=name,
            operator=model.layers[name].operator,
            macs_fraction=model.layers[name].macs / total,
            sqnr_db=costs[name] if abs(costs[name]) < float("inf") else None,
            kept_float=plan is not None and name in plan.kept,
        )
        for name in sorted(costs, key=costs.__getitem__)[:_SHOWN]
    )
