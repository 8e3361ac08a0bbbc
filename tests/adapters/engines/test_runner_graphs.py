"""When the runner launches an engine as a CUDA graph, and what becomes of it when that fails.

On a stand-in: no GPU was at hand (see tests/gpu).
"""

from __future__ import annotations

from itertools import cycle, repeat
from typing import Any

import numpy as np
import pytest

from agent.adapters.engines.runner_tensorrt import TensorrtRunner
from agent.core.errors import RunnerError
from tests.adapters.engines.test_runner_tensorrt import ONE, doubling
from tests.fakes import cuda_graphs
from tests.fakes import gpu as fakes
from tests.fakes.cuda_graphs import Graphs, Status
from tests.fakes.gpu import Gpu


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    return fakes.install(monkeypatch)


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch, gpu: Gpu) -> Graphs:
    return cuda_graphs.install(monkeypatch, gpu)


@pytest.fixture
def plan(tmp_path: Any) -> str:
    return doubling(tmp_path / "engine.plan")


def loaded(gpu: Gpu, plan: str, *, graphs: bool = True) -> TensorrtRunner:
    return TensorrtRunner(plan, graphs=graphs, now_ns=lambda: gpu.now_ns)


def runs_plainly(gpu: Gpu, runner: TensorrtRunner) -> bool:
    """Run on new inputs; return whether it was enqueued, and not launched as a graph."""
    runner.bind({"x": np.float32([[4, 5, 6]])})
    gpu.calls.clear()
    runner.run()
    np.testing.assert_array_equal(runner.outputs()["y"], [[8, 10, 12]])
    return gpu.calls == ["in", "record", "execute", "record", "out", "synchronize"]


def why_plainly(gpu: Gpu, plan: str, **settings: Any) -> str:
    """Load, run twice, and return why the second time there was no graph."""
    with loaded(gpu, plan, **settings) as runner:
        runner.bind(ONE)
        runner.run()
        np.testing.assert_array_equal(runner.outputs()["y"], [[2, 4, 6]])
        assert runs_plainly(gpu, runner)
        found = runner.launches()
        assert found is not None
        assert found.by == "plain launches"
    assert gpu.stack == []
    assert gpu.memory == {}
    return found.reason


def test_a_graph_that_is_faster_is_launched_from_the_second_run_on(gpu, graphs, plan):
    with loaded(gpu, plan) as runner:
        runner.bind(ONE)
        runner.run()
        np.testing.assert_array_equal(runner.outputs()["y"], [[2, 4, 6]])
        found = runner.launches()
        assert found.by == "CUDA graph"
        assert found.reason == "1.000 ms against 2.000 ms by plain launches"
        for value in (4, 5):  # the graph computes what is bound, not what was captured
            runner.bind({"x": np.float32([[value, 0, 1]])})
            gpu.calls.clear()
            runner.run()
            assert gpu.calls == ["in", "record", "cuGraphLaunch", "record", "out", "synchronize"]
            np.testing.assert_array_equal(runner.outputs()["y"], [[2 * value, 0, 2]])
        assert runner.device_ms() == 1.25
        assert runner.launches() is found


def test_it_is_captured_after_an_execution_and_given_back_before_the_engine(gpu, graphs, plan):
    with loaded(gpu, plan) as runner:
        runner.bind(ONE)
        gpu.calls.clear()
        runner.run()
        order = [call for call in gpu.calls if call.startswith("cu") or call == "execute"]
        assert order[:6] == [
            "execute", "cuStreamBeginCapture", "execute", "cuStreamEndCapture",
            "cuGraphInstantiate", "cuGraphDestroy",
        ]  # fmt: skip
        assert len(graphs.alive) == 1
        gpu.calls.clear()
    assert gpu.calls == ["cuGraphExecDestroy", "execution gone", "pop"]
    assert graphs.alive == []
    assert gpu.memory == {}


def test_a_runner_that_is_entered_again_captures_again(gpu, graphs, plan):
    runner = loaded(gpu, plan)
    for _ in range(2):
        with runner:
            runner.bind(ONE)
            assert runner.launches() is None
            runner.run()
            assert runner.launches().by == "CUDA graph"
            assert len(graphs.alive) == 1
    assert graphs.alive == []


@pytest.mark.parametrize(
    "takes_ms", [(2.0, 2.0), (1.0, 2.0), (1.0, 1.0001)], ids=["as fast", "slower", "a bit slower"]
)
def test_a_graph_that_is_not_faster_is_given_back(gpu, graphs, plan, takes_ms):
    gpu.takes_ms = {way: repeat(ms) for way, ms in zip(("plain", "graph"), takes_ms, strict=True)}
    assert why_plainly(gpu, plan).startswith("a CUDA graph is not faster: ")
    assert graphs.alive == []


