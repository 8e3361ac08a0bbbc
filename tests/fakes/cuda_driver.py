"""All of cuda-bindings that an application's client asks for, on the GPU that is none.

What the driver insists on is insisted on: a current context, addresses that were allocated and are
large enough, and that everything is given back.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from tests.fakes import cuda_graphs, gpu
from tests.fakes.cuda_graphs import Graphs, Status
from tests.fakes.gpu import Allocation, Context, Gpu

STREAM = 7


@dataclass
class Device:
    """A GPU with TensorRT and cuda-bindings.

    Attributes:
        fails: Status by the function that fails.
        pinned: Page-locked memory by its address.
        on_gpu: Device memory by its address.
        retained: How often the primary context is retained.
        streams: How many streams there are.
    """

    gpu: Gpu
    graphs: Graphs
    fails: dict[str, Status] = field(default_factory=dict)
    pinned: dict[int, Any] = field(default_factory=dict)
    on_gpu: dict[int, Allocation] = field(default_factory=dict)
    retained: int = 0
    streams: int = 0
    name: bytes = b"Orin"

    @property
    def clean(self) -> bool:
        """Whether everything was given back."""
        counts = (self.retained, self.streams, len(self.pinned), len(self.on_gpu))
        return counts == (0, 0, 0, 0) and not self.graphs.alive and not self.gpu.stack


def install(monkeypatch: pytest.MonkeyPatch) -> Device:
    """Put both libraries where imports look first."""
    standin = gpu.install(monkeypatch)
    device = Device(gpu=standin, graphs=cuda_graphs.install(monkeypatch, standin))
    library = sys.modules[cuda_graphs.NAME]
    for name, function in _functions(device).items():
        vars(library)[name] = _checked(device, name, function)
    vars(library)["CUdevice_attribute"] = SimpleNamespace(
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR="major",
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR="minor",
    )
    vars(sys.modules["tensorrt"])["Logger"] = _Logger
    return device


class _Logger:
    ERROR = 1

    def __init__(self, level: int) -> None:
        assert level == self.ERROR

    def log(self, level: int, message: str) -> None:
        """Print to stderr, as TensorRT's own logger."""


def _checked(device: Device, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any) -> tuple[Any, ...]:
        free = name.startswith(("cuInit", "cuDevice", "cuCtxPush"))
        device.gpu.calls.append(name)
        if name in device.fails:
            return (device.fails[name], None)
        if not free and not device.gpu.stack:
            return (Status.CUDA_ERROR_INVALID_CONTEXT, None)
        found = function(*arguments)
        return (Status.CUDA_SUCCESS,) if found is None else (Status.CUDA_SUCCESS, found)

    return call


def _functions(device: Device) -> dict[str, Callable[..., Any]]:
    memory = device.gpu.memory

    def retain(_index: int) -> Context:
        device.retained += 1
        return Context(device.gpu)

    def release(_index: int) -> None:
        device.retained -= 1

    def pop() -> Context:
        return device.gpu.stack.pop()

    def stream(flags: int) -> int:
        assert flags == 1, "the application's own work would wait"
        device.streams += 1
        return STREAM

    def destroy(_stream: int) -> None:
        device.streams -= 1

    def alloc(size: int) -> Allocation:
        made = Allocation(device.gpu, size)
        device.on_gpu[int(made)] = made
        return made

    def free(found: Allocation) -> None:
        del device.on_gpu[int(found)]

    def pin(size: int, flags: int) -> int:
        assert flags == 0
        held = (ctypes.c_uint8 * size)()
        device.pinned[ctypes.addressof(held)] = held
        return ctypes.addressof(held)

    def unpin(address: int) -> None:
        del device.pinned[address]

    def copy_in(to: Allocation, address: int, size: int, on: int) -> None:
        assert on == STREAM
        assert size <= len(device.pinned[address])
        assert size <= len(memory[int(to)])
        memory[int(to)][:size] = bytes(device.pinned[address])[:size]

    def copy_out(address: int, source: Allocation, size: int, on: int) -> None:
        assert on == STREAM
        ctypes.memmove(address, bytes(memory[int(source)][:size]), size)

    capability = {"major": 8, "minor": 7}
    return {
        "cuInit": lambda _flags: None, "cuDeviceGet": lambda _index: 0,
        "cuDeviceGetName": lambda size, _device: device.name.ljust(size, b"\0"),
        "cuDeviceGetAttribute": lambda kind, _device: capability[kind],
        "cuDevicePrimaryCtxRetain": retain, "cuDevicePrimaryCtxRelease": release,
        "cuCtxPushCurrent": lambda context: context.push(), "cuCtxPopCurrent": pop,
        "cuStreamCreate": stream, "cuStreamDestroy": destroy,
        "cuStreamSynchronize": lambda _stream: device.gpu.waits(),
        "cuMemAlloc": alloc, "cuMemFree": free, "cuMemHostAlloc": pin, "cuMemFreeHost": unpin,
        "cuMemcpyHtoDAsync": copy_in, "cuMemcpyDtoHAsync": copy_out,
    }  # fmt: skip
