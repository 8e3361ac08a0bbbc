"""A GPU that is none: PyCUDA and TensorRT as the runner sees them, computing by ONNX Runtime.

An "engine" is an ONNX file. What the real ones insist on is insisted on here: a current context,
memory that was allocated and is large enough, errors that are not Python's RuntimeError.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest

from tests.fakes import cuda_graphs

TOTAL = 8 << 30
_CONTEXT = 300 << 20  # of the GPU's own, before anything is loaded
_SCRATCH = 16 << 20  # of an execution context


class Error(Exception):
    """As PyCUDA makes it: of Exception, and not of anything narrower."""


class LogicError(Error):
    """Misuse."""


class OutOfMemory(Error):
    """pycuda.driver.MemoryError."""


class Gpu:
    """One device and what is on it.

    Attributes:
        calls: What was asked of it, in order.
        stack: Contexts that are current, the last one in use.
        fails: Errors to raise by the name of the call that raises.
        loads: False if TensorRT refuses every engine.
        executes: False if it refuses to execute.
        contexts: False if there is no memory for an execution context.
        shares: True if it shares the memory of the processes, as a Jetson's does.
        captures: False if what TensorRT enqueues can't be captured.
        capturing: What was put on the stream since a capture began; None where none did.
        spoilt: True if what is being captured makes no graph.
        takes_ms: What an execution takes by its clock, "plain" or as a "graph".
        now_ns: That clock.
        layers_ms: What an execution reports to a profiler, by layer.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.stack: list[Context] = []
        self.fails: dict[str, Exception] = {}
        self.loads = self.executes = self.contexts = True
        self.shares = False
        self.captures = True
        self.capturing: list[Callable[[], None]] | None = None
        self.spoilt = False
        self.takes_ms: dict[str, Iterable[float]] = {"plain": repeat(2.0), "graph": repeat(1.0)}
        self._taking: dict[str, Iterator[float]] = {}
        self.now_ns = 0
        self.layers_ms: dict[str, float] = {}
        self.memory: dict[int, bytearray] = {}
        self.used = _CONTEXT
        self.dla_core: int | None = None

    def asked(self, what: str, *, current: bool = True) -> None:
        """Note a call; raise what it is to raise, or that no context is current."""
        self.calls.append(what)
        if current and not self.stack:
            raise LogicError(f"{what} failed: no currently active context?")
        if what in self.fails:
            raise self.fails[what]

    def passes(self, way: str) -> None:
        """Let an execution take its time."""
        self.now_ns += int(next(self._taking.setdefault(way, iter(self.takes_ms[way]))) * 1e6)

    def distort(self) -> None:
        """Change one bit of everything that lies on it."""
        for held in self.memory.values():
            held[0] ^= 1

    def waits(self) -> None:
        """Wait for the stream, which no capture survives."""
        self.asked("synchronize")
        if self.capturing is not None:
            self.spoilt = True
            raise LogicError("synchronize failed: operation not permitted when stream is capturing")


