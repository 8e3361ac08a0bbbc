"""The platform, and what builds and runs engines on it; in a job's process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from agent.config import Config
from agent.core.records import Engine, Platform, QuantizedModel, digest_of
from agent.memory import default_reserve, scratch_mb
from agent.wire.jobs import BuildEngine
from agent.wiring.boards import environment
from agent.wiring.storage import store

if TYPE_CHECKING:
    from agent.ports import EngineProfiler, EngineRunner, Progress

TENSORRT = "tensorrt"
_BUILDS_BY_ITSELF = "TensorrtExecutionProvider"
_TIMED_UNDER = ("driver", "l4t", "power_mode")


def platform(config: Config) -> Platform:
    """Return the machine and the runtime that will execute."""
    from agent.adapters.host.platform import find_platform

    runtime = config.runtime
    return find_platform(
        runtime.kind, environment(config), runtime.compute_capability, runtime.providers
    )


def with_runtime(config: Config, kind: str) -> Config:
    """Return the configuration with another runtime, for the machine it runs on."""
    table = msgspec.structs.replace(config.runtime, kind=kind, compute_capability="")
    return msgspec.structs.replace(config, runtime=table)


def build(spec: BuildEngine, quantized: tuple[QuantizedModel, Path], progress: Progress) -> Engine:
    """Run the build stage for a graph and its folder."""
    from agent.adapters.host.clock import SystemClock
    from agent.stages.build import build as stage

    config, found = spec.config, spec.platform
    builder: Any
    if found.runtime == TENSORRT:
        from agent.adapters.engines.builder_tensorrt import BuilderSettings, TensorrtBuilder

        settings = BuilderSettings(
            workspace_mb=_workspace_mb(config, found),
            level=config.runtime.builder_level,
            compute_capability=config.runtime.compute_capability,
            dla_core=spec.dla_core,
            timings=str(Path(config.storage.dir, "timings")),
            device=found.device,
            conditions=" ".join(str(found.environment.get(fact)) for fact in _TIMED_UNDER),
        )
        builder = TensorrtBuilder(settings)
    else:
        from agent.adapters.engines.builder_onnxruntime import OnnxruntimeBuilder

        table = config.runtime
        builder = OnnxruntimeBuilder(table.threads, found.device, table.providers, _cache(config))
    return stage(
        quantized[0],
        str(quantized[1] / "model.onnx"),
        spec.batch,
        digest=spec.digest,
        work=spec.work,
        builder=builder,
        clock=SystemClock(),
        progress=progress,
    )


def _workspace_mb(config: Config, found: Platform) -> int:
    """Return the configured limit, else one for a GPU that shares the memory of the machine."""
    if config.runtime.workspace_mb or found.environment.get("gpu_memory") != "shared":
        return config.runtime.workspace_mb
    return scratch_mb(default_reserve())


def runner(
    config: Config, runtime: str, path: Path, dla_core: int = -1, *, timed: bool = False
) -> EngineRunner:
    """Return the runner of an engine file, not yet entered; where it is timed, at its fastest."""
    if runtime == TENSORRT:
        from agent.adapters.engines.runner_tensorrt import TensorrtRunner

        graphs = timed and config.runtime.cuda_graphs
        return TensorrtRunner(str(path), dla_core, graphs=graphs)
    from agent.adapters.engines.runner_onnxruntime import OnnxruntimeRunner

    table = config.runtime
    return OnnxruntimeRunner(str(path), table.threads, table.providers, _cache(config))


def stored_runner(config: Config, engine: Engine, *, timed: bool = False) -> EngineRunner:
    """Return the runner of an engine in the store; see `runner`."""
    path = Path(store(config).directory(engine.digest), engine.file)
    return runner(config, engine.runtime, path, engine.dla_core, timed=timed)


def profiler(config: Config, engine: Engine, graph: str, scratch: str) -> EngineProfiler:
    """Return what times the layers of an engine.

    Args:
        config: The effective configuration.
        engine: Its record.
        graph: Path of the graph that it was built from, Q/DQ included.
        scratch: Folder for files that are removed again.
    """
    if engine.runtime == TENSORRT:
        from agent.adapters.engines.profiler_tensorrt import TensorrtProfiler

        return TensorrtProfiler(graph, engine.dla_core)
    from agent.adapters.engines.profiler_onnxruntime import OnnxruntimeProfiler

    return OnnxruntimeProfiler(config.runtime.threads, scratch, config.runtime.providers)


def _cache(config: Config) -> str:
    """Return the folder where TensorRT's provider keeps its engines, one for each driver."""
    if _BUILDS_BY_ITSELF not in config.runtime.providers:
        return ""
    present = environment(config)
    key = digest_of("provider-cache-1", *(present.get(fact) for fact in _TIMED_UNDER))
    return str(Path(config.storage.dir, "provider-engines", key[:16]))
