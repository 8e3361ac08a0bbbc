"""INT8 as far as the fidelity limit lets it: which layers stay in float, found by trying."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from agent.core.errors import QuantizeError
from agent.core.fidelity.comparison import Comparison
from agent.core.quantization.calibrator_names import CALIBRATORS
from agent.core.quantization.calibrators import range_of
from agent.core.quantization.histogram import TensorHistogram, defect
from agent.core.quantization.mixed_search import (
    LayerNoise,
    Noise,
    NoiseModel,
    Placement,
    Plan,
    TensorNoise,
    best_weight_steps,
    find_plan,
    is_symmetric,
    sqnr_db,
    worst_sqnr_db,
)
from agent.core.records import Fidelity, LayerCost, QuantizedModel
from agent.ports import Progress, QuantizationTrial

_USUAL_SQNR_DB = 20.0
_USUAL_AGREEMENT = 0.97
_LEAST_SHARE = 0.2  # less compute than this in INT8 is not worth the conversions around it
_MARGIN_DB = 0.5  # the frames that judge in the end are others than those that choose
_MARGIN_SHARE = 0.75  # of the way from the value to the lower end of its interval, alike
_MARGIN = 0.25  # of what may disagree
_SHOWN = 10

Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Target:
    """What the graph must keep on the calibration frames; 0 for no limit.

    Attributes:
        sqnr_db: Of the worst output.
        agreement: Of the task's metric.
        either: True if one of the two is enough.
    """

    sqnr_db: float
    agreement: float
    either: bool = False

    @classmethod
    def of(cls, sqnr_db: float, agreement: float, has_metric: bool) -> Target:
        """Return the limits, or where none is set what is usually asked of INT8.

        Of a few frames a single one that is a toss-up in FP32 already costs a task's metric
        more than is usually asked, so then the signal-to-noise ratio is asked instead.
        """
        if sqnr_db or agreement:
            return cls(sqnr_db=sqnr_db, agreement=agreement)
        usual = _USUAL_AGREEMENT if has_metric else 0.0
        return cls(sqnr_db=_USUAL_SQNR_DB, agreement=usual, either=True)

    def is_met(self, found: Fidelity | None) -> bool:
        """Return True if the limits are kept with some margin; None is no number at all."""
        if found is None:
            return False
        agreed = self.agreement + _MARGIN * (1 - self.agreement)
        asked = []
        if self.sqnr_db:
            near = found.sqnr_db is None or found.sqnr_db >= self.sqnr_db + _margin_db(found)
            asked.append(near)
        if self.agreement:
            asked.append(found.agreement is not None and found.agreement >= agreed)
        return any(asked) if self.either else all(asked)

    def allowed(self, outputs: int) -> Noise:
        """Return the noise per output that the limit allows, or a usual one."""
        return (10 ** (-(self.sqnr_db or _USUAL_SQNR_DB) / 10),) * outputs

    def __str__(self) -> str:
        limits = [f"{self.sqnr_db:g} dB"] if self.sqnr_db else []
        return (" or " if self.either else " and ").join(
            [*limits, *([f"agreement {self.agreement:g}"] if self.agreement else [])]
        )


def mixed(
    blank: QuantizedModel,
    histograms: Sequence[TensorHistogram],
    target: Target,
    *,
    work: str,
    open_trial: Callable[[Collection[str]], QuantizationTrial],
    comparison: Callable[[], Comparison],
    progress: Progress,
) -> QuantizedModel:
    """Write work/model.onnx with as few layers in float as the target allows.

    Args:
        blank: The record with its parents and recipe.
        histograms: Of every tensor to quantize.
        target: What must be kept.
        work: Directory to write into.
        open_trial: Opens the trial of the model, given the tensors that have a range.
        comparison: Makes a fresh comparison with FP32.
        progress: Told after every trial.

    Raises:
        QuantizeError: "not_offered" if no set of layers meets the target with enough in INT8;
            "no_range" if no tensor has a range.
    """
    options = _options(histograms, blank.recipe.scheme)
    trial = open_trial(next(iter(options.values())).keys())
    layers = trial.layers().keys()
    steps = best_weight_steps(lambda steps: trial.weight_noise(layers, steps))
    evaluated = 0

    def judged(placement: Placement, note: str) -> Fidelity | None:
        nonlocal evaluated
        evaluated += 1
        progress(0, 0, f"trial {evaluated}: {note}")
        return trial.fidelity(placement, comparison())

    found = {
        name: judged(Placement(ranges=spans, steps=steps), f"all in INT8 by {name}")
        for name, spans in options.items()
    }
    chosen = max(found, key=lambda name: worst_sqnr_db(found[name]))
    ranges = options[chosen]
    model = _measured(trial, ranges, target, steps, progress)

    def holds(kept: frozenset[str]) -> bool:
        if not kept:
            return target.is_met(found[chosen])
        note = f"{len(kept)} of {len(model.layers)} in float"
        return target.is_met(judged(Placement(ranges=ranges, kept=kept, steps=steps), note))

    plan = find_plan(model, holds, _LEAST_SHARE, spent=evaluated)
    costs = _costs(model, plan)
    if plan is None:
        raise _not_offered(target, costs)
    placement = Placement(ranges=ranges, kept=plan.kept, steps=steps)
    share, kept = trial.write(placement, str(Path(work) / "model.onnx"))
    return replace(
        blank,
        int8_macs_fraction=share,
        kept_float=kept,
        steps=(*blank.steps, *steps, f"{chosen}-ranges"),
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
    """Return by how much to exceed the limit, so that other frames like these probably hold it.

    The difference of two means over as many frames each spreads by 1.4 standard errors; three
    quarters of the way to the end of a 95 % interval are 1.5 of them.
    """
    if found.sqnr_db is None or found.sqnr_db_ci95 is None:
        return _MARGIN_DB
    return max(_MARGIN_DB, _MARGIN_SHARE * (found.sqnr_db - found.sqnr_db_ci95[0]))


def _options(
    histograms: Sequence[TensorHistogram], scheme: str | None
) -> dict[str, dict[str, Range]]:
    """Return for every calibrator the range of each sound tensor."""
    sound = [histogram for histogram in histograms if not defect(histogram)]
    if not sound:
        raise QuantizeError("no tensor has a range", code="no_range")
    return {
        name: {h.name: range_of(h, name, is_symmetric(scheme)) for h in sound}
        for name in CALIBRATORS
    }


def _measured(
    trial: QuantizationTrial,
    ranges: Mapping[str, Range],
    target: Target,
    steps: tuple[str, ...],
    progress: Progress,
) -> NoiseModel:
    """Measure what the weights of every layer and the activations of every place cost alone."""
    layers = trial.layers()
    places = _places(trial.tensors)
    weights: list[LayerNoise] = []
    activations: list[TensorNoise] = []
    for name, (operator, macs) in layers.items():
        progress(len(weights), len(layers) + len(places), name)
        noise = trial.weight_noise([name], steps)
        weights.append(LayerNoise(name=name, operator=operator, macs=macs, noise=noise))
    for sharing, names in places.items():
        progress(len(weights) + len(activations), len(layers) + len(places), names[0])
        noise = trial.activation_noise({name: ranges[name] for name in names})
        activations.append(TensorNoise(name=names[0], noise=noise, layers=sharing))
    return NoiseModel(weights, activations, target.allowed(len(weights[0].noise) if weights else 1))


def _places(tensors: Mapping[str, frozenset[str]]) -> dict[frozenset[str], list[str]]:
    """Return the activations by the layers that hold them: these are quantized together."""
    found: dict[frozenset[str], list[str]] = {}
    for name, layers in tensors.items():
        if layers:
            found.setdefault(layers, []).append(name)
    return found


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