class Context:
    """A retained primary context."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu

    def push(self) -> None:
        self._gpu.asked("push", current=False)
        self._gpu.stack.append(self)

    def pop(self) -> None:
        self._gpu.asked("pop")
        self._gpu.stack.pop()


class Allocation:
    """Device memory, freed when unreferenced."""

    def __init__(self, gpu: Gpu, size: int) -> None:
        gpu.asked("mem_alloc")
        assert size > 0
        self._gpu, self._address = gpu, 4096 + 512 * len(gpu.calls)
        gpu.memory[self._address] = bytearray(size)
        gpu.used += size

    def __int__(self) -> int:
        return self._address

    def __del__(self) -> None:
        if hasattr(self, "_address"):
            self._gpu.used -= len(self._gpu.memory.pop(self._address))


class Execution:
    """An IExecutionContext: ONNX Runtime between two addresses."""

    def __init__(self, gpu: Gpu, session: Any) -> None:
        self._gpu, self._session = gpu, session
        self._addresses: dict[str, int] = {}
        self.profiler: Any = None
        gpu.used += _SCRATCH

    def __del__(self) -> None:
        self._gpu.calls.append("execution gone")
        self._gpu.used -= _SCRATCH

    def set_tensor_address(self, name: str, address: int) -> bool:
        assert address in self._gpu.memory
        self._addresses[name] = address
        return True

    def execute_async_v3(self, handle: int) -> bool:
        self._gpu.asked("execute")
        assert handle == 7
        if not self._gpu.executes:
            return False
        if self._gpu.capturing is not None:
            self._gpu.spoilt = not self._gpu.captures
            kept = weakref.ref(self)  # a graph does not keep alive what it works on
            self._gpu.capturing.append(lambda: Execution.compute(_living(kept)))
            return self._gpu.captures
        self._gpu.passes("plain")
        self.compute()
        for name, ms in self._gpu.layers_ms.items() if self.profiler else ():
            self.profiler.report_layer_time(name, ms)
        return True

    def compute(self) -> None:
        inputs = {
            one.name: np.frombuffer(
                self._gpu.memory[self._addresses[one.name]], _dtype(one.type)
            ).reshape(one.shape)
            for one in self._session.get_inputs()
        }
        names = [one.name for one in self._session.get_outputs()]
        for name, value in zip(names, self._session.run(names, inputs), strict=True):
            room = self._gpu.memory[self._addresses[name]]
            assert value.nbytes <= len(room), "an illegal memory access was encountered"
            room[: value.nbytes] = value.tobytes()


def _living(kept: weakref.ref[Execution]) -> Execution:
    execution = kept()
    assert execution is not None, "an illegal memory access was encountered"
    return execution


class Engine:
    """An ICudaEngine over an ONNX file."""

    def __init__(self, gpu: Gpu, plan: bytes) -> None:
        self._gpu = gpu
        self._session = onnxruntime.InferenceSession(plan, providers=["CPUExecutionProvider"])
        inputs = [(one, "INPUT") for one in self._session.get_inputs()]
        self._tensors = inputs + [(one, "OUTPUT") for one in self._session.get_outputs()]
        self._by_name = {one.name: (one, mode) for one, mode in self._tensors}
        self.num_io_tensors = len(self._tensors)

    def create_execution_context(self) -> Execution | None:
        self._gpu.asked("create_execution_context")
        return Execution(self._gpu, self._session) if self._gpu.contexts else None

    def get_tensor_name(self, index: int) -> str:
        return str(self._tensors[index][0].name)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        shape = self._by_name[name][0].shape
        return tuple(d if isinstance(d, int) else -1 for d in shape)

    def get_tensor_dtype(self, name: str) -> str:
        return str(self._by_name[name][0].type)

    def get_tensor_mode(self, name: str) -> str:
        return self._by_name[name][1]


def _dtype(reported: str) -> Any:
    name = reported.removeprefix("tensor(").removesuffix(")")
    return np.dtype({"float": "float32", "double": "float64"}.get(name, name))


def _nptype(kind: str) -> Any:
    if "bfloat16" in kind:
        raise TypeError("Could not resolve TensorRT datatype to an equivalent numpy datatype.")
    return _dtype(kind)


def _cuda(gpu: Gpu) -> ModuleType:
    def copy_in(address: Allocation, host: Any, _stream: object) -> None:
        gpu.asked("in")
        assert host.nbytes <= len(gpu.memory[int(address)])
        gpu.memory[int(address)][: host.nbytes] = host.tobytes()

    def copy_out(host: Any, address: Allocation, _stream: object) -> None:
        gpu.asked("out")
        held = bytes(gpu.memory[int(address)][: host.nbytes])
        np.copyto(host, np.frombuffer(held, host.dtype).reshape(host.shape))

    def stream() -> SimpleNamespace:
        gpu.asked("Stream")
        return SimpleNamespace(handle=7, synchronize=gpu.waits)

    def event() -> SimpleNamespace:
        return SimpleNamespace(
            record=lambda _stream: gpu.asked("record"), time_till=lambda _other: 1.25
        )

    device = SimpleNamespace(
        name=lambda: "Orin",
        compute_capability=lambda: (8, 7),
        get_attribute=lambda _which: int(gpu.shares),
        retain_primary_context=lambda: Context(gpu),
    )

    def find(_index: int) -> SimpleNamespace:
        gpu.asked("Device", current=False)
        return device

    def free() -> tuple[int, int]:
        gpu.asked("mem_get_info")
        return TOTAL - gpu.used, TOTAL

    made = ModuleType("pycuda.driver")
    vars(made).update(
        gpu=gpu, Error=Error, LogicError=LogicError, MemoryError=OutOfMemory, Stream=stream,
        Event=event,
        init=lambda: gpu.asked("init", current=False), Device=find, mem_get_info=free,
        device_attribute=SimpleNamespace(INTEGRATED=18), mem_alloc=lambda n: Allocation(gpu, n),
        pagelocked_empty=np.empty, memcpy_htod_async=copy_in, memcpy_dtoh_async=copy_out,
    )  # fmt: skip
    return made


def _tensorrt(gpu: Gpu) -> ModuleType:
    class Logger:
        Severity = SimpleNamespace(ERROR=1)

    class Profiler:
        def __init__(self) -> None:
            pass

    class Runtime:
        def __init__(self, logger: Any) -> None:
            self._logger = logger

        def __setattr__(self, name: str, value: Any) -> None:
            if name == "DLA_core":
                gpu.dla_core = value
            object.__setattr__(self, name, value)

        def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
            gpu.asked("deserialize")
            try:
                return Engine(gpu, plan) if gpu.loads else None
            except (RuntimeError, *_NO_MODEL):
                self._logger.log(1, "Magic tag does not match")
                return None

    made = ModuleType("tensorrt")
    vars(made).update(
        __version__="10.3.0", ILogger=Logger, IProfiler=Profiler, Runtime=Runtime, nptype=_nptype,
        TensorIOMode=SimpleNamespace(INPUT="INPUT", OUTPUT="OUTPUT"),
    )  # fmt: skip
    return made


_STATES = onnxruntime.capi.onnxruntime_pybind11_state
_NO_MODEL = (_STATES.Fail, _STATES.InvalidArgument, _STATES.InvalidProtobuf, _STATES.NoModel)


def install(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    """Put a GPU where imports look first; it captures nothing before `cuda_graphs.give`."""
    gpu = Gpu()
    driver = _cuda(gpu)
    package = ModuleType("pycuda")
    vars(package)["driver"] = driver
    for name, module in (
        ("tensorrt", _tensorrt(gpu)), ("pycuda", package), ("pycuda.driver", driver),
    ):  # fmt: skip
        monkeypatch.setitem(sys.modules, name, module)
    cuda_graphs.take(monkeypatch)
    return gpu
