"""The order in which the runner drives a GPU, on stand-ins: no GPU was at hand (see tests/gpu)."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from agent.adapters.runner_tensorrt import TensorrtRunner
from agent.core.errors import RunnerError


class Gpu:
    """The parts of tensorrt and pycuda that the runner uses; doubles its input, notes each call."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.memory: dict[int, Any] = {}
        self.addresses: dict[str, int] = {}
        self.dla_core: int | None = None
        self.refuses = False
        self.loads = True

    # pycuda.driver
    def init(self) -> None:
        self.calls.append("init")

    def Device(self, _index: int) -> Gpu:
        return self

    def retain_primary_context(self) -> Gpu:
        return self

    def push(self) -> None:
        self.calls.append("push")

    def pop(self) -> None:
        self.calls.append("pop")

    def Stream(self) -> SimpleNamespace:
        return SimpleNamespace(handle=7, synchronize=lambda: self.calls.append("synchronize"))

    def Event(self) -> SimpleNamespace:
        return SimpleNamespace(
            record=lambda _stream: self.calls.append("record"), time_till=lambda _other: 1.25
        )

    def pagelocked_empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        return np.empty(shape, dtype)

    def mem_alloc(self, size: int) -> int:
        address = 1000 + len(self.memory)
        self.memory[address] = np.zeros(size, np.uint8)
        return address

    def memcpy_htod_async(self, address: int, host: Any, _stream: object) -> None:
        self.calls.append("in")
        self.memory[address] = host.copy()

    def memcpy_dtoh_async(self, host: Any, address: int, _stream: object) -> None:
        self.calls.append("out")
        np.copyto(host, self.memory[address])

    # tensorrt
    __version__ = "10.3.0"
    TensorIOMode = SimpleNamespace(INPUT="in", OUTPUT="out")
    num_io_tensors = 2

    class Logger:
        ERROR = 1

        def __init__(self, _level: int) -> None:
            pass

    def Runtime(self, _logger: object) -> Any:
        gpu = self

        class Runtime:
            def __setattr__(self, name: str, value: int) -> None:
                assert name == "DLA_core"
                gpu.dla_core = value

            def deserialize_cuda_engine(self, _plan: bytes) -> Gpu | None:
                return gpu if gpu.loads else None

        return Runtime()

    def create_execution_context(self) -> Gpu:
        return self

    def get_tensor_name(self, index: int) -> str:
        return ("x", "y")[index]

    def get_tensor_shape(self, _name: str) -> tuple[int, int]:
        return (1, 3)

    def get_tensor_dtype(self, _name: str) -> str:
        return "float"

    def nptype(self, _dtype: str) -> Any:
        return np.float32

    def get_tensor_mode(self, name: str) -> str:
        return {"x": "in", "y": "out"}[name]

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def execute_async_v3(self, handle: int) -> bool:
        assert handle == 7
        self.calls.append("execute")
        self.memory[self.addresses["y"]] = 2 * self.memory[self.addresses["x"]]
        return not self.refuses


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    made = Gpu()
    for name in ("tensorrt", "pycuda.driver"):
        monkeypatch.setitem(sys.modules, name, made)
    monkeypatch.setitem(sys.modules, "pycuda", SimpleNamespace(driver=made))
    return made


@pytest.fixture
def plan(tmp_path):
    (tmp_path / "engine.plan").write_bytes(b"a plan")
    return str(tmp_path / "engine.plan")


def test_the_gpus_time_is_that_of_the_execution_without_the_copies(gpu, plan):
    with TensorrtRunner(plan) as runner:
        runner.bind({"x": np.float32([[1, 2, 3]])})
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


def test_what_does_not_load_or_execute_is_told_and_the_context_given_back(gpu, plan):
    gpu.loads = False
    with pytest.raises(RunnerError, match="doesn't load"), TensorrtRunner(plan):
        pass
    assert gpu.calls.count("push") == gpu.calls.count("pop") == 1
    gpu.loads, gpu.refuses = True, True
    with TensorrtRunner(plan) as runner:
        runner.bind({"x": np.zeros((1, 3), np.float32)})
        with pytest.raises(RunnerError, match="refused"):
            runner.run()
