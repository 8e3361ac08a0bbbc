"""CUDA graphs: an engine's kernels captured once and launched as one, where that is faster.

PyCUDA (2026.1) has no stream capture, so that part uses NVIDIA's cuda-bindings on PyCUDA's context
and stream: both are the driver's, and a stream is an address. Each function of cuda-bindings
returns a tuple that begins with the driver's status.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.core.errors import RunnerError
from agent.core.measurement.latency import interval
from agent.core.records import Launches

_ROUNDS = 5
_ROUND_NS = 50_000_000
_MOST_RUNS = 20


class CudaGraph:
    """An executable graph; close it before the buffers and the engine that it uses.

    Args:
        driver: `cuda.bindings.driver`.
        executable: Its CUgraphExec.
        stream: Address of the stream to launch it on.
    """

    def __init__(self, driver: Any, executable: Any, stream: int) -> None:
        self._driver = driver
        self._executable = executable
        self._stream = stream

    def launch(self) -> None:
        """Enqueue the captured work.

        Raises:
            RunnerError: with the driver's status.
        """
        _call(self._driver.cuGraphLaunch, self._executable, self._stream)

    def close(self) -> None:
        """Destroy the graph; errors of a broken context are ignored, since they were raised before."""
        _try_call(self._driver.cuGraphExecDestroy, self._executable)


def capture(enqueue: Callable[[], object], stream: int) -> CudaGraph:
    """Capture what `enqueue` puts on a stream; the stream is usable afterwards, even on errors.

    Args:
        enqueue: Must have run before: TensorRT initializes in the first execution after loading.
        stream: Address of the stream; nothing else may use it meanwhile.

    Raises:
        RunnerError: with the driver's status; errors of `enqueue` pass unchanged.

    Source: CUDA driver API, stream capture. Thread-local mode leaves other threads of the process
        free to use CUDA. An executable graph is a snapshot: its source graph can be destroyed.
    """
    try:
        driver = import_module("cuda.bindings.driver")
    except ImportError as e:
        raise RunnerError(f"cuda-bindings is not usable from this Python: {e}") from e
    mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
    _call(driver.cuStreamBeginCapture, stream, mode)
    graph = None
    try:
        try:
            enqueue()
        finally:
            error, graph = _try_call(driver.cuStreamEndCapture, stream)
        if error:
            raise RunnerError(error)
        return CudaGraph(driver, _call(driver.cuGraphInstantiate, graph, 0), stream)
    finally:
        if graph is not None:
            _try_call(driver.cuGraphDestroy, graph)


def faster_launches(
    plain: Callable[[], None], graph: Callable[[], None], now_ns: Callable[[], int]
) -> Launches:
    """Time plain launches and the graph in turn, and return the one to use.

    Their order alternates, so that rising clocks favour neither.

    Args:
        plain: Runs once with plain launches; returns when the outputs are complete.
        graph: The same with the graph.
        now_ns: Monotonic clock, ns.
    """

    def timed_ns(run: Callable[[], None]) -> int:
        begin = now_ns()
        run()
        return now_ns() - begin

    timed_ns(graph)
    runs = min(max(_ROUND_NS // max(timed_ns(plain), 1), 1), _MOST_RUNS)
    ways = (plain, graph)
    rounds: list[dict[Callable[[], None], float]] = []
    for number in range(_ROUNDS):
        times_ns: dict[Callable[[], None], list[int]] = {plain: [], graph: []}
        for turn in range(number, number + runs):
            for run in ways if turn % 2 else ways[::-1]:
                times_ns[run].append(timed_ns(run))
        rounds.append({run: float(np.median(taken)) for run, taken in times_ns.items()})
    return choose_launches([one[plain] for one in rounds], [one[graph] for one in rounds])


def choose_launches(plain_ns: Sequence[float], graph_ns: Sequence[float]) -> Launches:
    """Return the graph if it is faster by more than the noise of the rounds, else plain launches.

    Args:
        plain_ns: Median time of each round with plain launches, ns.
        graph_ns: With the graph, of the same rounds.
    """
    ratios = [max(g, 1.0) / max(p, 1.0) for p, g in zip(plain_ns, graph_ns, strict=True)]
    span = interval(float(np.median(ratios)), ratios)
    times = f"{np.median(graph_ns) / 1e6:.3f} ms against {np.median(plain_ns) / 1e6:.3f} ms"
    if span is not None and span[1] < 1.0:
        return Launches(by="CUDA graph", reason=f"{times} by plain launches")
    return Launches(by="plain launches", reason=f"a CUDA graph is not faster: {times}")


def bitwise_equal(one: Mapping[str, NDArray[Any]], other: Mapping[str, NDArray[Any]]) -> bool:
    """Return True if outputs are equal bit for bit."""
    return {name: value.tobytes() for name, value in one.items()} == {
        name: value.tobytes() for name, value in other.items()
    }


def _call(function: Callable[..., Sequence[Any]], *arguments: Any) -> Any:
    error, value = _try_call(function, *arguments)
    if error:
        raise RunnerError(error)
    return value


def _try_call(function: Callable[..., Sequence[Any]], *arguments: Any) -> tuple[str, Any]:
    """Call a function of the driver; return (error, value), the error empty on success.

    cuda-bindings raises RuntimeError if the library or the function is missing, and ValueError for
    a status that only a newer driver has.
    """
    try:
        status, *values = function(*arguments)
    except (RuntimeError, ValueError) as e:
        return f"{function.__name__}: {e}", None
    error = f"{function.__name__}: {status.name}" if int(status) else ""
    return error, values[0] if values else None
