"""What is said of a build before it begins, on an 8 GB board and elsewhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.prediction.build_memory import build_shortage

MB = 1_000_000
RESERVE = 160 * MB


def test_an_8_gb_board_with_2_gb_free_is_warned_of_a_large_model() -> None:
    found = build_shortage("tensorrt", 350 * MB, 1024, 2_000 * MB, RESERVE)
    assert found == (
        "the build may run out of memory: 2,364 MB are expected (3 copies of the graph's 350 MB, "
        "1,074 MB of scratch memory, 240 MB of TensorRT itself; what the GPU takes is not known), "
        "and 1,840 MB may be used (2,000 MB are free, of which 160 MB stay free for others)"
    )


@pytest.mark.parametrize(
    ("runtime", "graph_mb", "workspace_mb", "free_mb", "enough"),
    [
        ("tensorrt", 10, 1024, 2_000, True),
        ("tensorrt", 10, 2048, 2_000, False),
        ("tensorrt", 0, 0, 399, False),
        ("tensorrt", 0, 0, 401, True),
        ("onnxruntime", 350, 0, 2_000, True),
        ("onnxruntime", 500, 0, 2_000, False),
        ("onnxruntime", 1, 0, 100, False),
    ],
)
def test_what_is_expected_is_compared_with_what_may_be_used(
    runtime: str, graph_mb: int, workspace_mb: int, free_mb: int, enough: bool
) -> None:
    found = build_shortage(runtime, graph_mb * MB, workspace_mb, free_mb * MB, RESERVE)
    assert (found == "") == enough
    assert ("scratch" in found) == (not enough and workspace_mb > 0)


@given(
    st.sampled_from(["tensorrt", "onnxruntime"]),
    *[st.integers(0, 10**10)] * 2,
    st.integers(0, 10**5),
    st.integers(0, 10**9),
)
def test_more_free_memory_never_makes_it_short(
    runtime: str, graph: int, free: int, scratch: int, more: int
) -> None:
    if build_shortage(runtime, graph, scratch, free, RESERVE) == "":
        assert build_shortage(runtime, graph, scratch, free + more, RESERVE) == ""
