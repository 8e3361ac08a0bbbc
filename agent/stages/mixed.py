"""int8-mixed: as few layers in float as the fidelity limit allows, found by trials."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from agent.core.choice.limits import AGREEMENT, SQNR
from agent.core.errors import QuantizeError
from agent.core.fidelity.comparison import Comparison
from agent.core.quantization.calibrator_names import CALIBRATORS
from agent.core.quantization.mixed_search import (
    LayerNoise,
    Noise,
    NoiseModel,
    Placement,
    Plan,
    TensorNoise,
    find_plan,
    sqnr_db,
)
from agent.core.quantization.trial_results import TrialResult, best_of
from agent.core.records import Fidelity, LayerCost, QuantizedModel
from agent.ports import Progress, QuantizationTrial

_FLOOR_DB = SQNR.floor or 0.0
_LEAST_SHARE = 0.2  # less compute than this in INT8 is not worth the conversions around it
_MARGIN_DB = 0.5  # since the held-out frames are others than those of the trials
_MARGIN_SHARE = 0.75  # of the distance from the value to the lower end of its interval, likewise
_MARGIN = 0.25  # of the allowed disagreement, where there is no interval
_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Target:
    """The fidelity that the graph must reach on the calibration frames; 0 for no limit.

    Attributes:
        sqnr_db: Of the worst group of channels.
        agreement: Of the task's metric.
    """

    sqnr_db: float
    agreement: float

    @classmethod
    def of(cls, sqnr_db: float, agreement: float, has_metric: bool) -> Target:
        """Return the limits that are set, or the usual floor of the task if it was switched off."""
        if sqnr_db or agreement:
            return cls(sqnr_db=sqnr_db, agreement=agreement)
        if has_metric:
            return cls(sqnr_db=0.0, agreement=AGREEMENT.floor or 0.0)
        return cls(sqnr_db=_FLOOR_DB, agreement=0.0)

    def is_met(self, found: Fidelity | None) -> bool:
        """Return True if the limits are met with a margin; False for None, outputs not finite.

        The frames of a trial can reject a graph, but they prove little: 16 frames that all agree
        are seen in 44 % of the cases with a true agreement of 0.95. So the built engine is judged
        again on other frames. Where FP32 sees too little on the frames to judge the metric,
        SQNR by groups of channels stands in with its usual floor.
        """
        if found is None:
            return False
        least_db = self.sqnr_db
        if self.agreement and found.agreement is not None:
            if found.agreement < self.agreement + _margin_agreement(self.agreement, found):
                return False
        elif self.agreement:
            if found.judged_frames is None:  # a task without a metric
                return False
            least_db = least_db or _FLOOR_DB
        return (
            not least_db or found.sqnr_db is None or found.sqnr_db >= least_db + _margin_db(found)
        )

    def allowed(self, groups: int) -> Noise:
        """Return the noise per group of channels that the SQNR limit, or the usual one, allows."""
        return (10 ** (-(self.sqnr_db or _FLOOR_DB) / 10),) * groups

    def __str__(self) -> str:
        limits = [f"{self.sqnr_db:g} dB"] if self.sqnr_db else []
        return " and ".join(
            [*limits, *([f"agreement {self.agreement:g}"] if self.agreement else [])]
        )


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


def _margin_db(found: Fidelity) -> float:
    """Return the margin above the limit, dB, so that other frames probably meet it too.

    The difference of two means over equally many frames has a deviation of 1.4 standard errors;
    three quarters of the distance to the end of a 95 % interval are 1.5.
    """
    if found.sqnr_db is None or found.sqnr_db_ci95 is None:
        return _MARGIN_DB
    return max(_MARGIN_DB, _MARGIN_SHARE * (found.sqnr_db - found.sqnr_db_ci95[0]))


def _margin_agreement(limit: float, found: Fidelity) -> float:
    """Return the margin above the limit likewise, at most three quarters of what is left above it.

    An agreement of 1 on a few frames has a wide interval, which no graph could leave behind.
    """
    if found.agreement is None or found.agreement_ci95 is None:
        return _MARGIN * (1 - limit)
    noise = found.agreement - found.agreement_ci95[0]
    return _MARGIN_SHARE * min(noise, 1 - limit)


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
