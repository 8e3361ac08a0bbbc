"""Runs an ONNX file with ONNX Runtime, inputs and outputs bound to preallocated buffers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agent.core.errors import RunnerError
from agent.engines.errors import ONNXRUNTIME_ERRORS, one_line
from agent.engines.providers import make_session, on_gpu, resolve_providers

if TYPE_CHECKING:
    from agent.ports import Tensors


class OnnxruntimeRunner:
    """Implements `ports.EngineRunner`.

    Args:
        path: The model file.
        threads: Threads of one inference; 0 takes all cores.
        providers: As configured; empty for the default.
        cache: Folder for engines that a provider builds; empty for none.
    """

    def __init__(
        self, path: str, threads: int, providers: Sequence[str] = (), cache: str = ""
    ) -> None:
        self._path = path
        self._threads = threads
        self._providers = providers
        self._cache = cache
        self._session: Any = None
        self._binding: Any = None
        self._inputs: dict[str, NDArray[Any]] = {}
        self._outputs: dict[str, NDArray[Any]] = {}
        self._varying: list[str] = []

    def __enter__(self) -> OnnxruntimeRunner:
        try:
            self._session = make_session(
                self._path, self._threads, resolve_providers(self._providers), cache=self._cache
            )
        except ONNXRUNTIME_ERRORS as e:
            raise RunnerError(f"{self._path}: {one_line(e)}") from e
        self._binding = self._session.io_binding()
        return self

    def __exit__(self, *_: object) -> None:
        self._binding = None
        self._session = None
        self._inputs = {}
        self._outputs = {}
        self._varying = []

    def bind(self, inputs: Tensors) -> None:
        """See `ports.EngineRunner`."""
        expected = {one.name: one for one in self._session.get_inputs()}
        if set(inputs) != set(expected):
            raise RunnerError(
                f"inputs are {sorted(inputs)}, expected {sorted(expected)}", code="wrong_input"
            )
        for name, value in inputs.items():
            self._check(name, value, expected[name])
            buffer = self._inputs.get(name)
            if buffer is None:
                buffer = np.ascontiguousarray(value).copy()
                self._inputs[name] = buffer
                self._binding.bind_cpu_input(name, buffer)
            else:
                np.copyto(buffer, value)
        if not self._outputs and not self._varying:
            self._bind_outputs()

    def run(self) -> None:
        """See `ports.EngineRunner`."""
        for name in self._varying:  # else the size must be that of the last run
            self._binding.bind_output(name, "cpu")
        try:
            self._session.run_with_iobinding(self._binding)
        except ONNXRUNTIME_ERRORS as e:
            raise RunnerError(f"{self._path}: {one_line(e)}") from e

    def outputs(self) -> dict[str, NDArray[Any]]:
        """See `ports.EngineRunner`."""
        if not self._varying:
            return {name: buffer.copy() for name, buffer in self._outputs.items()}
        names = [one.name for one in self._session.get_outputs()]
        found = self._binding.get_outputs()
        return {name: value.numpy().copy() for name, value in zip(names, found, strict=True)}

    def device_ms(self) -> float | None:
        """Return None: ONNX Runtime does not report device time."""
        return None

    def launches(self) -> None:
        """Return None: ONNX Runtime decides how kernels are launched."""

    def device_bytes(self) -> int | None:
        """Return 0 on the CPU, None on a GPU: ONNX Runtime does not report its memory there."""
        return None if on_gpu(self._session.get_providers()) else 0

    def _check(self, name: str, value: NDArray[Any], expected: Any) -> None:
        buffer = self._inputs.get(name)
        fixed = [d for d in expected.shape if isinstance(d, int)]
        fits = (
            value.shape == buffer.shape and value.dtype == buffer.dtype
            if buffer is not None
            else len(fixed) < len(expected.shape) or tuple(expected.shape) == value.shape
        )
        dtype = _DTYPES.get(expected.type)
        if not fits or (dtype is not None and value.dtype != dtype):
            raise RunnerError(
                f"input {name} is {value.dtype} {list(value.shape)}, "
                f"expected {expected.type} {expected.shape}",
                code="wrong_input",
            )

    def _bind_outputs(self) -> None:
        """Run once to learn the shapes, and bind the outputs to preallocated buffers.

        Outputs of open size are bound per run, since the next picture may give another size.
        """
        declared = {one.name: one.shape for one in self._session.get_outputs()}
        names = list(declared)
        try:
            found = self._session.run(names, self._inputs)
        except ONNXRUNTIME_ERRORS as e:
            raise RunnerError(f"{self._path}: {one_line(e)}") from e
        for name, value in zip(names, found, strict=True):
            if not all(isinstance(size, int) for size in declared[name]):
                self._varying.append(name)
                self._binding.bind_output(name, "cpu")
                continue
            buffer = np.ascontiguousarray(value)
            self._outputs[name] = buffer
            self._binding.bind_output(
                name, "cpu", 0, buffer.dtype, buffer.shape, buffer.ctypes.data
            )


_DTYPES: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}
