"""Why a candidate is slower than FP32, in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from agent.core.records import BaselineDifference, Candidate, LayerDifference, Measurement

_NAMED = 2
_NAME = 48  # characters of a layer's name
_SHARE = 0.05  # of all that changed: smaller parts are not named


def slowdown(one: Candidate, others: Mapping[str, Candidate]) -> str:
    """Return which layers make a candidate slower than FP32; empty if it is not, or is unknown.

    Args:
        one: The candidate; its layer times name the FP32 candidate.
        others: All candidates by id.
    """
    change = one.layer_times.against_baseline if one.layer_times else None
    baseline = others.get(change.baseline) if change else None
    if not (one.layer_times and change and baseline and one.measurement and baseline.measurement):
        return ""
    if not _slower(one.measurement, baseline.measurement, change.baseline):
        return ""
    precision = "INT8" if one.recipe.precision.startswith("int8") else one.recipe.precision
    beginning = f"{precision} is slower than FP32 here"
    if change.difference_us <= 0:
        return f"{beginning}, but not by {one.layer_times.source}"
    ms = f"{change.difference_us / 1e3:.3g} ms by {one.layer_times.source}"
    return f"{beginning}, by {ms}: {', '.join(_parts(change))}"


def _slower(mine: Measurement, other: Measurement, baseline: str) -> bool:
    ratio = mine.p50_ratio_ci95.get(baseline)
    if ratio:
        return ratio[0] > 1
    spans = mine.latency_ms.ci95_p50, other.latency_ms.ci95_p50
    return bool(spans[0] and spans[1] and spans[0][0] > spans[1][1])


def _parts(change: BaselineDifference) -> list[str]:
    """Return what adds up to the difference, the largest first."""
    layers = change.layers
    parts = [
        (change.slower_us, f"from slower layers{_most(layers, _layer_us, ' ({})')}"),
        (change.faster_us, "from faster ones"),
        (change.conversions_us, f"from conversions{_most(layers, _conversions_us, ' around {}')}"),
        (change.between_us, "between the layers"),
    ]
    least_us = _SHARE * sum(abs(us) for us, _ in parts)
    parts.sort(reverse=True)
    return [f"{us / 1e3:+.3g} ms {words}" for us, words in parts if abs(us) > least_us]


def _layer_us(one: LayerDifference) -> float:
    return one.time_us - one.baseline_time_us


def _conversions_us(one: LayerDifference) -> float:
    return one.conversions_us - one.baseline_conversions_us


def _most(
    layers: Sequence[LayerDifference], change_us: Callable[[LayerDifference], float], text: str
) -> str:
    """Return the names of the layers that account for most of a part; empty if none does."""
    most = sorted(layers, key=change_us, reverse=True)[:_NAMED]
    least_us = change_us(most[0]) / 4 if most else 0.0
    names = [_short(one.layer) for one in most if change_us(one) > max(least_us, 0.0)]
    return text.format(" and ".join(names)) if names else ""


def _short(name: str) -> str:
    """Keep the end of a name, by which the layers of one graph differ."""
    return name if len(name) <= _NAME else f"…{name[-_NAME:]}"
