"""Engines by TensorRT's own parser and builder: strongly typed, the graph carries the precision."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from agent.core.errors import BuildError
from agent.core.records import Layers
from agent.disk import write_atomically
from agent.engines.layers import count, dla_layers, engine_layers, layers_json, network_layers
from agent.engines.tensorrt import (
    capability,
    find_tensorrt,
    is_rtx,
    make_logger,
    parser_errors,
    version,
    without_garbage_collection,
)
from agent.engines.timings import TimingCache
from agent.graphs.batches import output_of_fixed_batch, with_batch
from agent.ports import Progress

FILE = "engine.plan"
LAYERS = "layers.json"
_TELL_EVERY_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class BuilderSettings:
    """How engines are built.

    Attributes:
        workspace_mb: Limit of the builder's scratch memory, MiB; 0 leaves it to TensorRT.
        level: Optimization level, 0 (fastest build) to 5 (fastest engine); -1 leaves it to
            TensorRT.
        dla_core: Build what it can take for this accelerator, the rest for the GPU; -1 for none.
        compute_capability: Build for this one, such as "8.6", instead of the GPU here.
            Only TensorRT-RTX can; the engine is then not runnable on this machine.
        timings: The folder of timing caches; empty for none.
        device: What the engine is for, as the platform found it.
        conditions: Driver, release of Jetson Linux, power mode: timings hold for these only.
    """

    workspace_mb: int = 0
    level: int = -1
    dla_core: int = -1
    compute_capability: str = ""
    timings: str = ""
    device: str = "GPU"
    conditions: str = ""


class TensorrtBuilder:
    """Implements `ports.EngineBuilder` on TensorRT 10, 11 and TensorRT-RTX alike.

    Networks are always strongly typed, the one kind that all of them know: there are no
    INT8 or FP16 builder flags here.
    """

    runtime = "tensorrt"

    def __init__(self, settings: BuilderSettings) -> None:
        self._trt = find_tensorrt(cross=bool(settings.compute_capability))
        self._settings = settings
        self.version = version(self._trt)
        self.runnable = not settings.compute_capability
        self.device = settings.device
        self.dla_core = settings.dla_core

    @without_garbage_collection()
    def build(
        self, quantized: str, batch: int, directory: str, progress: Progress
    ) -> tuple[str, Layers]:
        """Write directory/engine.plan, and layers.json beside it.

        Raises:
            BuildError: with every parser error: node, operator and reason.
        """
        trt = self._trt
        logger = make_logger(trt)
        builder = trt.Builder(logger)
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        self._parse(network, logger, quantized, batch)
        layers = network_layers(network)
        config = self._config(builder)
        config.progress_monitor = _monitor(trt, progress)
        timings = self._timings()
        if timings:
            timings.attach(config)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise self._not_built(logger.told())
        if timings:
            timings.save(config)
        del builder, network, config  # before the engine is loaded: memory is short on a board
        engine, reason = None, f"built for {self.device}, which is not here to load it"
        if self.runnable:
            engine, reason = engine_layers(trt, plan, logger)
        if self.dla_core >= 0 and not (logger.on_dla or dla_layers(engine)):
            raise BuildError(
                f"TensorRT {self.version} puts nothing on accelerator {self.dla_core}, so that "
                "this would be the GPU's engine under another name",
                code="no_dla",
                hint="set runtime.dla_core = -1",
            )
        write_atomically(Path(directory, FILE), plan)
        write_atomically(Path(directory, LAYERS), layers_json(layers, engine, reason))
        return FILE, count(layers, engine)

    def _parse(self, network: Any, logger: Any, quantized: str, batch: int) -> None:
        parser = self._trt.OnnxParser(network, logger)
        if batch > 1:
            parsed = parser.parse(with_batch(onnx.load(quantized), batch).SerializeToString())
        else:
            parsed = parser.parse_from_file(quantized)
        what = f"batch {batch}: " if batch > 1 else ""
        if not parsed:
            raise BuildError(
                f"{what}TensorRT {self.version} can't parse the graph: {parser_errors(parser)}",
                code="not_parsed",
                hint="replace the operator named, or use runtime.kind = onnxruntime"
                if batch == 1
                else "the graph may have batch 1 built in; leave search.batch at [1]",
            )
        inputs = [network.get_input(index) for index in range(network.num_inputs)]
        outputs = [network.get_output(index) for index in range(network.num_outputs)]
        _require_fixed(inputs, outputs)
        reason = output_of_fixed_batch({o.name: tuple(o.shape) for o in outputs}, quantized, batch)
        if reason:
            raise BuildError(
                f"{what}{reason}",
                code="batch_built_in",
                hint="the graph has batch 1 built in; leave search.batch at [1]",
            )

    def _config(self, builder: Any) -> Any:
        trt, settings = self._trt, self._settings
        config = builder.create_builder_config()
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        config.clear_flag(trt.BuilderFlag.TF32)  # on by default, with 10 bits for FP32's 23
        if settings.workspace_mb:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_mb << 20)
        if settings.level >= 0:
            config.builder_optimization_level = settings.level
        if settings.dla_core >= 0:
            config.default_device_type = trt.DeviceType.DLA
            config.DLA_core = settings.dla_core
            config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
        if settings.compute_capability:
            wanted = capability(trt, settings.compute_capability)
            config.num_compute_capabilities = 1
            config.set_compute_capability(wanted, 0)
        return config

    def _timings(self) -> TimingCache | None:
        """Return the cache; TensorRT-RTX times nothing while it builds and has none."""
        settings = self._settings
        if not settings.timings or is_rtx(self._trt):
            return None
        return TimingCache(settings.timings, self.version, self.device, settings.conditions)

    def _not_built(self, told: str) -> BuildError:
        return BuildError(
            f"TensorRT {self.version} built nothing: {told}",
            code="not_built",
            hint=_cure(told, self._settings.workspace_mb),
        )


def _require_fixed(inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
    """Refuse what an engine of one shape can't be, before minutes are spent on it."""
    for tensor in inputs:
        if min(tensor.shape, default=0) < 0:
            raise BuildError(
                f"input {tensor.name} is {list(tensor.shape)}: engines are built for one shape",
                code="open_size",
                hint="set width and height under [model.input], and batches as search.batch",
            )
    for tensor in outputs:
        if min(tensor.shape, default=0) < 0:
            raise BuildError(
                f"output {tensor.name} is {list(tensor.shape)}: its size depends on the picture",
                code="open_size",
                hint="export the model without NonMaxSuppression, NonZero and the like, or use "
                "runtime.kind = onnxruntime",
            )


