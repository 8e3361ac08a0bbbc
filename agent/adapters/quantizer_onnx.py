"""Quantizer by ONNX Runtime: the precision goes into the graph, whoever executes it."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16

from agent.core.errors import CalibrationError, QuantizeError
from agent.core.histogram import TensorHistogram
from agent.core.lineage import Recipe
from agent.disk import disk_errors
from agent.graphs.compute import int8_share
from agent.graphs.qdq import (
    SCHEMES,
    inferred,
    last_tensors,
    nodes_touching,
    quantized_tensors,
    save,
    with_qdq,
)
from agent.graphs.statistics import Collector
from agent.ports import Progress

if TYPE_CHECKING:
    from agent.ports import Tensors


class OnnxQuantizer:
    """Implements `ports.Quantizer`.

    Args:
        threads: For the calibration pass; 0 takes all cores.
        memory_mb: For one frame's tensors; more of them are taken in groups, at more time.
    """

    def __init__(self, threads: int, memory_mb: int = 256) -> None:
        self._threads = threads
        self._memory_mb = memory_mb

    def collect(
        self, model: str, frames: Iterable[Tensors], count: int, progress: Progress
    ) -> Iterator[TensorHistogram]:
        """Run the clean model once over the frames, yield a histogram per tensor to quantize.

        The tensors are those that get Q/DQ under any scheme, so one pass serves all recipes.

        Raises:
            CalibrationError: "no_frames", or "model_failed" on a frame.
        """
        graph = inferred(model)
        names = tuple(
            dict.fromkeys(name for scheme in SCHEMES for name in quantized_tensors(graph, scheme))
        )
        collector = Collector(graph, names, self._threads, self._memory_mb)
        done = 0
        with collector.counting() as pool:
            for frame in frames:
                collector.add(frame, pool)
                done += 1
                progress(done, count, f"{len(names)} tensors")
        if not done:
            raise CalibrationError("there are no calibration frames", code="no_frames")
        yield from collector.histograms(names, last_tensors(graph.graph))

    def quantize(
        self, model: str, recipe: Recipe, ranges: Mapping[str, tuple[float, float]], target: str
    ) -> tuple[float, tuple[str, ...]]:
        """Write target from the clean model; return (int8_macs_fraction, nodes kept float).

        Raises:
            QuantizeError: "not_offered" for a precision or scheme that isn't made here,
                "nothing_quantized" if no compute would run in INT8.
        """
        if recipe.precision == "fp32":
            with disk_errors(Path(target).parent):
                shutil.copyfile(model, target)
            return 0.0, ()
        if recipe.precision == "fp16":
            save(_half(model), target)
            return 0.0, ()
        if recipe.precision != "int8":
            raise QuantizeError(f"no precision is called {recipe.precision}", code="not_offered")
        if recipe.scheme not in SCHEMES:
            raise QuantizeError(f"no scheme is called {recipe.scheme}", code="not_offered")
        clean = inferred(model)
        wanted = quantized_tensors(clean, recipe.scheme)
        missing = {name for name in wanted if name not in ranges}
        left_out = nodes_touching(clean.graph, missing)
        placed = with_qdq(clean, recipe.scheme, ranges, left_out)
        share, kept = int8_share(placed, clean)
        if share == 0:
            raise QuantizeError(
                f"no compute of this model can run in INT8: {len(wanted)} tensors would be"
                f" quantized, {len(missing)} of them have no range",
                code="nothing_quantized",
                hint="use fp32 or fp16 for this model",
            )
        save(placed, target)
        return share, kept


def _half(path: str) -> onnx.ModelProto:
    """Return the model in float16 with float32 inputs and outputs."""
    with warnings.catch_warnings():
        # It tells of every weight that becomes zero or infinite; fidelity is measured later.
        warnings.simplefilter("ignore", UserWarning)
        half: onnx.ModelProto = convert_float_to_float16(inferred(path), keep_io_types=True)
    return half
