"""int8-mixed: graphs from the fastest in INT8 to one that meets the fidelity limits, by trials."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from agent.core.errors import QuantizeError
from agent.core.fidelity.comparison import Comparison
from agent.core.quantization.calibrator_names import CALIBRATORS
from agent.core.quantization.mixed_front import members
from agent.core.quantization.mixed_search import (
    LayerNoise,
    NoiseModel,
    Placement,
    TensorNoise,
    find_plan,
    sqnr_db,
)
from agent.core.quantization.time_model import TimeModel
from agent.core.quantization.trial_results import TrialResult, best_of
from agent.core.records import (
    FrontMember,
    LayerCost,
    LayerSpeeds,
    MixedFront,
    QuantizedModel,
)
from agent.core.search.target import Target
from agent.ports import Progress, QuantizationTrial

_LEAST_SHARE = 0.2  # less compute than this in INT8 is not worth the conversions around it
_SHOWN = 10
_MOST_MEMBERS = 4
_NOT_TRIED = "no layer was tried alone, since INT8 meets the limits"


def find_front(
    blank: MixedFront,
    target: Target,
    trial: QuantizationTrial,
    *,
    speeds: LayerSpeeds | None,
    comparison: Callable[[], Comparison],
    progress: Progress,
) -> MixedFront:
    """Find graphs from the fastest in INT8 to one that meets the target.

    Args:
        blank: The record with its parents and the steps of the weights.
        target: The limits.
        trial: Of the conditioned model.
        speeds: Times of the layers on this device; None where none could be taken, and their
            compute counts.
        comparison: Returns a new comparison with FP32.
        progress: Called before every trial.

    Raises:
        QuantizeError: "not_offered" if no set of layers meets the target with enough in INT8.
    """
    layers, steps = trial.layers(), blank.steps
    times = time_model(trial, speeds)
    first = frozenset(speeds.slower if speeds else ()).intersection(layers)
    evaluated = 0

    def evaluate(placement: Placement, note: str) -> TrialResult:
        nonlocal evaluated
        evaluated += 1
        progress(0, 0, f"trial {evaluated}: {note}")
        return trial.evaluate(placement, comparison())

    found = {
        name: evaluate(Placement(calibrator=name, kept=first, steps=steps), f"INT8 by {name}")
        for name in CALIBRATORS
    }
    chosen = best_of(found)
    blank = replace(blank, calibrator=chosen)
    if target.is_met(found[chosen].fidelity):  # nothing more has to be in float: one member
        whole = FrontMember(
            kept_float=tuple(name for name in layers if name in first),
            time_share=1.0 if times.timed else None,
            sqnr_db=_finite(found[chosen].sqnr_db),
            meets_limits=True,
        )
        slower = _slower(trial, times, first)
        return replace(blank, members=(whole,), evaluations=evaluated, layers=slower)
    model = _noise_model(trial, chosen, target, steps, progress)
    met = {first: False}

    def meets_limit(kept: frozenset[str]) -> bool:
        if kept not in met:
            note = f"{len(kept)} of {len(model.layers)} in float"
            placement = Placement(calibrator=chosen, kept=kept, steps=steps)
            met[kept] = target.is_met(evaluate(placement, note).fidelity)
        return met[kept]

    def is_worth(kept: frozenset[str]) -> bool:
        if times.timed:
            return kept < model.layers.keys() and times.time(kept) < times.all_float
        return model.share(kept) >= _LEAST_SHARE

    plan = find_plan(model, times, meets_limit, is_worth, first=first, spent=evaluated)
    costs = _costs(model, times, plan.kept if plan else first, first)
    if plan is None:
        raise _not_offered(target, costs, times)
    return replace(
        blank,
        members=tuple(
            FrontMember(
                kept_float=tuple(name for name in layers if name in kept),
                time_share=round(times.time(kept) / (times.time(first) or 1.0), 4)
                if times.timed
                else None,
                sqnr_db=_finite(sqnr_db(model.predicted(kept))),
                meets_limits=met.get(kept),
            )
            for kept in members(model, times, plan, first, _MOST_MEMBERS)
        ),
        evaluations=evaluated,
        layers=costs,
    )


def write_member(
    blank: QuantizedModel, front: MixedFront, trial: QuantizationTrial, *, work: str
) -> QuantizedModel:
    """Write work/model.onnx, a member of a front.

    Args:
        blank: The record with its parents and recipe.
        front: Where the recipe's member is found.
        trial: Of the conditioned model.
        work: Directory to write into.
    """
    kept = frozenset(front.members[blank.recipe.member - 1].kept_float)
    placement = Placement(calibrator=front.calibrator, kept=kept, steps=front.steps)
    share, floating = trial.write(placement, str(Path(work) / "model.onnx"))
    return replace(
        blank,
        int8_macs_fraction=share,
        kept_float=floating,
        steps=(*blank.steps, *front.steps, f"{front.calibrator}-ranges"),
        sensitivity=_shown(replace(one, kept_float=one.layer in kept) for one in front.layers),
        evaluations=front.evaluations,
        weighed_by=front.weighed_by,
    )


def time_model(trial: QuantizationTrial, speeds: LayerSpeeds | None) -> TimeModel:
    """Return the time of any set of layers in float, from times or else from compute."""
    macs = {name: count for name, (_, count) in trial.layers().items()}
    if speeds is None:
        return TimeModel.of_compute(macs, trial.tensors)
    return TimeModel.of_speeds(speeds, macs, trial.tensors, trial.elements)


def _shown(layers: Iterable[LayerCost]) -> tuple[LayerCost, ...]:
    """Return the layers that the report gives: the costliest, and those slower in INT8."""
    found = tuple(layers)
    slower = [one for one in found[_SHOWN:] if one.slower]
    return (*found[:_SHOWN], *slower[:_SHOWN])


def _not_offered(target: Target, costs: Sequence[LayerCost], times: TimeModel) -> QuantizeError:
    worst = ", ".join(f"{c.layer} ({c.sqnr_db:.1f} dB)" for c in costs[:3] if c.sqnr_db is not None)
    least = (
        "with any set of layers that is faster than float"
        if times.timed
        else f"with {_LEAST_SHARE:.0%} of the compute in INT8"
    )
    return QuantizeError(
        f"int8-mixed is not offered: {least} the model still misses {target}; single layers cost "
        f"most at {worst}",
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


def _slower(
    trial: QuantizationTrial, times: TimeModel, slower: Collection[str]
) -> tuple[LayerCost, ...]:
    """Return the layers that INT8 makes slower, without what they cost in INT8."""
    layers = trial.layers()
    total = sum(macs for _, macs in layers.values()) or 1
    return tuple(
        LayerCost(
            layer=name,
            operator=layers[name][0],
            macs_fraction=layers[name][1] / total,
            sqnr_db=None,
            sqnr_db_reason=_NOT_TRIED,
            kept_float=True,
            int8_us=round(times.layers[name][0], 1),
            float_us=round(times.layers[name][1], 1),
            slower=True,
        )
        for name in layers
        if name in slower
    )


def _costs(
    model: NoiseModel, times: TimeModel, kept: Collection[str], slower: Collection[str]
) -> tuple[LayerCost, ...]:
    """Return all layers, those that cost most first."""
    total = sum(layer.macs for layer in model.layers.values()) or 1
    costs = {name: sqnr_db(model.cost(name)) for name in model.layers}
    return tuple(
        LayerCost(
            layer=name,
            operator=model.layers[name].operator,
            macs_fraction=model.layers[name].macs / total,
            sqnr_db=_finite(costs[name]),
            kept_float=name in kept,
            int8_us=round(times.layers[name][0], 1) if times.timed else None,
            float_us=round(times.layers[name][1], 1) if times.timed else None,
            slower=name in slower,
        )
        for name in sorted(costs, key=costs.__getitem__)
    )


def _finite(value: float) -> float | None:
    """Return the value, None for an infinite one."""
    return value if abs(value) < float("inf") else None
