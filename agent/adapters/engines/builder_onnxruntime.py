"""Engines for ONNX Runtime: the graph itself, checked to load and run in this batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import helper

from agent.core.errors import BuildError
from agent.core.records import Layers
from agent.disk import disk_errors, write_atomically
from agent.engines.errors import ONNXRUNTIME_ERRORS, one_line
from agent.engines.profile import count, layers_json, read_events
from agent.engines.providers import make_session, resolve_providers
from agent.graphs.batches import output_of_fixed_batch, with_batch
from agent.ports import Progress

FILE = "model.onnx"
LAYERS = "layers.json"


class OnnxruntimeBuilder:
    """Implements `ports.EngineBuilder`.

    The engine is a portable ONNX file, so that any ONNX Runtime loads a release; it is optimized at
    load.

    Args:
        threads: Of the check run; 0 takes all cores.
        device: Name of the device that will execute the engine.
        providers: As configured; empty for the default.
        cache: Folder for engines that a provider builds; empty for none.
    """

    runtime = "onnxruntime"
    runnable = True
    dla_core = -1

    def __init__(
        self, threads: int, device: str, providers: Sequence[str] = (), cache: str = ""
    ) -> None:
        self._threads = threads
        self._providers = providers
        self._cache = cache
        self.version = onnxruntime.__version__
        self.device = device

    def build(
        self, quantized: str, batch: int, directory: str, progress: Progress
    ) -> tuple[str, Layers]:
        """See `ports.EngineBuilder`; layers.json lists the nodes of one run."""
        progress(0, 1, "")
        target = str(Path(directory, FILE))
        model = onnx.load(quantized)
        if batch > 1:
            model = with_batch(model, batch)
        with disk_errors(Path(directory)):
            onnx.save(model, target)
        profile = str(Path(directory, "profile"))
        try:
            session = make_session(
                target,
                self._threads,
                resolve_providers(self._providers),
                profile=profile,
                cache=self._cache,
            )
            (image,) = model.graph.input
            shape = [dim.dim_value for dim in image.type.tensor_type.shape.dim]
            dtype = helper.tensor_dtype_to_np_dtype(image.type.tensor_type.elem_type)
            made = session.run(None, {image.name: np.zeros(shape, dtype)})
        except ONNXRUNTIME_ERRORS as e:
            what = f"batch {batch}: " if batch > 1 else ""
            raise BuildError(
                f"{what}ONNX Runtime refuses the graph: {one_line(e)}",
                hint="the graph may have batch 1 built in; leave search.batch at [1]"
                if batch > 1
                else "",
            ) from e
        profiled = Path(session.end_profiling())
        events = list(read_events(profiled))
        profiled.unlink()
        write_atomically(Path(directory, LAYERS), layers_json(events))
        names = (output.name for output in model.graph.output)
        shapes = {name: value.shape for name, value in zip(names, made, strict=True)}
        odd = output_of_fixed_batch(shapes, quantized, batch)
        if odd:
            raise BuildError(
                f"batch {batch}: {odd}",
                code="batch_built_in",
                hint="the graph has batch 1 built in; leave search.batch at [1]",
            )
        progress(1, 1, "")
        return FILE, count(events)
