"""Times of kernels become times of layers: nothing is lost, nothing is counted twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.measurement.layer_times import EngineProfile, GraphNode, Kernel, layer_times


def chain(*nodes: tuple[str, str]) -> tuple[GraphNode, ...]:
    """Return nodes in a row, each with the tensor `name:0`."""
    tensors = ["x", *(f"{name}:0" for name, _ in nodes)]
    return tuple(
        GraphNode(name=name, operator=operator, inputs=(tensors[i],), outputs=(tensors[i + 1],))
        for i, (name, operator) in enumerate(nodes)
    )


def profile(
    nodes: tuple[GraphNode, ...],
    *kernels: tuple[str, float] | tuple[str, float, str],
    rest: float = 5.0,
) -> EngineProfile:
    """Return a profile; a kernel is its tensor, its time and, of a conversion, its operator."""
    found = tuple(
        Kernel(operator=operator[0] if operator else "", tensor=tensor, conversion=bool(operator), time_us=us)
        for tensor, us, *operator in kernels
    )  # fmt: skip
    whole = sum(one.time_us for one in found) + rest
    return EngineProfile(source="a test", nodes=nodes, kernels=found, inference_us=whole, runs=3)


GRAPH = chain(("a", "Conv"), ("a_relu", "Relu"), ("s", "Softmax"), ("r", "Resize"), ("b", "Conv"))
FP32 = profile(GRAPH, ("a_relu:0", 100), ("s:0", 20), ("r:0", 30), ("b:0", 50))
INT8 = profile(
    GRAPH,
    ("a_relu:0", 3, "QuantizeLinear"), ("a_relu:0", 40), ("s:0", 7, "DequantizeLinear"),
    ("s:0", 21), ("r:0", 31), ("r:0", 9, "QuantizeLinear"), ("b:0", 60), rest=8.0,
)  # fmt: skip


def test_a_layer_is_named_after_its_weighted_node_and_has_all_operators():
    found = layer_times(FP32)
    assert [(one.layer, one.operator, one.time_us) for one in found.layers] == [
        ("a", "Conv + Relu", 100.0), ("b", "Conv", 50.0), ("r", "Resize", 30.0),
        ("s", "Softmax", 20.0),
    ]  # fmt: skip
    assert (found.inference_us, found.between_us, found.count) == (205.0, 5.0, 4)
    assert found.against_baseline is None


def test_the_differences_to_fp32_are_attributed_and_add_up():
    found = layer_times(INT8, FP32, "fp32")
    change = found.against_baseline
    assert change is not None
    assert [
        (one.layer, one.time_us, one.conversions_us, one.baseline_time_us, one.difference_us)
        for one in change.layers
    ] == [
        ("b", 60.0, 0.0, 50.0, 10.0), ("r", 31.0, 9.0, 30.0, 10.0), ("s", 21.0, 7.0, 20.0, 8.0),
        ("a", 40.0, 3.0, 100.0, -57.0),
    ]  # fmt: skip
    assert (change.slower_us, change.faster_us) == (12.0, -60.0)
    assert (change.conversions_us, change.between_us) == (19.0, 3.0)
    assert (change.difference_us, change.baseline) == (-26.0, "fp32")
    assert found.conversions_us == 19.0


def test_nodes_that_run_together_in_one_engine_only_are_one_layer_in_both():
    """FP32 fuses Conv, Add and Relu; INT8 runs an Add of its own and has one more node."""
    nodes = chain(("c", "Conv"), ("add", "Add"), ("relu", "Relu"), ("end", "Exp"))
    longer = chain(
        ("c", "Conv"), ("scale", "Mul"), ("add", "Add"), ("relu", "Relu"), ("end", "Exp")
    )
    fp32 = profile(nodes, ("relu:0", 100), ("end:0", 1))
    int8 = profile(longer, ("c:0", 60), ("scale:0", 5), ("relu:0", 20), ("end:0", 1))
    change = layer_times(int8, fp32, "fp32").against_baseline
    assert change is not None
    assert [(one.layer, one.operator, one.time_us) for one in change.layers] == [
        ("end", "Exp", 1.0), ("c", "Conv + Add + Relu", 85.0),
    ]  # fmt: skip


def test_what_lies_behind_the_last_common_tensor_belongs_to_it():
    fp32 = profile(GRAPH, ("a_relu:0", 10), ("s:0", 2))
    int8 = profile(GRAPH, ("a_relu:0", 10), ("s:0", 2), ("b:0", 7))
    change = layer_times(int8, fp32, "fp32").against_baseline
    assert change is not None
    (largest, other) = change.layers
    assert (largest.layer, largest.operator, largest.time_us) == (
        "b",
        "Softmax + Resize + Conv",
        9.0,
    )
    assert (other.layer, other.time_us) == ("a", 10.0)


def test_kernels_of_no_known_tensor_are_reported_together():
    found = layer_times(profile(GRAPH, ("", 4), ("elsewhere", 6), ("b:0", 1)))
    assert [(one.layer, one.time_us) for one in found.layers] == [("other nodes", 10.0), ("a", 1.0)]


def test_the_report_has_the_ten_that_lose_most():
    nodes = chain(*((f"n{i}", "Exp") for i in range(30)))
    fp32 = profile(nodes, *((f"n{i}:0", 100) for i in range(30)))
    int8 = profile(nodes, *((f"n{i}:0", 100 + i) for i in range(30)))
    found = layer_times(int8, fp32, "fp32")
    change = found.against_baseline
    assert change is not None
    assert [one.layer for one in change.layers] == [f"n{i}" for i in range(29, 19, -1)]
    assert (len(found.layers), found.count, change.slower_us) == (10, 30, sum(range(30)))


TENSORS = st.sampled_from(["", "x", "elsewhere", *(f"{one.name}:0" for one in GRAPH)])
KERNELS = st.lists(
    st.builds(
        Kernel, operator=st.just("K"), tensor=TENSORS, conversion=st.booleans(),
        time_us=st.integers(0, 10_000).map(float),
    ),
    max_size=8,
)  # fmt: skip


@given(KERNELS, KERNELS, st.integers(0, 100), st.integers(0, 100))
def test_no_time_is_lost_or_counted_twice(mine, theirs, rest, other_rest):
    profiles = [
        EngineProfile(
            source="", nodes=GRAPH, kernels=tuple(kernels), runs=1,
            inference_us=sum(one.time_us for one in kernels) + between,
        )
        for kernels, between in ((mine, rest), (theirs, other_rest))
    ]  # fmt: skip
    found = layer_times(profiles[0], profiles[1], "fp32")
    spent = sum(one.time_us + one.conversions_us for one in found.layers)
    assert spent + found.between_us == pytest.approx(found.inference_us)
    change = found.against_baseline
    assert change is not None
    parts = change.slower_us + change.faster_us + change.conversions_us + change.between_us
    assert parts == pytest.approx(change.difference_us)
    rows = sum(one.difference_us for one in change.layers)
    assert rows + change.between_us == pytest.approx(change.difference_us)
