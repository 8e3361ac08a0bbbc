"""CUDA graphs: what an engine enqueues, captured once and launched as one, where that is faster.

PyCUDA (2026.1) has no stream capture, so that part is NVIDIA's own cuda-bindings, on PyCUDA's
context and stream: both are the driver's, and a stream is an address. Each of its functions returns
a tuple that begins with the driver's status.
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
    """An executable graph; to be closed before the buffers and the engine that it works on.

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
        """Enqueue everything that was captured.

        Raises:
            RunnerError: with the driver's status.
        """
        _call(self._driver.cuGraphLaunch, self._executable, self._stream)

    def close(self) -> None:
        """Give it back; what a context that broke says to that was told before."""
        _try_call(self._driver.cuGraphExecDestroy, self._executable)


def capture(enqueue: Callable[[], object], stream: int) -> CudaGraph:
    """Return what `enqueue` puts on a stream, which afterwards takes work again, whatever happens.

    Args:
        enqueue: Has run before: TensorRT sets things up in the first execution after loading.
        stream: Its address; nothing else is put on it meanwhile.

    Raises:
        RunnerError: with what the driver said; `enqueue`'s own errors as they are.

    Source: CUDA driver API, stream capture. Thread-local mode, since other threads of the process
        may do with CUDA what they like. An executable graph is a snapshot: the graph it was made
        of is not needed any more.
    """
    driver = _find_driver()
    mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
    _call(driver.cuStreamBeginCapture, stream, mode)
    graph = None
    try:
        try:
            enqueue()
        finally:
            wrong, graph = _try_call(driver.cuStreamEndCapture, stream)
        if wrong:
            raise RunnerError(wrong)
        return CudaGraph(driver, _call(driver.cuGraphInstantiate, graph, 0), stream)
    finally:
        if graph is not None:
            _try_call(driver.cuGraphDestroy, graph)


def faster_launches(
    plain: Callable[[], None], graph: Callable[[], None], now_ns: Callable[[], int]
) -> Launches:
    """Time both ways in turn, and return which of them is to be kept.

    Each goes first every other time, so that clocks which still rise favour neither.

    Args:
        plain: Runs once with plain launches; returns when the outputs are complete.
        graph: The same with the graph.
        now_ns: Monotonic.
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
    """Return the graph only where it is faster by more than the noise of the rounds.

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
    """Return whether outputs are the same, bit for bit."""
    return {name: value.tobytes() for name, value in one.items()} == {
        name: value.tobytes() for name, value in other.items()
    }


def _find_driver() -> Any:
    try:
        return import_module("cuda.bindings.driver")
    except ImportError as e:
        raise RunnerError(f"cuda-bindings is not usable from this Python: {e}") from e


def _call(function: Callable[..., Sequence[Any]], *arguments: Any) -> Any:
    wrong, value = _try_call(function, *arguments)
    if wrong:
        raise RunnerError(wrong)
    return value


def _try_call(function: Callable[..., Sequence[Any]], *arguments: Any) -> tuple[str, Any]:
    """Return what a function of the driver says is wrong, empty if nothing is, and its value.

    A library or function that is not there is a RuntimeError; a status that a newer driver has
    and cuda-bindings doesn't know is a ValueError.
    """
    try:
        status, *values = function(*arguments)
    except (RuntimeError, ValueError) as e:
        return f"{function.__name__}: {e}", None
    wrong = f"{function.__name__} says {status.name}" if int(status) else ""
    return wrong, values[0] if values else None
