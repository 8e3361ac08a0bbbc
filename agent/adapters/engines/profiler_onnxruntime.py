"""Times of the nodes that ONNX Runtime executes, from its own profiler, in a session of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from agent.core.errors import RunnerError
from agent.core.measurement.layer_times import EngineProfile, Kernel
from agent.engines.errors import ONNXRUNTIME_ERRORS, one_line
from agent.engines.kernels import feeds, quartile_times
from agent.engines.profile import read_events, run_times
from agent.engines.providers import CPU, make_session, resolve_providers
from agent.graphs.attribution import UNKNOWN, attribute, flow

if TYPE_CHECKING:
    from agent.ports import Tensors


class OnnxruntimeProfiler:
    """Implements `ports.EngineProfiler` for the CPU provider.

    Args:
        threads: Of one inference; 0 takes all cores.
        scratch: Folder for the graph as it is executed, as large as the engine, and the profile.
        providers: As configured; empty for the default.
    """

    def __init__(self, threads: int, scratch: str, providers: Sequence[str] = ()) -> None:
        self._threads = threads
        self._scratch = scratch
        self._providers = providers

    def profile(self, engine: str, inputs: Sequence[Tensors]) -> EngineProfile:
        """See `ports.EngineProfiler`."""
        providers = resolve_providers(self._providers)
        if providers[0] != CPU:
            raise RunnerError(
                f"ONNX Runtime's profile does not have the times of the layers on {providers[0]}",
                code="no_profile",
            )
        source = flow(onnx.load(engine, load_external_data=False).graph)
        try:
            with tempfile.TemporaryDirectory(dir=self._scratch) as directory:
                optimized = str(Path(directory, "optimized.onnx"))
                session = make_session(
                    engine,
                    self._threads,
                    providers,
                    profile=str(Path(directory, "profile")),
                    optimized=optimized,
                )
                executed = onnx.load(optimized, load_external_data=False).graph
                for feed in feeds(inputs, len(executed.node)):
                    session.run(None, feed)
                found, runs = quartile_times(run_times(read_events(Path(session.end_profiling()))))
        except ONNXRUNTIME_ERRORS as e:
            raise RunnerError(f"{engine}: {one_line(e)}") from e
        except OSError as e:
            raise RunnerError(f"the profile can't be written or read: {e}") from e
        if not runs:
            raise RunnerError("ONNX Runtime's profile has no node", code="no_profile")
        served = attribute(executed, source)
        kernels = []
        for (operator, name), time_us in found.kernels_us.items():
            to = served.get(name, UNKNOWN)
            kernels.append(
                Kernel(
                    operator=operator, tensor=to.tensor, conversion=to.conversion, time_us=time_us
                )
            )
        return EngineProfile(
            source="ONNX Runtime's profiler",
            nodes=source.nodes,
            kernels=tuple(kernels),
            inference_us=found.inference_us,
            runs=runs,
        )
