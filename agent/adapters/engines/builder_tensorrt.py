"""Engines by TensorRT's parser and builder: strongly typed, the precision is in the graph."""

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
_PROGRESS_PERIOD_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class BuilderSettings:
    """Settings of the builder.

    Attributes:
        workspace_mb: Limit of the builder's scratch memory, MiB; 0 for TensorRT's default.
        level: Optimization level, 0 (fastest build) to 5 (fastest engine); -1 for TensorRT's
            default.
        dla_core: Accelerator for the layers that it supports, the rest run on the GPU; -1 for none.
        compute_capability: Build for this one, such as "8.6", instead of the GPU here. Only
            TensorRT-RTX can; the engine does not run on this machine.
        timings: Folder of timing caches; empty for none.
        device: Name of the device that will execute the engine.
        conditions: Driver, release of Jetson Linux, power mode: timings are valid for these only.
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

    Networks are strongly typed, the one kind that all of them support, so there are no INT8 or FP16
    builder flags.
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
        """See `ports.EngineBuilder`."""
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
            reason = logger.errors()
            raise BuildError(
                f"TensorRT {self.version} built nothing: {reason}",
                code="not_built",
                hint=_cure(reason, self._settings.workspace_mb),
            )
        if timings:
            timings.save(config)
        del builder, network, config  # before the engine is loaded, since boards have little memory
        engine, reason = None, f"built for {self.device}, which is not here to load it"
        if self.runnable:
            engine, reason = engine_layers(trt, plan, logger)
        if self.dla_core >= 0 and not (logger.on_dla or dla_layers(engine)):
            raise BuildError(
                f"TensorRT {self.version} puts no layer on accelerator {self.dla_core}, so this "
                "engine would be the same as the GPU's",
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
        """Return the cache; None for TensorRT-RTX, which times no kernels while it builds."""
        settings = self._settings
        if not settings.timings or is_rtx(self._trt):
            return None
        return TimingCache(settings.timings, self.version, self.device, settings.conditions)


def _require_fixed(inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
    """Refuse graphs with open shapes, before minutes are spent on the build."""
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


def _cure(reason: str, limit_mb: int) -> str:
    """Return the hint for a failed build, by TensorRT's messages."""
    if re.search(r"out ?of ?memory|bad_alloc|workspace|allocat", reason, re.IGNORECASE):
        if limit_mb:
            return f"runtime.workspace_mb = {limit_mb} may be too little: raise it, or free memory"
        return "free memory, or lower runtime.workspace_mb"
    if re.search(r"implement|support", reason, re.IGNORECASE):
        return "replace the layer that is named, or use runtime.kind = onnxruntime"
    return "free memory if it was short, which TensorRT may report as an internal error"


def _monitor(trt: Any, progress: Progress) -> Any:
    """Return an IProgressMonitor that reports phases, and ends the build if progress has no reader."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}
            self._reported_s = 0.0
            self._has_reader = True

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            self._steps[name] = steps
            if parent is None:
                self._report(0, name)

        def step_complete(self, name: str, step: int) -> bool:
            if time.monotonic() - self._reported_s >= _PROGRESS_PERIOD_S:
                self._report(step + 1, name)
            return self._has_reader

        def phase_finish(self, name: str) -> None:
            self._steps.pop(name, None)

        def _report(self, done: int, name: str) -> None:
            self._reported_s = time.monotonic()
            try:
                progress(done, self._steps.get(name, 0), name)
            except OSError:  # must not pass through TensorRT, which would continue to build
                self._has_reader = False

    return Monitor()
