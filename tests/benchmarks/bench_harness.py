"""What the measuring harness adds to an inference: its p50 against a bare loop's.

    python -m tests.benchmarks.bench_harness [MODEL.onnx]

prints one JSON object. Without a model it takes a graph of some 0.1 ms, where overhead would
show. The harness (stage, runner, clock: all as in a real run) and a plain `session.run` loop
take turns on a session, in an order that alternates, on one thread; so does a loop on the buffers
that the harness has bound, which leaves the harness alone to be seen. A second such loop shows what
this machine's noise alone makes of the ratio. Several sessions, since where their buffers and the
loops' own lie makes up to 1 % of 0.1 ms, in either direction.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from statistics import median

import numpy as np
import onnxruntime

from agent.adapters.engines.runner_onnxruntime import OnnxruntimeRunner
from agent.adapters.host.clock import SystemClock
from agent.config import Measure
from agent.core.measurement.power import Conditions
from agent.stages.measuring.measure import measure
from tests.support.candidates import engine
from tests.support.quant_graphs import detector

_SESSIONS = 8
_TURNS = 4
_TURN_S = 0.3
_WARMUP_S = 0.3


def bare(session: onnxruntime.InferenceSession, feed: dict[str, np.ndarray]) -> float:
    """Return the p50 in ms of a plain loop, as anybody would write it."""
    for _ in range(5):
        session.run(None, feed)
    times_ns = []
    stop = time.perf_counter() + _TURN_S
    while time.perf_counter() < stop or len(times_ns) < 5:
        begin = time.perf_counter_ns()
        session.run(None, feed)
        times_ns.append(time.perf_counter_ns() - begin)
    return median(times_ns) / 1e6


def bound(session: onnxruntime.InferenceSession, binding: onnxruntime.IOBinding) -> float:
    """Return the p50 in ms of a plain loop on bound buffers."""
    for _ in range(5):
        session.run_with_iobinding(binding)
    times_ns = []
    stop = time.perf_counter() + _TURN_S
    while time.perf_counter() < stop or len(times_ns) < 5:
        begin = time.perf_counter_ns()
        session.run_with_iobinding(binding)
        times_ns.append(time.perf_counter_ns() - begin)
    return median(times_ns) / 1e6


def harness(runner: OnnxruntimeRunner, feed: dict[str, np.ndarray]) -> float:
    """Return the p50 in ms that the measure stage reports for a loaded runner."""
    found = measure(
        {"model": engine()},
        Measure(warmup_s=0.0, duration_s=_TURN_S, rounds=1, idle_s=0.0),
        make_runner=lambda _: nullcontext(runner),
        tensors=lambda _: [feed],
        power="not asked for",
        clock=SystemClock(),
        conditions=Conditions,
        seed=0,
        progress=lambda *_: None,
    )
    return found.measured["model"].latency_ms.p50


def _take_turns(runner: OnnxruntimeRunner, turns: dict[str, list[float]], number: int) -> list[int]:
    """Add the p50 of each turn, ms; return the shape of the input."""
    session = runner._session
    (value,) = session.get_inputs()
    shape = [size if isinstance(size, int) else 1 for size in value.shape]
    feed = {value.name: np.random.default_rng(number).random(shape, np.float32)}
    runner.bind(feed)
    stop = time.monotonic() + _WARMUP_S
    while time.monotonic() < stop:
        runner.run()
    for first in range(_TURNS):
        for kind in [*turns][first:] + [*turns][:first]:
            if kind == "harness":
                turns[kind].append(harness(runner, feed))
            elif kind == "bare":
                turns[kind].append(bare(session, feed))
            else:
                turns[kind].append(bound(session, runner._binding))
    return shape


def compare(model: str) -> dict[str, object]:
    """Let both take turns on one model; ratios are taken within a turn."""
    turns: dict[str, list[float]] = {
        "harness": [], "bare": [], "bound": [], "bound_again": [],
    }  # fmt: skip
    for number in range(_SESSIONS):
        with OnnxruntimeRunner(model, threads=1) as runner:
            shape = _take_turns(runner, turns, number)
    return {
        "model": Path(model).name,
        "input": shape,
        "onnxruntime": onnxruntime.__version__,
        "turns": _SESSIONS * _TURNS,
        "load_1min": round(os.getloadavg()[0], 2),
        **{f"{kind}_p50_ms": round(median(one), 5) for kind, one in turns.items()},
        "harness_over_bare": _ratio(turns["harness"], turns["bare"]),
        "harness_over_bound": _ratio(turns["harness"], turns["bound"]),
        "bound_again_over_bound": _ratio(turns["bound_again"], turns["bound"]),
    }


def _ratio(one: list[float], other: list[float]) -> dict[str, float]:
    ratios = sorted(a / b for a, b in zip(one, other, strict=True))
    quarter = len(ratios) // 4
    return {
        "median": round(median(ratios), 4),
        "q25": round(ratios[quarter], 4),
        "q75": round(ratios[-quarter - 1], 4),
    }


def main(arguments: list[str]) -> None:
    """Print the comparison for a model, or for a small graph of our own."""
    with tempfile.TemporaryDirectory() as directory:
        model = arguments[0] if arguments else detector(Path(directory) / "detector.onnx")
        result = compare(model)
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
