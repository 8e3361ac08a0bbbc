"""The memory that a build is known to take, before it begins. Pure, numpy-free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _Cost:
    """What a builder takes of the machine's memory.

    Attributes:
        name: The runtime's, in words.
        own_mb: Of its libraries and of this process.
        copies: Of the graph's file, which is in the weights: file, network, engine.
    """

    name: str
    own_mb: int
    copies: int


_COSTS: Mapping[str, _Cost] = {
    "tensorrt": _Cost("TensorRT", 240, 3),
    "onnxruntime": _Cost("ONNX Runtime", 100, 4),
}
"""Source: peak resident size of building 3x3 convolutions of 512 channels with TensorRT-RTX 1.7.1 and
    ONNX Runtime 1.32 on x86-64: graphs of 2, 26, 52 and 104 MB took 237, 337, 382 and 538 MB with
    TensorRT, those of 9, 26 and 104 MB 135, 168 and 513 MB with ONNX Runtime. What a GPU that shares
    the memory takes can't be known before."""


def build_shortage(
    runtime: str, graph_bytes: int, workspace_mb: int, free_bytes: int, reserve_bytes: int
) -> str:
    """Return why a build may run out of memory, with the parts of the sum; "" if there is enough.

    Args:
        runtime: tensorrt or onnxruntime.
        graph_bytes: Size of the graph's file.
        workspace_mb: The builder's scratch memory at most, MiB, if that is the machine's memory.
        free_bytes: Memory and swap that are free.
        reserve_bytes: What jobs must leave free: a build that leaves less is ended.
    """
    cost = _COSTS[runtime]
    graph_mb = graph_bytes / 1e6
    scratch_mb = workspace_mb * (1 << 20) / 1e6
    needed_mb = cost.own_mb + cost.copies * graph_mb + scratch_mb
    left_mb = max(0.0, (free_bytes - reserve_bytes) / 1e6)
    if needed_mb <= left_mb:
        return ""
    scratch = f", {scratch_mb:,.0f} MB of scratch memory" if scratch_mb else ""
    return (
        f"the build may run out of memory: {needed_mb:,.0f} MB are expected ({cost.copies} copies "
        f"of the graph's {graph_mb:,.0f} MB{scratch}, {cost.own_mb} MB of {cost.name} itself; what "
        f"the GPU takes is not known), and {left_mb:,.0f} MB may be used ({free_bytes / 1e6:,.0f} "
        f"MB are free, of which {reserve_bytes / 1e6:,.0f} MB stay free for others)"
    )
