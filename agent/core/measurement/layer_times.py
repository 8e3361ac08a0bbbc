"""Times of a runtime's kernels, attributed to the layers of the graph and compared with FP32.

A runtime fuses, renames and adds nodes, differently for each precision. Tensors survive that: a
row of the comparison is the stretch between two tensors that both engines compute.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from agent.core.records import BaselineDifference, LayerDifference, LayerTime, LayerTimes

_MOST_LAYERS = 10
_MOST_OPERATORS = 4
_UNKNOWN = "other nodes"
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN", "Attention")


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphNode:
    """A node of the graph that an engine was made from, without Q/DQ and constants."""

    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """One node that a runtime executes.

    Attributes:
        operator: The runtime's name of it.
        tensor: The tensor of the graph that it computes; of a conversion that of the layer that
            needs it; "" if unknown.
        conversion: Whether it only changes precision or layout.
        time_us: In an inference.
    """

    operator: str
    tensor: str
    conversion: bool
    time_us: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineProfile:
    """What a runtime reports of some inferences.

    Attributes:
        source: What reports it.
        nodes: Of the graph, in order.
        inference_us: Of a whole inference: the kernels, and what lies between them.
    """

    source: str
    nodes: tuple[GraphNode, ...]
    kernels: tuple[Kernel, ...]
    inference_us: float
    runs: int


@dataclass(slots=True)
class Spent:
    """Times of the kernels up to a tensor: of the layers themselves, and of conversions."""

    layer_us: float = 0.0
    conversions_us: float = 0.0


def layer_times(
    profile: EngineProfile, baseline: EngineProfile | None = None, name: str = ""
) -> LayerTimes:
    """Return the layers of an engine, the slowest first.

    Args:
        profile: Of the engine.
        baseline: Of FP32, to compare with; None for FP32 itself.
        name: The baseline's id.
    """
    cuts = computed(profile)
    if baseline is not None:
        cuts &= computed(baseline)
    spent = times_by_cut(profile, cuts)
    named = _names((baseline or profile).nodes, cuts)
    layers = [
        LayerTime(
            layer=named[tensor][0],
            operator=named[tensor][1],
            time_us=round(one.layer_us, 1),
            conversions_us=round(one.conversions_us, 1),
        )
        for tensor, one in spent.items()
    ]
    layers.sort(key=lambda one: -one.time_us - one.conversions_us)
    return LayerTimes(
        source=profile.source,
        runs=profile.runs,
        inference_us=round(profile.inference_us, 1),
        conversions_us=round(_conversions_us(spent), 1),
        between_us=round(_between_us(profile), 1),
        count=len(layers),
        layers=tuple(layers[:_MOST_LAYERS]),
        against_baseline=_against(
            profile, spent, baseline, times_by_cut(baseline, cuts), named, name
        )
        if baseline
        else None,
    )


def _against(
    profile: EngineProfile,
    spent: Mapping[str, Spent],
    baseline: EngineProfile,
    theirs: Mapping[str, Spent],
    named: Mapping[str, tuple[str, str]],
    name: str,
) -> BaselineDifference:
    layers = []
    slower_us = faster_us = 0.0
    for tensor in dict.fromkeys((*spent, *theirs)):
        mine, other = spent.get(tensor, Spent()), theirs.get(tensor, Spent())
        change_us = mine.layer_us - other.layer_us
        slower_us += max(change_us, 0.0)
        faster_us += min(change_us, 0.0)
        layers.append(
            LayerDifference(
                layer=named[tensor][0],
                operator=named[tensor][1],
                time_us=round(mine.layer_us, 1),
                conversions_us=round(mine.conversions_us, 1),
                baseline_time_us=round(other.layer_us, 1),
                baseline_conversions_us=round(other.conversions_us, 1),
                difference_us=round(change_us + mine.conversions_us - other.conversions_us, 1),
            )
        )
    layers.sort(key=_largest_loss_us, reverse=True)
    shown = sorted(layers[:_MOST_LAYERS], key=lambda one: -one.difference_us)
    return BaselineDifference(
        baseline=name,
        difference_us=round(profile.inference_us - baseline.inference_us, 1),
        slower_us=round(slower_us, 1),
        faster_us=round(faster_us, 1),
        conversions_us=round(_conversions_us(spent) - _conversions_us(theirs), 1),
        between_us=round(_between_us(profile) - _between_us(baseline), 1),
        layers=tuple(shown),
    )


def _largest_loss_us(one: LayerDifference) -> float:
    """Return what it loses by itself or by conversions, whichever is more."""
    by_conversions_us = one.conversions_us - one.baseline_conversions_us
    return max(one.time_us - one.baseline_time_us, by_conversions_us)


def computed(profile: EngineProfile) -> set[str]:
    """Return the tensors of the graph that kernels of their own compute."""
    made = {name for node in profile.nodes for name in node.outputs}
    return made.intersection(one.tensor for one in profile.kernels if not one.conversion)


def times_by_cut(profile: EngineProfile, cuts: Collection[str]) -> dict[str, Spent]:
    """Return the time up to each cut, "" for what can't be attributed."""
    nearest = _nearest(profile.nodes, cuts)
    found: dict[str, Spent] = defaultdict(Spent)
    for one in profile.kernels:
        row = found[nearest.get(one.tensor, "")]
        if one.conversion:
            row.conversions_us += one.time_us
        else:
            row.layer_us += one.time_us
    return found


def _nearest(nodes: Sequence[GraphNode], cuts: Collection[str]) -> dict[str, str]:
    """Return, for each tensor, the cut that it leads to, or behind the last cut that one."""
    found = {tensor: tensor for tensor in cuts}
    for node in reversed(nodes):  # the first reader of a tensor comes last and decides
        ahead = next((found[name] for name in node.outputs if name in found), None)
        if ahead is not None:
            found |= {name: ahead for name in node.inputs if name not in cuts}
    for node in nodes:
        behind = next((found[name] for name in node.inputs if name in found), None)
        if behind is not None:
            found |= {name: behind for name in node.outputs if name not in found}
    return found


def _names(nodes: Sequence[GraphNode], cuts: Collection[str]) -> dict[str, tuple[str, str]]:
    """Return the name and the operators of the layers up to each cut."""
    nearest = _nearest(nodes, cuts)
    members: dict[str, list[GraphNode]] = defaultdict(list)
    for node in nodes:
        cut = next((name for name in node.outputs if name in cuts), None)
        ahead = next((nearest[name] for name in node.outputs if name in nearest), "")
        members[cut or ahead].append(node)
    named = {"": (_UNKNOWN, "")}
    for tensor in cuts:
        group = members[tensor]
        main = next((one for one in group if one.operator in _WEIGHTED), group[-1])
        named[tensor] = (main.name, _operators(one.operator for one in group))
    return named


def _operators(names: Iterable[str]) -> str:
    found = list(dict.fromkeys(names))
    return " + ".join([*found[:_MOST_OPERATORS], *(["…"] if len(found) > _MOST_OPERATORS else [])])


def _conversions_us(spent: Mapping[str, Spent]) -> float:
    return sum(one.conversions_us for one in spent.values())


def _between_us(profile: EngineProfile) -> float:
    return profile.inference_us - sum(one.time_us for one in profile.kernels)
