"""Which layers stay in float: a bounded search over the noise that each one brings.

Quantization noise of different places is nearly independent, so at the outputs its powers add
up: what single layers cost, measured one by one, predicts what any set of them costs. The
prediction orders the search; every set that is accepted was evaluated as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from agent.core.records import Fidelity

Noise = tuple[float, ...]
"""Noise power over signal power, one for each output of the model."""

BIAS_CORRECTION = "bias-correction"
"""The step that makes up for the mean error of rounded weights."""
WEIGHT_ROUNDING = "weight-rounding"
"""The step that rounds weights so that the outputs of their layer move least."""
WEIGHT_STEPS: tuple[tuple[str, ...], ...] = (
    (),
    (BIAS_CORRECTION,),
    (WEIGHT_ROUNDING, BIAS_CORRECTION),  # what it leaves to the mean is for the bias
)
"""What may be done to the weights of layers in INT8; the best is found by trying."""
_ISLAND = 0.001
"""Share of all multiply-accumulates that a change of precision costs whatever the layer's size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerNoise:
    """What the weights of one layer cost in INT8.

    Attributes:
        name: The node.
        operator: Its ONNX operator.
        macs: Its multiply-accumulates.
        noise: At the outputs, if its weights alone are quantized.
    """

    name: str
    operator: str
    macs: int
    noise: Noise


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorNoise:
    """What quantizing one activation costs.

    Attributes:
        name: The tensor.
        noise: At the outputs, if it alone is quantized.
        holders: The layers that ask for it in INT8; it is float when all of them are.
    """

    name: str
    noise: Noise
    holders: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """What of a model is quantized, and how.

    Attributes:
        ranges: Low and high of every activation that is quantized.
        kept: Layers left in float.
        steps: What is done to the weights of layers in INT8: some of WEIGHT_STEPS.
    """

    ranges: Mapping[str, tuple[float, float]]
    kept: frozenset[str] = frozenset()
    steps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A set of layers in float that keeps the limit.

    Attributes:
        kept: Their names.
        evaluations: How often a whole graph was evaluated to find it.
    """

    kept: frozenset[str]
    evaluations: int


class NoiseModel:
    """Predicts the noise at the outputs for any set of layers left in float.

    Args:
        layers: Every layer that can run in INT8.
        tensors: Every activation that would be quantized.
        allowed: The largest noise per output that is still good, as the limit says.
    """

    def __init__(
        self, layers: Sequence[LayerNoise], tensors: Sequence[TensorNoise], allowed: Noise
    ) -> None:
        self.layers = {layer.name: layer for layer in layers}
        self._tensors = tuple(tensors)
        self._allowed = allowed
        self._held: dict[str, list[TensorNoise]] = {name: [] for name in self.layers}
        for tensor in tensors:
            for name in tensor.holders & self.layers.keys():
                self._held[name].append(tensor)
        self._total_macs = sum(layer.macs for layer in layers) or 1

    def predicted(self, kept: Collection[str]) -> Noise:
        """Return the noise per output with some layers in float."""
        sums = [0.0] * len(self._allowed)
        for layer in self.layers.values():
            if layer.name not in kept:
                _add(sums, layer.noise)
        for tensor in self._tensors:
            if not tensor.holders <= frozenset(kept):
                _add(sums, tensor.noise)
        return tuple(sums)

    def excess(self, kept: Collection[str]) -> float:
        """Return the predicted noise over the allowed, of the worst output; 1 is at the limit."""
        found = self.predicted(kept)
        return max((n / a for n, a in zip(found, self._allowed, strict=True)), default=0.0)

    def share(self, kept: Collection[str]) -> float:
        """Return the share of the multiply-accumulates that would run in INT8."""
        return 1 - sum(self.layers[name].macs for name in kept) / self._total_macs

    def cost(self, name: str, kept: Collection[str] = ()) -> Noise:
        """Return what a layer adds per output: its weights, and its part of its tensors."""
        sums = list(self.layers[name].noise)
        for tensor in self._held[name]:
            others = len(tensor.holders - frozenset(kept) - {name})
            _add(sums, tensor.noise, 1 / (1 + others))
        return tuple(sums)

    def order(self) -> tuple[str, ...]:
        """Return all layers, first the one whose float saves most noise per compute it costs.

        Each step looks at the outputs that are still over what is allowed, so that a layer
        which spoils an output of no concern does not come first.
        """
        kept: list[str] = []
        left = set(self.layers)
        while left:
            noise = self.predicted(kept)
            over = [o for o, a in enumerate(self._allowed) if noise[o] > a] or range(len(noise))
            best = max(sorted(left), key=lambda name: self._gain(name, kept, over))
            kept.append(best)
            left.discard(best)
        return tuple(kept)

    def _gain(self, name: str, kept: Sequence[str], outputs: Collection[int]) -> float:
        saved = self.cost(name, kept)
        worth = sum(saved[o] / self._allowed[o] for o in outputs)
        return worth / (self.layers[name].macs / self._total_macs + _ISLAND)


def find_plan(
    model: NoiseModel,
    holds: Callable[[frozenset[str]], bool],
    least_share: float,
    spent: int = 0,
) -> Plan | None:
    """Return the smallest set of layers found whose float keeps the limit, or None.

    Bisection over `NoiseModel.order`, begun where the prediction says; then the largest layers
    are given back to INT8 one by one where the limit still holds. At most
    2 log2(layers) + 10 evaluations.

    Args:
        model: What each layer costs.
        holds: Evaluates the whole graph with these layers in float.
        least_share: Share of the compute that must stay in INT8 for it to be worth it.
        spent: Evaluations already made, out of the same budget.
    """
    order = model.order()
    budget = int(2 * math.log2(max(len(order), 2)) + 10) - spent
    limit = max(k for k in range(len(order) + 1) if model.share(order[:k]) >= least_share)
    tried: dict[frozenset[str], bool] = {}

    def good(kept: frozenset[str]) -> bool:
        if kept not in tried:
            tried[kept] = holds(kept)
        return tried[kept]

    low, high = -1, limit + 1  # low fails, high holds: both not yet looked at
    probe = next((k for k in range(limit) if model.excess(order[:k]) <= 1), limit)
    while high - low > 1:
        if good(frozenset(order[:probe])):
            high = probe
        else:
            low = probe
        probe = (low + high) // 2
    if high > limit:
        return None
    kept = frozenset(order[:high])
    hopeless = _HOPELESS * model.excess(kept)
    for name in sorted(kept, key=lambda name: -model.layers[name].macs):
        if len(tried) >= budget:
            break
        if model.excess(kept - {name}) <= hopeless and good(kept - {name}):
            kept -= {name}
    return Plan(kept=kept, evaluations=len(tried))


_HOPELESS = 2.0
"""Predicted noise over that of a set that holds beyond which an evaluation is wasted (3 dB)."""


def is_symmetric(scheme: str | None) -> bool:
    """Return True if the integers of a scheme lie evenly around zero."""
    return scheme is not None and scheme.startswith("S8S8")


def best_weight_steps(weight_noise: Callable[[tuple[str, ...]], Noise]) -> tuple[str, ...]:
    """Return those of WEIGHT_STEPS with the least noise at the worst output, of equals the fewest.

    Args:
        weight_noise: Returns the noise of all weights after some steps, with activations in float:
            beside the noise of activations the difference would be luck.
    """
    return min(WEIGHT_STEPS, key=lambda steps: (max(weight_noise(steps), default=0.0), len(steps)))


def worst_sqnr_db(found: Fidelity | None) -> float:
    """Return the SQNR of the worst output, dB, for comparing; -inf where outputs are no numbers."""
    if found is None:
        return -math.inf
    return math.inf if found.sqnr_db is None else found.sqnr_db


def sqnr_db(noise: Noise) -> float:
    """Return the signal-to-quantization-noise ratio of the worst output, dB."""
    worst = max(noise, default=0.0)
    return -10 * math.log10(worst) if worst > 0 else math.inf


def _add(sums: list[float], noise: Noise, weight: float = 1.0) -> None:
    for index, value in enumerate(noise):
        sums[index] += weight * value
