"""Times of layers in two precisions from profiles with different kernels."""

from __future__ import annotations

from agent.core.measurement.layer_speeds import conversions_us, layer_speeds
from agent.core.measurement.layer_times import EngineProfile, GraphNode, Kernel


def chain(*nodes: tuple[str, str]) -> tuple[GraphNode, ...]:
    tensors = ["x", *(f"{name}:0" for name, _ in nodes)]
    return tuple(
        GraphNode(name=name, operator=operator, inputs=(tensors[i],), outputs=(tensors[i + 1],))
        for i, (name, operator) in enumerate(nodes)
    )


def profile(nodes: tuple[GraphNode, ...], *kernels: tuple[str, float, bool]) -> EngineProfile:
    found = tuple(
        Kernel(operator="", tensor=f"{name}:0", conversion=conversion, time_us=us)
        for name, us, conversion in kernels
    )
    return EngineProfile(source="a test", nodes=nodes, kernels=found, inference_us=1.0, runs=3)


NODES = chain(("a", "Conv"), ("relu", "Relu"), ("b", "Conv"), ("add", "Add"), ("c", "Conv"))
INT8 = profile(
    NODES, ("a", 7.0, True), ("relu", 40.0, False), ("b", 10.0, False), ("add", 4.0, False),
    ("c", 5.0, False), ("c", 2.0, True),
)  # fmt: skip
FP32 = profile(NODES, ("relu", 90.0, False), ("add", 30.0, False), ("c", 20.0, False))


def test_a_layer_has_its_time_in_both_and_that_of_what_follows_it():
    found = {one.layer: one for one in layer_speeds(INT8, FP32, {"a": 1, "b": 1, "c": 1})}
    assert {name: (one.int8_us, one.float_us) for name, one in found.items()} == {
        "a": (40.0, 90.0), "b": (14.0, 30.0), "c": (5.0, 20.0),
    }  # fmt: skip


def test_layers_that_one_engine_runs_together_share_their_time_by_compute():
    together = profile(NODES, ("add", 120.0, False), ("c", 20.0, False))
    found = {one.layer: one for one in layer_speeds(INT8, together, {"a": 3, "b": 1, "c": 1})}
    assert (found["a"].float_us, found["b"].float_us) == (90.0, 30.0)
    assert found["a"].int8_us + found["b"].int8_us == 54.0


def test_an_activation_that_runs_alone_counts_for_its_layer():
    alone = profile(NODES, *((name, 10.0, False) for name in ("a", "relu", "b", "add", "c")))
    found = {one.layer: one for one in layer_speeds(alone, alone, {"a": 1, "b": 1, "c": 1})}
    assert [found[name].int8_us for name in "abc"] == [20.0, 20.0, 10.0]


def test_conversions_are_counted_apart():
    assert conversions_us(INT8) == 9.0
    assert conversions_us(FP32) == 0.0
