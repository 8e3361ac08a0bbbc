"""Predicted time of an inference for any set of layers left in float."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from agent.core.records import LayerSpeeds

_CONVERSION_MACS = 0.0005
"""Cost of a change of precision, as a share of all multiply-accumulates, where none was timed."""
_CLEARLY = 0.9
"""A layer is slower in INT8 if float takes less than this share of its time there."""
_LEAST_GAIN = 0.01
"""Of an inference: what leaving layers in float for their speed must save, to be beyond noise."""


class TimeModel:
    """Adds up the times of layers, and of changes of precision between them.

    Args:
        layers: Time in INT8 and in float of every layer, in any unit.
        conversions: For each activation, or those that are quantized together, the time of a change
            of its precision, and the layers that need it in INT8.
        timed: Whether these are times of this device; else they stand for compute.
    """

    def __init__(
        self,
        layers: Mapping[str, tuple[float, float]],
        conversions: Sequence[tuple[float, frozenset[str]]],
        *,
        timed: bool = True,
    ) -> None:
        self.timed = timed
        self.layers = dict(layers)
        self._conversions = [(time, names & layers.keys()) for time, names in conversions]
        self._beside: dict[str, list[tuple[float, frozenset[str]]]] = {name: [] for name in layers}
        for one in self._conversions:
            for name in one[1]:
                self._beside[name].append(one)
        self.all_int8 = sum(int8 for int8, _ in layers.values())
        self.all_float = sum(floating for _, floating in layers.values())

    @classmethod
    def of_compute(
        cls, macs: Mapping[str, int], tensors: Mapping[str, frozenset[str]]
    ) -> TimeModel:
        """Return a model where nothing was timed: INT8 saves in proportion to the compute.

        Args:
            macs: Multiply-accumulates of every layer.
            tensors: The layers that need each activation in INT8.
        """
        total = sum(macs.values()) or 1
        return cls(
            {name: (0.0, count / total) for name, count in macs.items()},
            [(_CONVERSION_MACS, names) for names in set(tensors.values())],
            timed=False,
        )

    @classmethod
    def of_speeds(
        cls,
        speeds: LayerSpeeds,
        macs: Mapping[str, int],
        tensors: Mapping[str, frozenset[str]],
        elements: Mapping[str, int],
    ) -> TimeModel:
        """Return a model of this device, us; a layer that was not timed counts by its compute.

        Args:
            speeds: What was timed.
            macs: Multiply-accumulates of every layer.
            tensors: The layers that need each activation in INT8.
            elements: Values of each activation. Those that the same layers need are converted
                together, as large as the largest.
        """
        timed = {one.layer: (one.int8_us, one.float_us) for one in speeds.layers}
        compute = sum(macs[name] for name in timed if name in macs) or 1
        rates = [sum(times[i] for times in timed.values()) / compute for i in (0, 1)]
        largest: dict[frozenset[str], int] = {}
        for name, beside in tensors.items():
            largest[beside] = max(largest.get(beside, 0), elements.get(name, 0))
        return cls(
            {
                name: timed.get(name, (rates[0] * count, rates[1] * count))
                for name, count in macs.items()
            },
            [(speeds.conversion_ns * count / 1e3, beside) for beside, count in largest.items()],
        )

    def time(self, kept: Collection[str]) -> float:
        """Return the time with some layers in float."""
        kept = frozenset(kept)
        of_layers = sum(times[name in kept] for name, times in self.layers.items())
        return of_layers + self.conversions(kept)

    def conversions(self, kept: frozenset[str]) -> float:
        """Return the part of the time in changes of precision."""
        return sum(time * _changes(names, kept) for time, names in self._conversions)

    def change(self, name: str, kept: frozenset[str]) -> float:
        """Return what one more layer in float costs; negative if that is faster."""
        int8, floating = self.layers[name]
        after = kept | {name}
        return (
            floating
            - int8
            + sum(
                time * (_changes(names, after) - _changes(names, kept))
                for time, names in self._beside[name]
            )
        )

    def slower(self) -> frozenset[str]:
        """Return the layers to leave in float because INT8 is slower, conversions included.

        From all that are slower alone, those return to INT8 that save more by having no
        conversions beside them; empty if all of it would hardly save anything.
        """
        kept = frozenset(
            name for name, (int8, floating) in self.layers.items() if floating < _CLEARLY * int8
        )
        while kept:
            costs = {name: self.change(name, kept - {name}) for name in sorted(kept)}
            worst = max(costs, key=costs.__getitem__)
            if costs[worst] <= 0:
                break
            kept -= {worst}
        saved = self.all_int8 - self.time(kept)
        return kept if saved >= _LEAST_GAIN * self.all_int8 else frozenset()


def _changes(names: frozenset[str], kept: Collection[str]) -> int:
    """Return how many changes of precision an activation needs: one for each layer that differs."""
    in_float = len(names.intersection(kept))
    return min(in_float, len(names) - in_float)
