"""Quantizer by ONNX Runtime: the precision is in the graph, for every runtime."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agent.core.errors import CalibrationError, QuantizeError
from agent.core.quantization.histogram import TensorHistogram
from agent.disk import disk_errors
from agent.graphs.half import to_float16
from agent.graphs.integers import GIVEN, float_biases, given_share, require_float
from agent.graphs.qdq import load_inferred, quantized_tensors, save, tensors_after_last_layers
from agent.graphs.schemes import SCHEMES
from agent.graphs.statistics import Collector
from agent.ports import Progress

if TYPE_CHECKING:
    from agent.ports import Tensors


class OnnxQuantizer:
    """Implements `ports.Quantizer`.

    Args:
        threads: For the calibration pass; 0 takes all cores.
        scheme: Selects the tensors to count; None for those of every scheme.
    """

    def __init__(self, threads: int, scheme: str | None = None) -> None:
        self._threads = threads
        self._schemes = (scheme,) if scheme else tuple(SCHEMES)

    def collect(
        self, model: str, frames: Iterable[Tensors], count: int, progress: Progress
    ) -> Iterator[TensorHistogram]:
        """See `ports.Quantizer`."""
        graph = load_inferred(model)
        names = tuple(
            dict.fromkeys(
                name for scheme in self._schemes for name in quantized_tensors(graph, scheme)
            )
        )
        if not names:  # no layers: nothing runs in INT8
            return
        collector = Collector(graph, names, self._threads)
        done = 0
        with collector.counting() as pool:
            for frame in frames:
                collector.add(frame, pool)
                done += 1
                progress(done, count, f"{len(names)} tensors")
        if not done:
            raise CalibrationError("there are no calibration frames", code="no_frames")
        yield from collector.histograms(names, tensors_after_last_layers(graph.graph))

    def convert(
        self, model: str, precision: str, frames: Sequence[Tensors], target: str
    ) -> tuple[str, ...]:
        """See `ports.Quantizer`."""
        if precision == "fp32":
            with disk_errors(Path(target).parent):
                shutil.copyfile(model, target)
            return ()
        if precision == "fp16":
            graph = load_inferred(model)
            require_float(graph.graph)
            half, kept = to_float16(graph, frames, self._threads)
            save(half, target)
            return kept
        raise QuantizeError(f"no precision is called {precision}", code="not_offered")

    def take_as_given(
        self, model: str, scheme: str, target: str
    ) -> tuple[float | None, tuple[str, ...]]:
        """See `ports.Quantizer`.

        Where a scheme has float biases, int32 biases are replaced by their float values: TensorRT's
        parser takes no DequantizeLinear of int32.
        """
        beside = Path(model).with_name(GIVEN)
        given = load_inferred(str(beside if beside.exists() else model))
        if not SCHEMES[scheme].biases:
            float_biases(given)
        save(given, target)
        return given_share(given, load_inferred(model))
