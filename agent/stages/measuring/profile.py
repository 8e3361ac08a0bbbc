"""Layers of a few engines timed by the runtime's own profiler, after all measurements."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from agent.core.errors import BuildError, RunnerError
from agent.core.measurement.layer_times import EngineProfile, layer_times
from agent.core.records import Engine, LayerTimes, Profiles
from agent.ports import EngineProfiler, Progress

if TYPE_CHECKING:
    from agent.ports import Tensors


def profile(
    engines: Mapping[str, Engine],
    baselines: Mapping[str, str],
    *,
    profiler: Callable[[Engine], EngineProfiler],
    path: Callable[[Engine], str],
    tensors: Callable[[Engine], Sequence[Tensors]],
    progress: Progress,
) -> Profiles:
    """Time the layers of every engine; one that can't be profiled affects no other.

    Args:
        engines: By candidate id.
        baselines: The id of FP32 for each of the others.
        profiler: Makes an engine's profiler.
        path: Returns an engine's file.
        tensors: Returns a few real inputs for an engine.
        progress: Called before each engine.
    """
    found: dict[str, EngineProfile] = {}
    failed: dict[str, str] = {}
    for done, (name, engine) in enumerate(engines.items()):
        progress(done, len(engines), f"profiling {name}", name)
        try:
            found[name] = profiler(engine).profile(path(engine), tensors(engine))
        except (BuildError, RunnerError) as error:
            failed[name] = error.message
    progress(len(engines), len(engines), "")
    return Profiles(
        profiled={name: _compared(name, found, baselines) for name in found}, failed=failed
    )


def _compared(
    name: str, found: Mapping[str, EngineProfile], baselines: Mapping[str, str]
) -> LayerTimes:
    baseline = baselines.get(name, "")
    return layer_times(found[name], found.get(baseline), baseline)
