"""Runs a TensorRT engine on the GPU, through pycuda."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
from numpy.typing import NDArray

from agent.core.errors import BuildError, RunnerError
from agent.core.records import Launches
from agent.engines.cuda import CudaErrors, find_cuda
from agent.engines.cuda_graph import CudaGraph, bitwise_equal, capture, faster_launches
from agent.engines.tensorrt import (
    find_tensorrt,
    make_logger,
    make_profiler,
    version,
    without_garbage_collection,
)
from agent.memory import available_bytes

if TYPE_CHECKING:
    from agent.ports import Tensors


class TensorrtRunner:
    """Implements `ports.EngineRunner`: pinned host buffers, one stream, one CUDA context.

    Args:
        path: The engine file.
        dla_core: The accelerator that it was built for; -1 for the GPU alone.
        graphs: Launch it as a CUDA graph where that is faster; the first run times both, which is
            only worth it if latency is measured.
        now_ns: Monotonic clock, ns.
    """

    def __init__(
        self,
        path: str,
        dla_core: int = -1,
        *,
        graphs: bool = False,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._path = path
        self._dla_core = dla_core
        self._graphs = graphs
        self._now_ns = now_ns
        self._cuda: Any = None
        self._errors: Any = None
        self._open = ExitStack()
        self._shared = False
        self._used_before = 0
        self._graph: CudaGraph | None = None
        self._forget()

    @without_garbage_collection()
    def __enter__(self) -> TensorrtRunner:
        try:
            trt = find_tensorrt()
        except BuildError as e:
            raise RunnerError(e.message, code=e.code, hint=e.hint) from e
        self._cuda = find_cuda()
        self._errors = CudaErrors(self._cuda, self._path)
        with self._errors, ExitStack() as undo:
            gpu = self._cuda.Device(0)
            self._shared = bool(gpu.get_attribute(self._cuda.device_attribute.INTEGRATED))
            context = gpu.retain_primary_context()
            context.push()
            undo.callback(context.pop)  # PyCUDA aborts a process that ends with one pushed
            undo.callback(self._forget)
            self._used_before = self._used_bytes()
            self._load(trt)
            self._allocate(trt)
            self._open = undo.pop_all()
        return self

    @without_garbage_collection()
    def __exit__(self, *_: object) -> None:
        with suppress(self._cuda.Error):  # of a broken context, which run() has reported
            self._open.close()

    def _forget(self) -> None:
        """Drop the objects of the context: graph, buffers, engine, in this order."""
        self._drop_graph()
        self._launches: Launches | None = None
        self._names: dict[bool, list[str]] = {True: [], False: []}
        self._device: dict[str, Any] = {}
        self._host: dict[str, NDArray[Any]] = {}
        self._execution: Any = None
        self._profiler: Any = None
        self._engine: Any = None
        self._logger: Any = None
        self._stream: Any = None
        self._begin: Any = None
        self._end: Any = None

    def _load(self, trt: Any) -> None:
        try:
            plan = Path(self._path).read_bytes()
        except OSError as e:
            raise RunnerError(f"{self._path}: {e.strerror}") from e
        self._logger = logger = make_logger(trt)
        runtime = trt.Runtime(logger)
        if self._dla_core >= 0:
            runtime.DLA_core = self._dla_core
        self._engine = runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise RunnerError(
                f"{self._path}: TensorRT {version(trt)} doesn't load this engine: {logger.errors()}",
                hint="if it was built by another version or for another GPU, build it again; "
                "TensorRT-RTX does not support every GPU",
            )
        self._execution = self._engine.create_execution_context()
        if self._execution is None:
            raise RunnerError(
                f"{self._path}: TensorRT has no memory to execute it: {logger.errors()}",
                hint="free memory that the GPU shares or has: close what else uses it",
            )
        self._stream = self._cuda.Stream()
        self._begin, self._end = self._cuda.Event(), self._cuda.Event()

    def bind(self, inputs: Tensors) -> None:
        """See `ports.EngineRunner`."""
        if set(inputs) != set(self._names[True]):
            raise RunnerError(
                f"inputs are {sorted(inputs)}, expected {sorted(self._names[True])}",
                code="wrong_input",
            )
        for name, value in inputs.items():
            buffer = self._host[name]
            if buffer.shape != value.shape or buffer.dtype != value.dtype:
                raise RunnerError(
                    f"input {name} is {value.dtype} {value.shape}, "
                    f"expected {buffer.dtype} {buffer.shape}",
                    code="wrong_input",
                )
            np.copyto(buffer, value)

    def run(self) -> None:
        """See `ports.EngineRunner`; copies are included.

        With graphs=True the first call executes some hundred times, to choose how to launch.
        """
        self._execute(self._graph.launch if self._graph else self._enqueue)
        if self._launches is None:
            self._launches = self._choose_launches()

    def _execute(self, launch: Callable[[], None]) -> None:
        with self._errors:
            for name in self._names[True]:
                self._cuda.memcpy_htod_async(self._device[name], self._host[name], self._stream)
            self._begin.record(self._stream)
            launch()
            self._end.record(self._stream)
            for name in self._names[False]:
                self._cuda.memcpy_dtoh_async(self._host[name], self._device[name], self._stream)
            self._stream.synchronize()

    def _enqueue(self) -> None:
        if not self._execution.execute_async_v3(self._stream.handle):
            raise RunnerError(f"{self._path}: TensorRT refused to execute: {self._logger.errors()}")

    def _choose_launches(self) -> Launches:
        """Capture a run as a graph; keep it if its outputs are the same and it is faster.

        Source: TensorRT's documentation, "CUDA Graphs": execute once before the capture; what an
            engine does on the host (loops, conditions) can't be captured.
        """
        if not self._graphs:
            return Launches(by="plain launches", reason="no CUDA graph was asked for")
        plainly = self.outputs()
        try:
            with self._errors:
                self._graph = capture(self._enqueue, self._stream.handle)
            self._invert_outputs()
            self._execute(self._graph.launch)
            if not bitwise_equal(plainly, self.outputs()):
                raise RunnerError("its outputs differ from those of plain launches")
            found = faster_launches(
                partial(self._execute, self._enqueue),
                partial(self._execute, self._graph.launch),
                self._now_ns,
            )
        except RunnerError as e:
            found = Launches(by="plain launches", reason=f"no CUDA graph: {e.message}")
        if found.by == "plain launches":
            self._drop_graph()
        self._execute(self._graph.launch if self._graph else self._enqueue)
        return found

    def _invert_outputs(self) -> None:
        """Invert the outputs on the GPU bitwise, so that an empty graph is detected."""
        with self._errors:
            for name in self._names[False]:
                output = self._host[name].reshape(-1).view(np.uint8)
                np.invert(output, out=output)
                self._cuda.memcpy_htod_async(self._device[name], output, self._stream)
            self._stream.synchronize()

    def _drop_graph(self) -> None:
        if self._graph is not None:
            self._graph.close()
        self._graph = None

    def launches(self) -> Launches | None:
        """See `ports.EngineRunner`; None before the first run."""
        return self._launches

    def report_layers(self, report: Callable[[str, float], None]) -> None:
        """Pass the name and the time, ms, of each layer of the following runs to a function.

        Not with graphs=True: a graph has no layers.
        """
        self._profiler = make_profiler(find_tensorrt(), report)
        self._execution.profiler = self._profiler

    def device_ms(self) -> float | None:
        """Return the GPU time of the last run without copies, by CUDA events, ms."""
        with self._errors:
            return float(self._begin.time_till(self._end))

    def device_bytes(self) -> int | None:
        """Return the growth of GPU memory since before the engine was loaded, bytes."""
        return max(0, self._used_bytes() - self._used_before)

    def _used_bytes(self) -> int:
        """Return GPU memory used besides the process's own memory, up to a constant, bytes.

        On a GPU that shares the memory, CUDA's free memory shrinks with every file that is read, so
        MemAvailable of the kernel is used, less the process's resident memory.

        Source: CUDA driver API, cuMemGetInfo ("free according to the OS", and Tegra).
        """
        if self._shared:
            return -available_bytes() - int(psutil.Process().memory_info().rss)
        with self._errors:
            return -int(self._cuda.mem_get_info()[0])

    def outputs(self) -> dict[str, NDArray[Any]]:
        """See `ports.EngineRunner`."""
        return {name: self._host[name].copy() for name in self._names[False]}

    def _allocate(self, trt: Any) -> None:
        for index in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(index)
            shape = tuple(self._engine.get_tensor_shape(name))
            if min(shape, default=0) < 0:
                raise RunnerError(
                    f"{self._path}: {name} is {list(shape)}, its size depends on the picture",
                    code="open_size",
                    hint="export the model without NonMaxSuppression, NonZero and the like",
                )
            self._host[name] = self._cuda.pagelocked_empty(shape, self._dtype(trt, name))
            self._device[name] = self._cuda.mem_alloc(max(1, self._host[name].nbytes))
            self._execution.set_tensor_address(name, int(self._device[name]))
            mode = self._engine.get_tensor_mode(name)
            self._names[mode == trt.TensorIOMode.INPUT].append(name)

    def _dtype(self, trt: Any, name: str) -> Any:
        kind = self._engine.get_tensor_dtype(name)
        try:
            return trt.nptype(kind)
        except TypeError as e:  # BF16, FP8, INT4
            raise RunnerError(
                f"{self._path}: {name} is {str(kind).rpartition('.')[2]}, which NumPy lacks",
                hint="export the model with inputs and outputs in float32 or float16",
            ) from e
