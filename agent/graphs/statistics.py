"""One pass of ONNX Runtime over frames that keeps only a histogram per tensor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray

from agent.core.errors import CalibrationError, ModelError
from agent.core.quantization.histogram import (
    BINS,
    HIGHEST_EXPONENT,
    LOWEST_EXPONENT,
    TensorHistogram,
    exponent_of,
    merge,
)
from agent.engines.errors import ONNXRUNTIME_ERRORS, one_line
from agent.graphs.pixels import steps_of
from agent.graphs.probes import FIRST_ROWS, PARTS, first_rows, with_probes
from agent.graphs.sessions import session


class Collector:
    """Histograms of a model's tensors, filled frame by frame.

    Memory: that of plain inference and the samples, independent of the number of frames.

    Args:
        model: Inferred clean model.
        tensors: Names of float32 tensors.
        threads: Of the runtime and of counting; 0 takes the defaults of both.
    """

    def __init__(self, model: onnx.ModelProto, tensors: Sequence[str], threads: int) -> None:
        self._threads = threads
        self._tensors = tuple(tensors)
        self._steps = steps_of(model)
        try:
            self._session = session(with_probes(model, tensors), threads)
        except ONNXRUNTIME_ERRORS as e:
            raise ModelError(f"ONNX Runtime does not load the model: {one_line(e)}") from e
        self._found: dict[str, TensorHistogram] = {}
        self._frames = 0

    @contextmanager
    def counting(self) -> Iterator[ThreadPoolExecutor]:
        """Yield the pool that counts tensors in parallel, with cv2 itself limited to one thread."""
        before = cv2.getNumThreads()
        cv2.setNumThreads(1)
        try:
            with ThreadPoolExecutor(self._threads or None, "histogram") as pool:
                yield pool
        finally:
            cv2.setNumThreads(before)

    def add(self, frame: Mapping[str, NDArray[Any]], pool: ThreadPoolExecutor) -> None:
        """Run one frame and count it."""
        try:
            outputs = self._session.run(None, {**frame, FIRST_ROWS: first_rows(self._frames)})
        except ONNXRUNTIME_ERRORS as e:
            raise CalibrationError(
                f"the model does not run on a calibration frame: {one_line(e)}", code="model_failed"
            ) from e
        parts = [outputs[i : i + len(PARTS)] for i in range(0, len(outputs), len(PARTS))]
        for histogram in pool.map(self._counted, self._tensors, parts):
            self._found[histogram.name] = histogram
        self._frames += 1

    def histograms(self, names: Sequence[str], kept: set[str]) -> Iterator[TensorHistogram]:
        """Yield the histograms so far; those of `kept` are not clippable."""
        for name in names:
            step = self._steps.get(name, 0.0)
            yield replace(self._found[name], clippable=name not in kept, step=step)

    def _counted(self, name: str, parts: Sequence[NDArray[np.float32]]) -> TensorHistogram:
        minimum, maximum, sample = parts
        before = self._found.get(name)
        found = histogram_of(
            name,
            sample,
            (float(minimum.min()), float(maximum.max())),
            before.exponent if before else LOWEST_EXPONENT,
        )
        return merge(before, found) if before else found


def histogram_of(
    name: str, sample: NDArray[Any], extremes: tuple[float, float], lowest_exponent: int
) -> TensorHistogram:
    """Count values of one tensor in one frame.

    Args:
        name: The tensor's name.
        sample: float32, any shape, not empty; all or some of the values.
        extremes: Smallest and largest of all values, infinities included; NaN is detected in the
            sample, since the runtime's reductions may drop it.
        lowest_exponent: Of the histogram to merge into, so that counts are coarsened only once.
    """
    minimum, maximum = extremes if not np.isnan(sample).any() else (np.nan, np.nan)
    counts = np.zeros(2 * BINS, dtype=np.int64)
    exponent = lowest_exponent
    if np.isfinite(minimum) and np.isfinite(maximum):
        exponent = max(exponent_of(minimum, maximum), lowest_exponent)
        if exponent < HIGHEST_EXPONENT:
            edge = float(np.ldexp(1.0, exponent))
            flat = np.ascontiguousarray(sample, dtype=np.float32).reshape(1, -1)
            found = cv2.calcHist([flat], [0], None, [2 * BINS], [-edge, edge])
            counts = found.reshape(-1).astype(np.int64)
    return TensorHistogram(
        name=name,
        minimum=minimum,
        maximum=maximum,
        exponent=exponent,
        counts=counts,
        count=int(counts.sum()),
    )
