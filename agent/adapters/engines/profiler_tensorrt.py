"""Times of the layers of a TensorRT engine, from its own profiler."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from agent.adapters.engines.builder_tensorrt import LAYERS
from agent.adapters.engines.runner_tensorrt import TensorrtRunner
from agent.core.errors import RunnerError
from agent.core.measurement.layer_times import EngineProfile, Kernel
from agent.engines.kernels import RunTimes, feeds, quartile_times
from agent.graphs.attribution import Flow, flow

if TYPE_CHECKING:
    from agent.ports import Tensors

_ONNX_LAYER = re.compile(r"\[ONNX Layer: ([^\]]+)\]")
_REFORMAT = re.compile(
    r"^Reformatting CopyNode for (?:Input|Output) Tensor \d+ to (.+)$", re.DOTALL
)


class TensorrtProfiler:
    """Implements `ports.EngineProfiler`.

    Args:
        graph: Path of the graph that the engine was built from.
        dla_core: The accelerator that it was built for; -1 for the GPU alone.
    """

    def __init__(self, graph: str, dla_core: int = -1) -> None:
        self._graph = graph
        self._dla_core = dla_core

    def profile(self, engine: str, inputs: Sequence[Tensors]) -> EngineProfile:
        """See `ports.EngineProfiler`; the time of an inference is the GPU's, without copies."""
        source = flow(onnx.load(self._graph, load_external_data=False).graph)
        listed = inspected_layers(Path(engine).with_name(LAYERS))
        found, runs = quartile_times(self._runs(engine, inputs, len(listed)))
        if not runs:
            raise RunnerError("TensorRT reports no layer to its profiler", code="no_profile")
        served = Served(source, listed)
        return EngineProfile(
            source="TensorRT's profiler",
            nodes=source.nodes,
            kernels=tuple(
                Kernel(
                    operator=listed.get(name, {}).get("LayerType", ""),
                    tensor=served.tensor(name),
                    conversion=bool(_REFORMAT.match(name)),
                    time_us=time_us,
                )
                for (_, name), time_us in found.kernels_us.items()
            ),
            inference_us=found.inference_us,
            runs=runs,
        )

    def _runs(self, engine: str, inputs: Sequence[Tensors], layers: int) -> list[RunTimes]:
        runs = []
        with TensorrtRunner(engine, self._dla_core) as runner:
            layers_us: dict[tuple[str, str], float] = {}

            def report(name: str, ms: float) -> None:
                layers_us["", name] = layers_us.get(("", name), 0.0) + 1e3 * ms

            runner.report_layers(report)
            for feed in feeds(inputs, layers):
                layers_us.clear()
                runner.bind(feed)
                runner.run()
                runs.append(RunTimes(1e3 * (runner.device_ms() or 0.0), dict(layers_us)))
        return runs


class Served:
    r"""Which tensor of the graph each layer of an engine computes.

    Args:
        source: Of the graph.
        listed: Layers of the engine inspector, by name.

    Source: the engine inspector's "Metadata" names the ONNX nodes that became a layer, as in
        "[ONNX Layer: conv]\x1f[ONNX Layer: relu]"; a change of layout is named after the layer
        that it is for.
    """

    def __init__(self, source: Flow, listed: Mapping[str, Mapping[str, str]]) -> None:
        self._order = {node.name: index for index, node in enumerate(source.nodes)}
        self._tensors = source.tensors
        self._listed = listed

    def tensor(self, name: str) -> str:
        """Return the tensor of a layer, of a change of layout that of its layer; "" if unknown."""
        reformat = _REFORMAT.match(name)
        name = reformat[1] if reformat else name
        nodes = _ONNX_LAYER.findall(self._listed.get(name, {}).get("Metadata", ""))
        known = [one for one in nodes or name.split(" + ") if one in self._tensors]
        return self._tensors[max(known, key=self._order.__getitem__)] if known else ""


def inspected_layers(file: Path) -> dict[str, dict[str, str]]:
    """Return the inspector's layers by name, the texts of each; empty if there are none."""
    listed: Any = None
    with suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
        listed = json.loads(file.read_bytes())["engine"]["Layers"]
    found = {}
    for one in listed if isinstance(listed, list) else ():
        if isinstance(one, dict) and isinstance(one.get("Name"), str):
            found[one["Name"]] = {
                key: value for key, value in one.items() if isinstance(value, str)
            }
    return found
