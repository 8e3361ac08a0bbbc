"""Time of each layer in INT8 and in float, from the profiles of two engines of one graph."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from agent.core.measurement.layer_times import EngineProfile, GraphNode, computed, times_by_cut
from agent.core.records import LayerSpeed


def layer_speeds(
    int8: EngineProfile, floating: EngineProfile, macs: Mapping[str, int]
) -> tuple[LayerSpeed, ...]:
    """Return the times of every layer that both profiles cover, conversions left out.

    Kernels are compared between the tensors that both engines compute. Where several layers lie
    between two such tensors, their time is split by multiply-accumulates; what has no layer (an
    activation, an addition) counts for the layer before it, with which it changes its precision.

    Args:
        int8: Of the engine with all layers in INT8; its nodes name the layers.
        floating: Of the engine in float.
        macs: Multiply-accumulates of every layer that can run in INT8.
    """
    cuts = computed(int8) & computed(floating)
    mine, theirs = times_by_cut(int8, cuts), times_by_cut(floating, cuts)
    times: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for cut, layers in _layers(int8.nodes, cuts, macs).items():
        total = sum(macs[name] for name in layers)
        for name in layers:
            share = macs[name] / total if total else 1 / len(layers)
            times[name][0] += share * mine[cut].layer_us
            times[name][1] += share * theirs[cut].layer_us
    return tuple(
        LayerSpeed(layer=name, int8_us=round(one, 2), float_us=round(other, 2))
        for name, (one, other) in times.items()
    )


def conversions_us(profile: EngineProfile) -> float:
    """Return the time of all changes of precision and layout in an inference."""
    return sum(one.time_us for one in profile.kernels if one.conversion)


def _layers(
    nodes: Sequence[GraphNode], cuts: Collection[str], macs: Mapping[str, int]
) -> dict[str, list[str]]:
    """Return the layers of the stretch that ends at each cut, or the one before it."""
    owner: dict[str, str] = {}  # of a tensor: the layer it comes from
    inside: dict[str, list[str]] = {}  # of a tensor: layers since the last cuts
    found: dict[str, list[str]] = {}
    for node in nodes:
        before = [name for name in node.inputs if name in owner]
        layer = node.name if node.name in macs else (owner[before[0]] if before else "")
        since = [one for name in node.inputs for one in inside.get(name, ())]
        if node.name in macs:
            since.append(node.name)
        for name in node.outputs:
            owner[name] = layer
            inside[name] = [] if name in cuts else since
            if name in cuts and (since or layer):
                found[name] = list(dict.fromkeys(since)) or [layer]
    return found
