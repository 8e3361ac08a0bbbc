"""The CUDA driver, through PyCUDA, whose errors derive from Exception alone.

`pycuda.driver.RuntimeError`, `MemoryError` and `LogicError` do not derive from Python's own, so
code that catches those misses the driver's errors.
"""

from __future__ import annotations

from importlib import import_module
from types import TracebackType
from typing import Any

from agent.core.errors import RunnerError


def find_cuda() -> Any:
    """Return `pycuda.driver`, initialized.

    Raises:
        RunnerError: "no_runtime" if PyCUDA is not importable, or there is no driver for it.
    """
    try:
        cuda = import_module("pycuda.driver")
    except ImportError as e:
        raise RunnerError(
            f"PyCUDA is not usable from this Python: {e}",
            code="no_runtime",
            hint="`quantd doctor` shows how to install it",
        ) from e
    with CudaErrors(cuda, "no GPU can be used", "no_runtime"):
        cuda.init()
    return cuda


class CudaErrors:
    """Context manager that turns the driver's exceptions into RunnerError; may be reused.

    Args:
        cuda: From `find_cuda`.
        what: Beginning of the message: what failed.
        code: Of the error.
    """

    def __init__(self, cuda: Any, what: str, code: str = "") -> None:
        self._errors = cuda.Error
        self._memory_errors = cuda.MemoryError
        self._what = what
        self._code = code

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if isinstance(error, self._errors):
            short = isinstance(error, self._memory_errors)
            raise RunnerError(
                f"{self._what}: {error}",
                code=self._code,
                hint="free memory that the GPU shares or has: close what else uses it"
                if short
                else "",
            ) from error
