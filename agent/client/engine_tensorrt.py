"""An engine of TensorRT, run as it was when it was measured, with NVIDIA's cuda-bindings alone.

TensorRT-RTX's engines have the same interface. Not seen to execute: there was no GPU to test on.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.client.errors import ReleaseError

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: the application's own work does not wait for it
_NAME_BYTES = 256
_RTX = ("tensorrt_rtx", "tensorrt_rtx_bindings")


class TensorrtEngine:
    """Loads an engine into its own stream and pinned buffers of the GPU's primary context.

    Args:
        plan: The file's bytes.
        runtime: `runtime` of model.json.
        launched: `launched` of model.json.

    Raises:
        ReleaseError: "no_runtime", "other_version", "other_device", or "runtime" if it does not load.
    """

    def __init__(self, plan: bytes, runtime: Mapping[str, Any], launched: str | None) -> None:
        self._cuda = _Driver()
        trt = _tensorrt(str(runtime["version"]))
        self._gpu = self._cuda.device(runtime)
        self._context = self._cuda.call("cuDevicePrimaryCtxRetain", self._gpu)
        self._undo = ExitStack()
        self._runtime: Any = None
        self._engine: Any = None
        self._execution: Any = None
        self._graph: Any = None
        self._graph_wanted = launched == "CUDA graph"
        self._host: dict[str, NDArray[Any]] = {}
        self._device: dict[str, Any] = {}
        try:
            with self._current():
                self._load(trt, plan, int(runtime["dla_core"]))
        except BaseException:
            self.close()
            raise

    def run(self, name: str, tensor: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Return the outputs by name, copied; the first run captures the graph, if one was measured."""
        np.copyto(self._host[name], tensor)
        with self._current():
            self._execute(name)
            if self._graph_wanted and self._graph is None:
                self._graph = self._captured()
                self._execute(name)
        return {key: host.copy() for key, host in self._host.items() if key != name}

    def close(self) -> None:
        """Free the engine, its buffers and its stream; errors of a broken context are ignored."""
        self._execution = self._engine = self._runtime = None  # in this order
        self._host = {}
        with suppress(ReleaseError), self._current():
            self._undo.close()
        with suppress(ReleaseError):
            self._cuda.call("cuDevicePrimaryCtxRelease", self._gpu)

    def _execute(self, name: str) -> None:
        call, stream = self._cuda.call, self._stream
        host = self._host[name]
        call("cuMemcpyHtoDAsync", self._device[name], host.ctypes.data, host.nbytes, stream)
        if self._graph is None:
            self._enqueue()
        else:
            call("cuGraphLaunch", self._graph, stream)
        for key, output in self._host.items():
            if key != name:
                device = self._device[key]
                call("cuMemcpyDtoHAsync", output.ctypes.data, device, output.nbytes, stream)
        call("cuStreamSynchronize", stream)

    def _enqueue(self) -> None:
        if not self._execution.execute_async_v3(int(self._stream)):
            raise ReleaseError(
                "TensorRT refused to execute; its reason is on stderr", code="runtime"
            )

    def _captured(self) -> Any:
        """Return a graph of one execution; TensorRT initializes in the one before.

        Source: TensorRT's documentation, "CUDA Graphs".
        """
        call = self._cuda.call
        mode = self._cuda.library.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        call("cuStreamBeginCapture", self._stream, mode)
        try:
            self._enqueue()
        finally:
            graph = call("cuStreamEndCapture", self._stream)
        made = call("cuGraphInstantiate", graph, 0)
        call("cuGraphDestroy", graph)
        self._undo.callback(call, "cuGraphExecDestroy", made)
        return made

    def _load(self, trt: Any, plan: bytes, dla_core: int) -> None:
        self._stream = self._cuda.call("cuStreamCreate", _NON_BLOCKING)
        self._undo.callback(self._cuda.call, "cuStreamDestroy", self._stream)
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        if dla_core >= 0:
            self._runtime.DLA_core = dla_core
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        self._execution = self._engine and self._engine.create_execution_context()
        if self._execution is None:
            raise ReleaseError(
                f"TensorRT {trt.__version__} does not load the engine; its reason is on stderr",
                code="runtime",
                hint="if it is short of memory, close what else uses the GPU's",
            )
        for index in range(self._engine.num_io_tensors):
            self._allocate(trt, self._engine.get_tensor_name(index))

    def _allocate(self, trt: Any, name: str) -> None:
        shape = tuple(self._engine.get_tensor_shape(name))
        dtype = np.dtype(trt.nptype(self._engine.get_tensor_dtype(name)))
        size = max(1, prod(shape) * dtype.itemsize)
        call = self._cuda.call
        address = call("cuMemHostAlloc", size, 0)
        self._undo.callback(call, "cuMemFreeHost", address)
        device = self._device[name] = call("cuMemAlloc", size)
        self._undo.callback(call, "cuMemFree", device)
        pinned = (ctypes.c_uint8 * size).from_address(int(address))
        self._host[name] = np.frombuffer(pinned, dtype, prod(shape)).reshape(shape)
        self._execution.set_tensor_address(name, int(device))

    @contextmanager
    def _current(self) -> Iterator[None]:
        """Make the primary context current in this thread, whatever the application has there."""
        self._cuda.call("cuCtxPushCurrent", self._context)
        try:
            yield
        finally:
            self._cuda.call("cuCtxPopCurrent")


