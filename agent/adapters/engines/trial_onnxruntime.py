"""Short timing of a model's graph in FP32 and INT8, before calibration."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx
from onnx import helper

from agent.core.errors import QuantizeError, RunnerError
from agent.core.prediction.predict import Trial
from agent.engines.errors import ONNXRUNTIME_ERRORS, one_line
from agent.engines.providers import make_session, resolve_providers
from agent.graphs.batches import with_batch
from agent.graphs.qdq import load_inferred, quantized_tensors, save, with_qdq

_SECONDS = 0.8  # for each precision
_SLICES = 8
_LEAST_RUNS = 3
_UNTIMED = 2


def time_trial(
    model: str, batch: int, scheme: str, threads: int, providers: Sequence[str]
) -> Trial:
    """Time the graph in alternating slices, so that a disturbance affects both precisions.

    Args:
        model: Path of the clean model.
        batch: Frames per inference.
        scheme: Placement of Q/DQ: U8S8 or S8S8.
        threads: Of one inference; 0 takes all cores.
        providers: As configured; empty for the default.

    Raises:
        RunnerError: if the runtime refuses the graphs.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="quantd-trial-") as directory:
            floats = model
            if batch > 1:
                floats = str(Path(directory, "batch.onnx"))
                onnx.save(with_batch(onnx.load(model), batch), floats)
            graph = load_inferred(floats)
            ranges = dict.fromkeys(quantized_tensors(graph, scheme), (-4.0, 4.0))
            integers = str(Path(directory, "int8.onnx"))
            save(with_qdq(graph, scheme, ranges), integers)
            feed = _feed(floats)
            runs = [
                _bound(make_session(path, threads, resolve_providers(providers)), feed)
                for path in (floats, integers)
            ]
            spent: tuple[list[float], list[float]] = ([], [])
            for _ in range(_SLICES):
                for run, taken in zip(runs, spent, strict=True):
                    taken.extend(_slice(run))
    except ONNXRUNTIME_ERRORS as e:
        raise RunnerError(f"trial of the graph: {one_line(e)}") from e
    except QuantizeError as e:
        raise RunnerError(f"trial of the graph: {e.message}") from e
    return Trial(batch=batch, fp32_ms=median(spent[0]), int8_ms=median(spent[1]))


def _feed(model: str) -> dict[str, Any]:
    source = np.random.default_rng(0)
    found = {}
    for value in onnx.load(model, load_external_data=False).graph.input:
        tensor = value.type.tensor_type
        shape = [dim.dim_value for dim in tensor.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        found[value.name] = (source.random(shape) * (1 if dtype.kind == "f" else 255)).astype(dtype)
    return found


def _bound(session: Any, feed: dict[str, Any]) -> Callable[[], object]:
    """Return a function that runs the session once, its buffers bound as in a measurement."""
    binding = session.io_binding()
    for name, value in feed.items():
        binding.bind_cpu_input(name, value)
    for output in session.get_outputs():
        binding.bind_output(output.name)
    return lambda: session.run_with_iobinding(binding)


def _slice(run: Callable[[], object]) -> list[float]:
    for _ in range(_UNTIMED):  # the caches contain the other precision's data
        run()
    times_ms: list[float] = []
    end = time.monotonic() + _SECONDS / _SLICES
    while time.monotonic() < end or len(times_ms) < _LEAST_RUNS:
        begin = time.monotonic_ns()
        run()
        times_ms.append((time.monotonic_ns() - begin) / 1e6)
    return times_ms
