"""One pass of ONNX Runtime over frames, keeping a histogram per tensor and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from agent.core.errors import CalibrationError, ModelError
from agent.core.histogram import (
    BINS,
    HIGHEST_EXPONENT,
    LOWEST_EXPONENT,
    TensorHistogram,
    exponent_of,
    merge,
)
from agent.runtime_errors import ONNXRUNTIME_ERRORS, one_line

_SAMPLE = 1 << 15
"""Values of a tensor that a frame's histogram holds at least; smaller tensors are taken whole."""
_BLOCK = 256
"""Values taken in a row: 1 KB, so that what is skipped costs no memory traffic."""
_STRIDE = 15
"""At most one block in so many; odd, so that it does not beat with row lengths."""


class Collector:
    """Histograms of a model's tensors, filled frame by frame.

    Memory: one frame's values of the tensors (of one group of them, where together they are
    larger than memory_mb), whatever the number of frames.

    Args:
        model: Inferred clean model.
        tensors: Names of float32 tensors.
        threads: For the runtime and for counting; 0 leaves it to them.
        memory_mb: For the values of one frame.
    """

    def __init__(
        self, model: onnx.ModelProto, tensors: Sequence[str], threads: int, memory_mb: int
    ) -> None:
        self._threads = threads
        inputs = {value.name for value in model.graph.input}
        self._inputs = tuple(name for name in tensors if name in inputs)
        made = [name for name in tensors if name not in inputs]
        groups = _groups(model.graph, made, memory_mb * 1_000_000)
        # An arena keeps its peak, and every session has its own: with several they would add up.
        arena = len(groups) == 1
        self._sessions = [(group, _session(model, group, threads, arena)) for group in groups]
        self._found: dict[str, TensorHistogram] = {}
        self._frames = 0

    @contextmanager
    def counting(self) -> Iterator[Any]:
        """Give the counting threads; cv2 itself stays at one, as many tensors are counted at once."""
        before = cv2.getNumThreads()
        cv2.setNumThreads(1)
        try:
            with ThreadPoolExecutor(self._threads or None, "histogram") as pool:
                yield pool
        finally:
            cv2.setNumThreads(before)

    def add(self, frame: Mapping[str, NDArray[Any]], pool: ThreadPoolExecutor) -> None:
        """Run one frame and count it."""
        self._count({name: frame[name] for name in self._inputs}, pool)
        for names, session in self._sessions:
            self._count(dict(zip(names, _run(session, names, frame), strict=True)), pool)
        self._frames += 1

    def histograms(self, names: Sequence[str], kept: set[str]) -> Iterator[TensorHistogram]:
        """Yield the histograms found so far, those of `kept` marked as not clippable."""
        for name in names:
            yield replace(self._found[name], clippable=name not in kept)

    def _count(self, values: Mapping[str, NDArray[Any]], pool: ThreadPoolExecutor) -> None:
        count = partial(self._counted, values)
        for histogram in pool.map(count, values):
            self._found[histogram.name] = histogram

    def _counted(self, values: Mapping[str, NDArray[Any]], name: str) -> TensorHistogram:
        before = self._found.get(name)
        floor = before.exponent if before else LOWEST_EXPONENT
        found = histogram_of(name, values[name], floor, self._frames)
        return merge(before, found) if before else found


def histogram_of(
    name: str, values: NDArray[Any], lowest_exponent: int, turn: int
) -> TensorHistogram:
    """Count one tensor of one frame.

    The minimum and the maximum are of all values. The histogram of a large tensor is of blocks
    spread evenly over it, shifted with every turn, so that all places are seen in the end.

    Args:
        name: The tensor's name.
        values: float32, any shape, not empty.
        lowest_exponent: Of the histogram to be merged into, so that nothing is coarsened twice.
        turn: Number of the frame.
    """
    flat = np.ascontiguousarray(values, dtype=np.float32).reshape(-1)
    minimum, maximum = float(flat.min()), float(flat.max())
    counts = np.zeros(2 * BINS, dtype=np.int64)
    exponent = lowest_exponent
    if np.isfinite(minimum) and np.isfinite(maximum):
        exponent = max(exponent_of(minimum, maximum), lowest_exponent)
        if exponent < HIGHEST_EXPONENT:
            edge = float(np.ldexp(1.0, exponent))
            sampled = _sampled(flat, turn)
            found = cv2.calcHist([sampled], [0], None, [2 * BINS], [-edge, edge])
            counts = found.reshape(-1).astype(np.int64)
    return TensorHistogram(
        name=name,
        minimum=minimum,
        maximum=maximum,
        exponent=exponent,
        counts=counts,
        count=int(counts.sum()),
    )


def _sampled(flat: NDArray[np.float32], turn: int) -> NDArray[np.float32]:
    stride = min(flat.size // _SAMPLE, _STRIDE)
    if stride <= 1:
        return flat.reshape(1, -1)
    blocks = flat[: flat.size // _BLOCK * _BLOCK].reshape(-1, _BLOCK)
    return blocks[turn % stride :: stride]


def _groups(graph: onnx.GraphProto, tensors: Sequence[str], limit: int) -> list[list[str]]:
    """Return the tensors in graph order, in runs of at most `limit` bytes."""
    sizes = {
        value.name: 4
        * int(np.prod([max(d.dim_value, 1) for d in value.type.tensor_type.shape.dim]))
        for value in (*graph.value_info, *graph.output)
    }
    order = {name: i for i, node in enumerate(graph.node) for name in node.output}
    groups: list[list[str]] = [[]]
    filled = 0
    for name in sorted(tensors, key=order.__getitem__):
        size = sizes.get(name, 0)
        if groups[-1] and filled + size > limit:
            groups.append([])
            filled = 0
        groups[-1].append(name)
        filled += size
    return [group for group in groups if group]


def _session(
    model: onnx.ModelProto, outputs: Sequence[str], threads: int, arena: bool
) -> onnxruntime.InferenceSession:
    """Return a session of just what the outputs need."""
    part = onnx.ModelProto()
    part.CopyFrom(model)
    needed = _ancestors(model.graph, outputs)
    del part.graph.node[:]
    part.graph.node.extend(node for i, node in enumerate(model.graph.node) if i in needed)
    del part.graph.output[:]
    part.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outputs
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.enable_mem_pattern = False
    options.enable_cpu_mem_arena = arena
    if threads:
        options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(
            part.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except ONNXRUNTIME_ERRORS as e:
        raise ModelError(f"ONNX Runtime does not load the model: {one_line(e)}") from e


def _ancestors(graph: onnx.GraphProto, outputs: Sequence[str]) -> set[int]:
    wanted = set(outputs)
    needed = set()
    for index in range(len(graph.node) - 1, -1, -1):
        node = graph.node[index]
        if not wanted.isdisjoint(node.output):
            needed.add(index)
            wanted.update(node.input)
            for attribute in node.attribute:  # bodies of If and Loop see outer tensors
                wanted.update(name for inner in attribute.g.node for name in inner.input)
    return needed


def _run(
    session: onnxruntime.InferenceSession, names: Sequence[str], frame: Mapping[str, NDArray[Any]]
) -> list[NDArray[Any]]:
    wanted = {value.name for value in session.get_inputs()}
    try:
        found: list[NDArray[Any]] = session.run(
            list(names), {name: value for name, value in frame.items() if name in wanted}
        )
    except ONNXRUNTIME_ERRORS as e:
        raise CalibrationError(
            f"the model does not run on a calibration frame: {one_line(e)}", code="model_failed"
        ) from e
    return found
