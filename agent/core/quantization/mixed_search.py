"""Bounded search for the layers that stay in float, by the noise that each one adds.

Quantization noise of different layers is nearly independent, so its powers add up at the outputs:
the noise of single layers predicts that of any set. The prediction orders the search; every
accepted set was evaluated as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from agent.core.quantization.time_model import TimeModel

Noise = tuple[float, ...]
"""Noise power over signal power, one for each group of channels of like magnitude of the outputs."""

BIAS_CORRECTION = "bias-correction"
"""The step that corrects the mean error of rounded weights in the bias."""
WEIGHT_ROUNDING = "weight-rounding"
"""The step that rounds weights to minimise the output error of their layer."""
REFIT = "refit"
"""The step that solves weights and biases once more on the inputs that INT8 leaves each layer."""
WEIGHT_STEPS: tuple[tuple[str, ...], ...] = (
    (),
    (BIAS_CORRECTION,),
    (WEIGHT_ROUNDING, BIAS_CORRECTION),  # it ignores the mean error, which the bias corrects
)
"""Combinations of steps for the weights of INT8 layers; all are tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerNoise:
    """Noise of one layer's weights in INT8.

    Attributes:
        name: The node.
        operator: Its ONNX operator.
        macs: Its multiply-accumulates.
        noise: At the outputs by group of channels, with only its weights quantized.
    """

    name: str
    operator: str
    macs: int
    noise: Noise


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorNoise:
    """Noise of quantizing one activation.

    Attributes:
        name: The tensor.
        noise: At the outputs by group of channels, with only this tensor quantized.
        layers: The layers that need it in INT8; it is float when all of them are.
    """

    name: str
    noise: Noise
    layers: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """How an INT8 graph is made of a model.

    Attributes:
        calibrator: By which the range of every quantized activation is computed.
        kept: Layers left in float.
        steps: Applied to the weights of INT8 layers: an entry of WEIGHT_STEPS, and REFIT behind it.
    """

    calibrator: str
    kept: frozenset[str] = frozenset()
    steps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A set of float layers that meets the limit.

    Attributes:
        kept: Their names.
        order: Layers that the search left in float one after the other, before some returned.
        evaluations: Whole graphs evaluated to find it.
    """

    kept: frozenset[str]
    order: tuple[str, ...]
    evaluations: int


class NoiseModel:
    """Predicts the noise at the outputs for any set of layers left in float.

    Args:
        layers: Every layer that can run in INT8.
        tensors: Every activation that would be quantized.
        allowed: The largest noise per group of channels within the limit.
    """

    def __init__(
        self, layers: Sequence[LayerNoise], tensors: Sequence[TensorNoise], allowed: Noise
    ) -> None:
        self.layers = {layer.name: layer for layer in layers}
        self._tensors = tuple(tensors)
        self._allowed = allowed
        self._tensors_of: dict[str, list[TensorNoise]] = {name: [] for name in self.layers}
        for tensor in tensors:
            for name in tensor.layers & self.layers.keys():
                self._tensors_of[name].append(tensor)
        self._total_macs = sum(layer.macs for layer in layers) or 1

    def predicted(self, kept: Collection[str]) -> Noise:
        """Return the noise per group of channels with some layers in float."""
        sums = [0.0] * len(self._allowed)
        for layer in self.layers.values():
            if layer.name not in kept:
                _add(sums, layer.noise)
        for tensor in self._tensors:
            if not tensor.layers <= frozenset(kept):
                _add(sums, tensor.noise)
        return tuple(sums)

    def excess(self, kept: Collection[str]) -> float:
        """Return the ratio of predicted to allowed noise of the worst group; 1 is at the limit."""
        found = self.predicted(kept)
        return max((n / a for n, a in zip(found, self._allowed, strict=True)), default=0.0)

    def share(self, kept: Collection[str]) -> float:
        """Return the share of the multiply-accumulates that would run in INT8."""
        return 1 - sum(self.layers[name].macs for name in kept) / self._total_macs

    def cost(self, name: str, kept: Collection[str] = ()) -> Noise:
        """Return the noise of a layer per group: of its weights, and its share of its tensors."""
        sums = list(self.layers[name].noise)
        for tensor in self._tensors_of[name]:
            others = len(tensor.layers - frozenset(kept) - {name})
            _add(sums, tensor.noise, 1 / (1 + others))
        return tuple(sums)

    def order(self, times: TimeModel, first: Collection[str] = ()) -> tuple[str, ...]:
        """Return all layers, those earlier that in float save more noise per time.

        Each step counts only groups of channels whose noise is still above the allowed one, if there
        are any.

        Args:
            times: What a layer in float costs.
            first: Layers that are in float anyway; they come first.
        """
        order, kept = sorted(first), frozenset(first)
        left = self.layers.keys() - kept
        while left:
            noise = self.predicted(kept)
            over = [g for g, a in enumerate(self._allowed) if noise[g] > a] or range(len(noise))
            best = max(sorted(left), key=lambda name: self._gain(name, kept, over, times))
            order.append(best)
            kept |= {best}
            left = left - {best}
        return tuple(order)

    def _gain(
        self, name: str, kept: frozenset[str], groups: Collection[int], times: TimeModel
    ) -> float:
        saved = self.cost(name, kept)
        worth = sum(saved[g] / self._allowed[g] for g in groups)
        return worth / max(times.change(name, kept), _LEAST_COST * times.all_float or 1.0)


def find_plan(
    model: NoiseModel,
    times: TimeModel,
    meets_limit: Callable[[frozenset[str]], bool],
    is_worth: Callable[[frozenset[str]], bool],
    *,
    first: frozenset[str] = frozenset(),
    spent: int = 0,
) -> Plan | None:
    """Return the fastest set of float layers found that meets the limit, or None.

    Bisection over `NoiseModel.order`, from the predicted place; then the layers that save most
    time return to INT8 one by one if the limit is still met. At most 2 log2(layers) + 10
    evaluations.

    Args:
        model: Noise of each layer.
        times: Time of each layer.
        meets_limit: Evaluates the whole graph with these layers in float.
        is_worth: Whether a graph with these layers in float is still worth having.
        first: Layers that stay in float for their speed.
        spent: Evaluations already made of the same budget.
    """
    order = model.order(times, first)
    budget = int(2 * math.log2(max(len(order), 2)) + 10) - spent
    begin = len(first)
    worth = [k for k in range(begin, len(order) + 1) if is_worth(frozenset(order[:k]))]
    limit = max(worth, default=begin)
    tried: dict[frozenset[str], bool] = {}

    def good(kept: frozenset[str]) -> bool:
        if kept not in tried:
            tried[kept] = meets_limit(kept)
        return tried[kept]

    low, high = begin - 1, limit + 1  # low fails, high meets the limit: neither was evaluated
    probe = next((k for k in range(begin, limit) if model.excess(order[:k]) <= 1), limit)
    while high - low > 1:
        if good(frozenset(order[:probe])):
            high = probe
        else:
            low = probe
        probe = (low + high) // 2
    if high > limit:
        return None
    kept = frozenset(order[:high])
    hopeless = _HOPELESS_RATIO * model.excess(kept)
    saved = {name: times.change(name, kept - {name}) for name in sorted(kept - first)}
    for name in sorted(saved, key=lambda name: -saved[name]):
        if len(tried) >= budget:
            break
        if model.excess(kept - {name}) <= hopeless and good(kept - {name}):
            kept -= {name}
    return Plan(kept=kept, order=order[:high], evaluations=len(tried))


_HOPELESS_RATIO = 2.0
"""Of predicted noise to that of an accepted set: above it (3 dB) a set is not evaluated."""
_LEAST_COST = 0.001
"""Of all layers in float: what a layer in float is assumed to cost at least."""


def is_symmetric(scheme: str | None) -> bool:
    """Return True if the codes of a scheme are symmetric around zero."""
    return scheme is not None and scheme.startswith("S8S8")


def best_weight_steps(weight_noise: Callable[[tuple[str, ...]], Noise]) -> tuple[str, ...]:
    """Return the entry of WEIGHT_STEPS with the least noise at the worst group of channels.

    SQNR decides: with activations in float a task's metric is saturated.

    Args:
        weight_noise: Returns the noise of all weights after some steps. Activations are float,
            since their noise would hide the difference.
    """
    return min(WEIGHT_STEPS, key=lambda steps: (max(weight_noise(steps), default=0.0), len(steps)))


def sqnr_db(noise: Noise) -> float:
    """Return the signal-to-quantization-noise ratio of the worst group of channels, dB."""
    worst = max(noise, default=0.0)
    return -10 * math.log10(worst) if worst > 0 else math.inf


def _add(sums: list[float], noise: Noise, weight: float = 1.0) -> None:
    for index, value in enumerate(noise):
        sums[index] += weight * value