def test_a_graph_that_is_faster_by_less_than_the_noise_is_given_back(gpu, graphs, plan):
    slow = 60.0  # one run a round, so that the rounds are what comes next
    gpu.takes_ms = {"plain": repeat(slow), "graph": cycle([50.0, 75.0, 48.0, 55.0])}
    assert why_plainly(gpu, plan).startswith("a CUDA graph is not faster: 5")
    assert graphs.alive == []


def test_without_the_library_it_is_launched_plainly(gpu, plan):
    assert why_plainly(gpu, plan).startswith(
        "no CUDA graph: cuda-bindings is not usable from this Python: "
    )


def test_no_graph_is_captured_where_it_is_switched_off(gpu, graphs, plan):
    assert why_plainly(gpu, plan, graphs=False) == "no CUDA graph was asked for"
    assert not [call for call in gpu.calls if call.startswith("cu")]


@pytest.mark.parametrize(
    "function",
    ["cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiate", "cuGraphLaunch"],
)
@pytest.mark.parametrize(
    "failure",
    [
        Status.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,
        RuntimeError('Function "cuGraph" not found'),
        ValueError("999 is not a valid CUresult"),
    ],
    ids=["status", "no function", "unknown status"],
)
def test_whatever_error_a_graph_gives_it_is_launched_plainly(gpu, graphs, plan, function, failure):
    graphs.fails[function] = failure
    reason = why_plainly(gpu, plan)
    assert reason == (
        f"no CUDA graph: {function}: CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"
        if isinstance(failure, Status)
        else f"no CUDA graph: {function}: {failure}"
    )
    assert graphs.alive == []


def test_an_engine_that_cannot_be_captured_is_launched_plainly_on_the_same_stream(
    gpu, graphs, plan
):
    gpu.captures = False
    reason = why_plainly(gpu, plan)
    assert reason.startswith("no CUDA graph: ")
    assert "TensorRT refused to execute" in reason
    assert gpu.capturing is None
    assert graphs.alive == []


def test_a_capture_whose_enqueue_raises_is_ended_and_leaves_nothing(gpu, graphs, plan, monkeypatch):
    enqueue = fakes.Execution.execute_async_v3

    def raises(self: fakes.Execution, handle: int) -> bool:
        if gpu.capturing is not None:
            raise fakes.LogicError("enqueue failed: out of memory")
        return enqueue(self, handle)

    monkeypatch.setattr(fakes.Execution, "execute_async_v3", raises)
    assert "enqueue failed: out of memory" in why_plainly(gpu, plan)
    assert graphs.alive == []


def test_a_graph_that_computes_something_else_is_given_back(gpu, graphs, plan):
    graphs.distorts = True
    assert (
        why_plainly(gpu, plan) == "no CUDA graph: its outputs differ from those of plain launches"
    )
    assert graphs.alive == []


def test_a_graph_that_computes_nothing_does_not_pass_for_one_that_computes_the_same(
    gpu, graphs, plan, monkeypatch
):
    """The outputs of the run before still lie on the GPU."""
    monkeypatch.setattr(fakes.Execution, "compute", lambda _self: None)
    with loaded(gpu, plan) as runner:
        runner.bind(ONE)
        runner.run()
        assert "outputs differ from those" in runner.launches().reason


def test_a_graph_that_fails_later_is_an_error_and_is_given_back(gpu, graphs, plan):
    with loaded(gpu, plan) as runner:
        runner.bind(ONE)
        runner.run()
        graphs.fails["cuGraphLaunch"] = Status.CUDA_ERROR_INVALID_VALUE
        with pytest.raises(RunnerError, match="cuGraphLaunch: CUDA_ERROR_INVALID_VALUE"):
            runner.run()
    assert graphs.alive == []


def test_a_broken_context_still_frees_everything_else(gpu, graphs, plan):
    with loaded(gpu, plan) as runner:
        runner.bind(ONE)
        runner.run()
        graphs.fails["cuGraphExecDestroy"] = RuntimeError("context is destroyed")
    assert gpu.stack == []
    assert gpu.memory == {}


def test_an_engine_that_fails_while_it_is_tried_is_reported_as_such(gpu, graphs, plan):
    """Not as one that merely can't be captured: plain launches would fail the same."""
    graphs.fails["cuStreamBeginCapture"] = RuntimeError("no capture")
    with loaded(gpu, plan) as runner:
        runner.bind(ONE)
        execute = gpu.passes
        count = iter(range(2))

        def breaks(way: str) -> None:
            if next(count):
                raise fakes.LogicError("launch failed: an illegal memory access")
            execute(way)

        gpu.passes = breaks
        with pytest.raises(RunnerError, match="an illegal memory access"):
            runner.run()
    assert gpu.stack == []
