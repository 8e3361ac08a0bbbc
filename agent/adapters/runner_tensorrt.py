"""Runs a TensorRT engine on the GPU, through pycuda."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agent.core.errors import RunnerError

if TYPE_CHECKING:
    from agent.ports import Tensors


class TensorrtRunner:
    """Implements `ports.EngineRunner`: pinned host buffers, one stream, one CUDA context.

    Args:
        path: The engine file.
        dla_core: The accelerator that it was built for; -1 for the GPU alone.
    """

    def __init__(self, path: str, dla_core: int = -1) -> None:
        self._path = path
        self._dla_core = dla_core
        self._cuda: Any = None
        self._context: Any = None
        self._engine: Any = None
        self._execution: Any = None
        self._stream: Any = None
        self._begin: Any = None
        self._end: Any = None
        self._host: dict[str, NDArray[Any]] = {}
        self._device: dict[str, Any] = {}
        self._names: dict[bool, list[str]] = {True: [], False: []}

    def __enter__(self) -> TensorrtRunner:
        try:
            trt: Any = import_module("tensorrt")
            self._cuda = import_module("pycuda.driver")
            self._cuda.init()
            self._context = self._cuda.Device(0).retain_primary_context()
        except (ImportError, RuntimeError) as e:  # pycuda's errors are RuntimeErrors
            raise RunnerError(
                f"TensorRT can't run here: {e}",
                code="no_runtime",
                hint="it needs python3-libnvinfer, pycuda and a GPU; see `quantd doctor`",
            ) from e
        self._context.push()
        try:
            plan = Path(self._path).read_bytes()
        except OSError as e:
            self.__exit__()
            raise RunnerError(f"{self._path}: {e.strerror}") from e
        runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        if self._dla_core >= 0:
            runtime.DLA_core = self._dla_core
        self._engine = runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            self.__exit__()
            raise RunnerError(
                f"{self._path}: TensorRT {trt.__version__} doesn't load this engine",
                hint="it was built by another version or for another GPU: build it again",
            )
        self._execution = self._engine.create_execution_context()
        self._stream = self._cuda.Stream()
        self._begin, self._end = self._cuda.Event(), self._cuda.Event()
        self._allocate(trt)
        return self

    def __exit__(self, *_: object) -> None:
        self._device.clear()
        self._host.clear()
        self._execution = self._engine = self._stream = None
        self._begin = self._end = None
        if self._context is not None:
            self._context.pop()
            self._context = None

    def bind(self, inputs: Tensors) -> None:
        """Copy inputs into preallocated buffers, to be run many times without allocation.

        Raises:
            RunnerError: "wrong_input" if names, shapes or dtypes are not the engine's.
        """
        if set(inputs) != set(self._names[True]):
            raise RunnerError(
                f"inputs {sorted(inputs)} given, {sorted(self._names[True])} wanted",
                code="wrong_input",
            )
        for name, value in inputs.items():
            buffer = self._host[name]
            if buffer.shape != value.shape or buffer.dtype != value.dtype:
                raise RunnerError(
                    f"input {name}: {value.dtype} {value.shape} given, "
                    f"{buffer.dtype} {buffer.shape} wanted",
                    code="wrong_input",
                )
            np.copyto(buffer, value)

    def run(self) -> None:
        """Execute once, copies included; returns when the outputs are complete."""
        for name in self._names[True]:
            self._cuda.memcpy_htod_async(self._device[name], self._host[name], self._stream)
        self._begin.record(self._stream)
        if not self._execution.execute_async_v3(self._stream.handle):
            raise RunnerError(f"{self._path}: TensorRT refused to execute")
        self._end.record(self._stream)
        for name in self._names[False]:
            self._cuda.memcpy_dtoh_async(self._host[name], self._device[name], self._stream)
        self._stream.synchronize()

    def device_ms(self) -> float | None:
        """Return what the GPU took for the last run, copies left out, by CUDA events."""
        return float(self._begin.time_till(self._end))

    def outputs(self) -> dict[str, NDArray[Any]]:
        """Return copies of the outputs of the last run."""
        return {name: self._host[name].copy() for name in self._names[False]}

    def _allocate(self, trt: Any) -> None:
        for index in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(index)
            shape = tuple(self._engine.get_tensor_shape(name))
            dtype = trt.nptype(self._engine.get_tensor_dtype(name))
            self._host[name] = self._cuda.pagelocked_empty(shape, dtype)
            self._device[name] = self._cuda.mem_alloc(max(1, self._host[name].nbytes))
            self._execution.set_tensor_address(name, int(self._device[name]))
            mode = self._engine.get_tensor_mode(name)
            self._names[mode == trt.TensorIOMode.INPUT].append(name)
