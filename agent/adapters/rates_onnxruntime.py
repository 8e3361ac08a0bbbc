"""What this device computes per second on ONNX Runtime, by two small graphs."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from agent.core.errors import RunnerError
from agent.core.prediction import DeviceRates
from agent.engines.providers import make_session, named
from agent.graphs.compute import node_macs
from agent.graphs.qdq import inferred, quantized_tensors, with_qdq
from agent.runtime_errors import ONNXRUNTIME_ERRORS, one_line

_WARM_UP = 5
_INPUT = [1, 32, 96, 96]
_LEAST_COMPUTE = 0.2  # of a graph's time is compute at least, however slow its traffic


def measure_rates(
    threads: int, *, scheme: str, seconds: float = 0.6, providers: Sequence[str] = ()
) -> DeviceRates:
    """Measure multiply-accumulates and bytes per second of a network like mobile ones.

    A graph of element-wise layers gives the traffic; inverted residual blocks (Sandler et
    al., MobileNetV2, CVPR 2018), less their traffic, give the compute, in FP32 and with Q/DQ.

    Args:
        threads: Of one inference; 0 takes all cores.
        scheme: Where Q/DQ goes: U8S8 or S8S8.
        seconds: For each of the four timings.
        providers: As configured; empty for the best.

    Raises:
        RunnerError: if the runtime refuses the graphs.
    """
    chosen = named(providers)
    with tempfile.TemporaryDirectory(prefix="quantd-rates-") as folder:
        blocks = _saved(_blocks(), Path(folder, "blocks.onnx"))
        elements = _saved(_elementwise(), Path(folder, "elementwise.onnx"))
        nothing = _saved(_nothing(), Path(folder, "nothing.onnx"))
        graph = inferred(blocks)
        ranges = dict.fromkeys(quantized_tensors(graph, scheme), (-4.0, 4.0))
        integers = _saved(with_qdq(graph, scheme, ranges), Path(folder, "int8.onnx"))
        overhead_s = _time_s(nothing, threads, seconds, chosen)
        fp32_s = _time_s(blocks, threads, seconds, chosen) - overhead_s
        int8_s = _time_s(integers, threads, seconds, chosen) - overhead_s
        traffic_s = max(_time_s(elements, threads, seconds, chosen) - overhead_s, 1e-6)
        macs = sum(count for _, count in node_macs(graph))
        bytes_per_s = _written(inferred(elements)) / traffic_s
        written_s = _written(graph) / bytes_per_s
    return DeviceRates(
        runtime="onnxruntime",
        runtime_version=onnxruntime.__version__,
        fp32_macs_per_s=macs / max(fp32_s - written_s, _LEAST_COMPUTE * fp32_s),
        int8_macs_per_s=macs / max(int8_s - written_s / 4, _LEAST_COMPUTE * int8_s),
        bytes_per_s=bytes_per_s,
        overhead_s=overhead_s,
    )


def _time_s(path: str, threads: int, seconds: float, providers: Sequence[str]) -> float:
    try:
        session = make_session(path, threads, providers)
        image = {"x": np.full(_INPUT, 0.5, np.float32)}
        for _ in range(_WARM_UP):
            session.run(None, image)
        spent: list[int] = []
        deadline = time.monotonic() + seconds
        while len(spent) < _WARM_UP or time.monotonic() < deadline:
            begin = time.monotonic_ns()
            session.run(None, image)
            spent.append(time.monotonic_ns() - begin)
    except ONNXRUNTIME_ERRORS as e:
        raise RunnerError(f"micro-benchmark: {one_line(e)}") from e
    return median(spent) / 1e9


class _Graph:
    """Nodes and weights in the making."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self._source = np.random.default_rng(0)

    def conv(self, x: str, channels: tuple[int, int], *, side: int = 1, group: int = 1) -> str:
        name = f"t{len(self.nodes)}"
        shape = (channels[1], channels[0] // group, side, side)
        self.weights.append(numpy_helper.from_array(self._weight(shape), f"{name}_w"))
        self.nodes.append(
            helper.make_node("Conv", [x, f"{name}_w"], [name], name=f"{name}_conv",
                             kernel_shape=[side, side], pads=[side // 2] * 4, group=group)
        )  # fmt: skip
        return name

    def node(self, kind: str, *inputs: str) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=f"{name}_{kind}"))
        return name

    def model(self, output: str) -> Any:
        graph = helper.make_graph(
            self.nodes,
            "rates",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, _INPUT)],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
            self.weights,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)

    def _weight(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        fan_in = float(np.prod(shape[1:]))
        values = self._source.standard_normal(shape) / np.sqrt(fan_in)
        return np.asarray(values, np.float32)


def _blocks() -> Any:
    graph = _Graph()
    x = "x"
    for _ in range(4):
        wide = graph.node("Relu", graph.conv(x, (32, 192)))
        deep = graph.node("Relu", graph.conv(wide, (192, 192), side=3, group=192))
        x = graph.node("Add", x, graph.conv(deep, (192, 32)))
    return graph.model(x)


def _elementwise() -> Any:
    graph = _Graph()
    x = "x"
    for _ in range(12):
        x = graph.node("Add", x, "x")
    return graph.model(x)


def _nothing() -> Any:
    graph = _Graph()
    return graph.model(graph.node("ReduceMax", "x"))


def _saved(model: Any, path: Path) -> str:
    onnx.save(model, str(path))
    return str(path)


def _written(model: Any) -> int:
    """Return the bytes that the nodes write in one inference, float32."""
    return sum(
        4 * int(np.prod([dim.dim_value for dim in one.type.tensor_type.shape.dim]))
        for one in (*model.graph.value_info, *model.graph.output)
    )
