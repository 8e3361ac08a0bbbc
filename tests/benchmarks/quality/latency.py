"""Graphs timed in turn on this CPU, so that a busy machine slows all of them alike.

    python -m tests.benchmarks.quality.latency FRAMES.npz GRAPH.onnx GRAPH.onnx ...

prints one JSON object: the p50 of each graph, and the 95 % interval of the first graph's p50 over
that of each other.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
import onnxruntime

from agent.core.measurement.ratios import p50_ratios_ci95

_ROUNDS = 30
_ROUND_S = 0.1  # of the slowest graph
_MOST = 50  # inferences of a graph in a round


def measured(frames: str, *graphs: str) -> dict[str, Any]:
    """Return p50 in ms and ratios by index of the graph."""
    with np.load(frames) as arrays:
        frame = arrays[arrays.files[0]]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    sessions = [
        onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        for graph in graphs
    ]
    feeds = [{one.get_inputs()[0].name: frame} for one in sessions]

    def timed_ns(index: int) -> int:
        begin = time.perf_counter_ns()
        sessions[index].run(None, feeds[index])
        return time.perf_counter_ns() - begin

    slowest_s = max(timed_ns(i) + timed_ns(i) for i in range(len(graphs))) / 2e9
    count = min(max(round(_ROUND_S / slowest_s), 1), _MOST)
    rounds: dict[str, list[Any]] = {str(i): [] for i in range(len(graphs))}
    for number in range(_ROUNDS):
        order = range(len(graphs)) if number % 2 else reversed(range(len(graphs)))
        for index in order:
            taken = [timed_ns(index) for _ in range(count)]
            rounds[str(index)].append(np.array(taken, np.int64))
    p50_ms = {i: float(np.median(np.concatenate(taken))) / 1e6 for i, taken in rounds.items()}
    ratios = p50_ratios_ci95(rounds, p50_ms, _ROUNDS).get("0", {})
    return {"p50_ms": {i: round(one, 3) for i, one in p50_ms.items()}, "ratio_ci95": ratios}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measured(*sys.argv[1:])) + "\n")