def _cure(told: str, limit_mb: int) -> str:
    """Return what to do about a build that failed, by what TensorRT says of it."""
    if re.search(r"out ?of ?memory|bad_alloc|workspace|allocat", told, re.IGNORECASE):
        if limit_mb:
            return f"runtime.workspace_mb = {limit_mb} may be too little: raise it, or free memory"
        return "free memory, or lower runtime.workspace_mb"
    if re.search(r"implement|support", told, re.IGNORECASE):
        return "replace the layer that is named, or use runtime.kind = onnxruntime"
    return "free memory if it was short, which TensorRT may call an internal error"


def _monitor(trt: Any, progress: Progress) -> Any:
    """Return an IProgressMonitor that reports phases, and ends a build nobody listens to."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}
            self._told_s = 0.0
            self._heard = True

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            self._steps[name] = steps
            if parent is None:
                self._tell(0, name)

        def step_complete(self, name: str, step: int) -> bool:
            if time.monotonic() - self._told_s >= _TELL_EVERY_S:
                self._tell(step + 1, name)
            return self._heard

        def phase_finish(self, name: str) -> None:
            self._steps.pop(name, None)

        def _tell(self, done: int, name: str) -> None:
            self._told_s = time.monotonic()
            try:
                progress(done, self._steps.get(name, 0), name)
            except OSError:  # must not pass through TensorRT, which would go on building
                self._heard = False

    return Monitor()