class _Driver:
    """The CUDA driver by cuda-bindings: a function returns a status, then its value."""

    def __init__(self) -> None:
        try:
            self.library = import_module("cuda.bindings.driver")
        except ImportError as e:
            raise ReleaseError(
                f"the release runs on TensorRT, for which cuda-bindings is missing: {e}",
                code="no_runtime",
                hint='pip install "cuda-bindings<13" (JetPack 6), or cuda-bindings',
            ) from e
        self.call("cuInit", 0, code="no_runtime")

    def call(self, name: str, *arguments: Any, code: str = "runtime") -> Any:
        """Return the value of a function of the driver, None where it has none."""
        try:
            status, *values = getattr(self.library, name)(*arguments)
        except (RuntimeError, ValueError) as e:  # no library, or a status that it does not know
            raise _refused(f"{name}: {e}", code) from e
        if int(status):
            raise _refused(f"{name}: {status.name}", code)
        return values[0] if values else None

    def device(self, runtime: Mapping[str, Any]) -> Any:
        """Return the first GPU, checked to be of the kind that an engine was built for."""
        device = self.call("cuDeviceGet", 0, code="no_runtime")
        kinds = self.library.CUdevice_attribute
        major, minor = (
            self.call("cuDeviceGetAttribute", getattr(kinds, f"CU_{name}"), device)
            for name in (
                "DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR",
                "DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR",
            )
        )
        name = self.call("cuDeviceGetName", _NAME_BYTES, device).rstrip(b"\0").decode()
        here = {"device": name, "compute_capability": f"{major}.{minor}"}
        for key, value in here.items():
            if runtime[key] not in {None, value}:
                raise ReleaseError(
                    f"the engine was built for {key.replace('_', ' ')} {runtime[key]}, this GPU is "
                    f"{value}",
                    code="other_device",
                    hint="`quantd optimize` on this device builds one for it",
                )
        return device


def _refused(what: str, code: str) -> ReleaseError:
    hint = "the release runs on TensorRT, which needs an NVIDIA GPU and its driver"
    return ReleaseError(f"CUDA: {what}", code=code, hint=hint if code == "no_runtime" else "")


def _tensorrt(wanted: str) -> Any:
    """Return the module of the TensorRT that built an engine: 10.3.0, or RTX 1.7.1.116."""
    rtx, _, version = wanted.rpartition(" ")
    reasons = []
    for name in _RTX if rtx else ("tensorrt",):
        try:
            found = import_module(name)
        except (ImportError, OSError, RuntimeError) as e:  # a missing library, or a stub wheel
            reasons.append(str(e))
            continue
        if found.__version__ != version:
            raise ReleaseError(
                f"the engine was built by TensorRT {wanted}, this is {found.__version__}, which "
                "does not load it",
                code="other_version",
                hint="the quantd on this device builds it again after an upgrade; the application "
                "needs the same TensorRT",
            )
        return found
    raise ReleaseError(
        f"the release runs on TensorRT {wanted}, which can't be imported: {reasons[0]}",
        code="no_runtime",
        hint="on a Jetson: apt install python3-libnvinfer, and a venv made with "
        "--system-site-packages",
    )
