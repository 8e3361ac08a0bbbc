"""Times of every layer in INT8 and in float, by the runtime's profiler, before layers are chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from agent.core.measurement.layer_speeds import conversions_us, layer_speeds
from agent.core.measurement.layer_times import EngineProfile
from agent.core.quantization.time_model import TimeModel
from agent.core.records import Digest, LayerSpeeds
from agent.ports import QuantizationTrial

_LEAST_SHARE = 0.2
"""Of the compute: where less would stay in INT8, INT8 as a whole is measured instead."""


def time_layers(
    int8: EngineProfile,
    floating: EngineProfile,
    *,
    digest: Digest,
    precision: str,
    trial: QuantizationTrial,
    alternating: Callable[[frozenset[str]], EngineProfile] | None,
) -> LayerSpeeds:
    """Return what each layer takes in INT8 and in float, and the layers that INT8 makes slower.

    Args:
        int8: Profile of the engine with all layers in INT8.
        floating: Of the engine in float.
        digest: Identity of the result.
        precision: Of layers in float: fp32 or fp16.
        trial: Knows the layers and tensors of the graph.
        alternating: Returns the profile of the graph with some layers in float, where that takes no
            build: with every other one it has the most changes of precision. None where it does,
            and those of the engine in INT8 have to do.
    """
    macs = {name: count for name, (_, count) in trial.layers().items()}
    found = LayerSpeeds(
        digest=digest,
        source=int8.source,
        floating=precision,
        layers=layer_speeds(int8, floating, macs),
        conversion_ns=1e3,
    )

    def times(speeds: LayerSpeeds) -> TimeModel:
        return TimeModel.of_speeds(speeds, macs, trial.tensors, trial.elements)

    counted = times(found)  # at 1 us for each value
    if alternating:
        kept = frozenset(list(macs)[::2])
        spent_us, values = conversions_us(alternating(kept)), counted.conversions(kept)
    else:
        converted = {one.tensor for one in int8.kernels if one.conversion}
        spent_us, values = conversions_us(int8), sum(trial.elements.get(n, 0) for n in converted)
    found = replace(found, conversion_ns=round(1e3 * spent_us / values, 4) if values else 0.0)
    slower = times(found).slower()
    left = sum(count for name, count in macs.items() if name not in slower)
    if left < _LEAST_SHARE * sum(macs.values()):
        return found
    return replace(found, slower=tuple(name for name in macs if name in slower))
