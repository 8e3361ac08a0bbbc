"""Which layers INT8 makes slower follows from three profiles of one graph."""

from __future__ import annotations

import pytest

from agent.core.measurement.layer_times import EngineProfile, GraphNode, Kernel
from agent.core.records import Digest
from agent.stages.measuring.layer_speeds import time_layers

NAMES = "abcd"


class Structure:
    """Four layers in a row, each tensor between two of them."""

    def __init__(self, macs: dict[str, int]) -> None:
        self._macs = macs
        self.tensors = {f"t{i}": frozenset(NAMES[i : i + 2]) for i in range(3)}
        self.elements = dict.fromkeys(self.tensors, 1000)

    def layers(self) -> dict[str, tuple[str, int]]:
        return {name: ("Conv", count) for name, count in self._macs.items()}


def profile(times: dict[str, float], conversions: dict[str, float] | None = None) -> EngineProfile:
    nodes = tuple(
        GraphNode(name=n, operator="Conv", inputs=(f"t{i - 1}" if i else "x",), outputs=(f"t{i}",))
        for i, n in enumerate(times)
    )
    kernels = [
        Kernel(operator="", tensor=f"t{i}", conversion=False, time_us=us)
        for i, us in enumerate(times.values())
    ]
    kernels += [
        Kernel(operator="", tensor=tensor, conversion=True, time_us=us)
        for tensor, us in (conversions or {}).items()
    ]
    return EngineProfile(
        source="a test", nodes=nodes, kernels=tuple(kernels), inference_us=1.0, runs=6
    )


def found(int8, floating, macs=None, alternating=None):
    macs = macs or dict.fromkeys(NAMES, 10)
    return time_layers(
        int8, floating, digest=Digest("d"), precision="fp32", trial=Structure(macs),
        alternating=alternating,
    )  # fmt: skip


FLOAT = profile(dict.fromkeys(NAMES, 20.0))


def test_conversions_are_timed_where_every_other_layer_is_in_float():
    asked = []

    def alternating(kept: frozenset[str]) -> EngineProfile:
        asked.append(kept)
        return profile(dict.fromkeys(NAMES, 1.0), {"t0": 2.0, "t1": 3.0, "t2": 1.0})

    one = found(profile({"a": 60.0, "b": 9.0, "c": 9.0, "d": 9.0}), FLOAT, alternating=alternating)
    assert asked == [frozenset("ac")]
    assert one.conversion_ns == pytest.approx(2.0)  # 6 us for three tensors of 1000 values
    assert one.slower == ("a",)
    assert one.source == "a test"


def test_without_such_a_graph_conversions_are_those_of_the_engine_in_int8():
    int8 = profile({"a": 60.0, "b": 9.0, "c": 9.0, "d": 9.0}, {"t0": 50.0})
    one = found(int8, FLOAT)
    assert one.conversion_ns == pytest.approx(50.0)
    assert one.slower == ()  # its conversion would take what it saves
    assert found(profile({"a": 60.0, "b": 9.0, "c": 9.0, "d": 9.0}), FLOAT).conversion_ns == 0.0


def test_where_int8_is_slower_nearly_everywhere_it_is_measured_whole():
    int8 = profile({"a": 60.0, "b": 60.0, "c": 60.0, "d": 9.0})
    assert found(int8, FLOAT).slower == ("a", "b", "c")
    assert found(int8, FLOAT, {"a": 90, "b": 5, "c": 4, "d": 1}).slower == ()
