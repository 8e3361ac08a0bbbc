"""The order in which the runner drives a GPU, and what becomes of it when that says no.

On a stand-in: no GPU was at hand (see tests/gpu). What the runner computes is in the contract suite.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from agent.adapters.engines.runner_tensorrt import TensorrtRunner
from agent.core.errors import RunnerError
from tests.fakes import gpu as fakes
from tests.fakes.gpu import Gpu


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    return fakes.install(monkeypatch)


def doubling(path: Any, kind: int = TensorProto.FLOAT) -> str:
    """Save y = x + x."""
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", kind, [1, 3])],
        [helper.make_tensor_value_info("y", kind, [1, 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return str(path)


@pytest.fixture
def plan(tmp_path):
    return doubling(tmp_path / "engine.plan")


ONE = {"x": np.float32([[1, 2, 3]])}


def test_the_gpus_time_is_that_of_the_execution_without_the_copies(gpu, plan):
    with TensorrtRunner(plan) as runner:
        runner.bind(ONE)
        runner.run()
        gpu.calls.clear()
        runner.run()
        assert gpu.calls == ["in", "record", "execute", "record", "out", "synchronize"]
        assert runner.device_ms() == 1.25
        np.testing.assert_array_equal(runner.outputs()["y"], [[2, 4, 6]])
    assert gpu.calls[-1] == "pop"
    assert gpu.dla_core is None


def test_an_engine_for_an_accelerator_is_loaded_for_it(gpu, plan):
    with TensorrtRunner(plan, dla_core=1):
        assert gpu.dla_core == 1


def test_every_tensor_is_copied_once_however_often_the_runner_was_entered(gpu, plan):
    runner = TensorrtRunner(plan)
    for _ in range(3):
        with runner:
            runner.bind(ONE)
            runner.run()
            gpu.calls.clear()
            runner.run()
            assert (gpu.calls.count("in"), gpu.calls.count("out")) == (1, 1)


@pytest.mark.parametrize(
    "call", ["Device", "deserialize", "create_execution_context", "Stream", "mem_alloc"]
)
def test_whatever_the_driver_states_on_loading_is_reported_and_the_context_given_back(
    gpu, plan, call
):
    gpu.fails[call] = fakes.OutOfMemory(f"{call} failed: out of memory")
    with pytest.raises(RunnerError, match=f"{call} failed: out of memory") as raised:
        TensorrtRunner(plan).__enter__()
    assert "free memory" in raised.value.hint
    assert gpu.stack == []
    assert gpu.memory == {}


@pytest.mark.parametrize("call", ["in", "execute", "record", "out", "synchronize"])
def test_whatever_the_driver_states_on_running_is_reported_and_it_can_go_on(gpu, plan, call):
    gpu.fails[call] = fakes.LogicError(f"{call} failed: an illegal memory access")
    with TensorrtRunner(plan) as runner:
        runner.bind(ONE)
        with pytest.raises(RunnerError, match="an illegal memory access"):
            runner.run()
        gpu.fails.clear()
        runner.run()
    assert gpu.stack == []


def test_what_does_not_load_or_execute_is_reported_and_the_context_given_back(gpu, plan, tmp_path):
    gpu.loads = False
    with pytest.raises(RunnerError, match="doesn't load"):
        TensorrtRunner(plan).__enter__()
    gpu.loads, gpu.contexts = True, False
    with pytest.raises(RunnerError, match="no memory to execute"):
        TensorrtRunner(plan).__enter__()
    gpu.contexts, gpu.executes = True, False
    with TensorrtRunner(plan) as runner:
        runner.bind(ONE)
        with pytest.raises(RunnerError, match="refused"):
            runner.run()
    with pytest.raises(RunnerError, match="No such file"):
        TensorrtRunner(str(tmp_path / "absent.plan")).__enter__()
    assert gpu.calls.count("push") == gpu.calls.count("pop") == 4


def test_a_type_that_numpy_lacks_is_named_and_the_context_given_back(gpu, tmp_path, monkeypatch):
    plan = doubling(tmp_path / "engine.plan")
    monkeypatch.setattr(
        "tests.fakes.gpu.Engine.get_tensor_dtype", lambda _self, _name: "DataType.bfloat16"
    )
    with pytest.raises(RunnerError, match="x is bfloat16"):
        TensorrtRunner(plan).__enter__()
    assert gpu.stack == []


def test_leaving_a_context_that_broke_does_not_hide_what_broke_it(gpu, plan):
    """After an illegal access every call fails alike, the last one too."""
    broken = fakes.LogicError("failed: an illegal memory access was encountered")
    gpu.fails = {"synchronize": broken, "pop": broken}
    with TensorrtRunner(plan) as runner:
        runner.bind(ONE)
        with pytest.raises(RunnerError, match=r"engine\.plan: failed: an illegal"):
            runner.run()


def test_without_a_driver_there_is_no_runner(gpu, plan):
    gpu.fails["init"] = fakes.Error("cuInit failed: no CUDA-capable device is detected")
    with pytest.raises(RunnerError, match="no CUDA-capable device") as raised:
        TensorrtRunner(plan).__enter__()
    assert raised.value.code == "no_runtime"


def test_what_the_gpu_has_less_is_the_engines(gpu, plan):
    with TensorrtRunner(plan) as runner:
        runner.bind(ONE)
        runner.run()
        assert runner.device_bytes() == (16 << 20) + 24  # an execution context and two buffers
    assert gpu.used == 300 << 20


def test_where_the_memory_is_shared_the_processs_own_part_counts_once(gpu, plan, monkeypatch):
    gpu.shares = True
    available = iter([5000 << 20, 4400 << 20, 5100 << 20])
    monkeypatch.setattr(
        "agent.adapters.engines.runner_tensorrt.available_bytes", lambda: next(available)
    )
    ballast = []
    with TensorrtRunner(plan) as runner:
        ballast.append(np.ones(300 << 20, np.uint8))  # of the 600 MiB that went 300 are resident
        assert runner.device_bytes() == pytest.approx(300 << 20, abs=50 << 20)
        assert runner.device_bytes() == 0  # another process freed memory
