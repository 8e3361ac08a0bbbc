"""The TensorRT module of this Python: full TensorRT, or TensorRT-RTX for a GPU that is elsewhere.

TensorRT-RTX builds engines on a machine without a GPU, for a compute capability that is named.
Only TensorRT-RTX itself loads them.
"""

from __future__ import annotations

import gc
import re
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from agent.core.errors import BuildError

_RTX = ("tensorrt_rtx", "tensorrt_rtx_bindings")
_SM = re.compile(r"SM(\d+)(\d)")  # SM86, SM120


def find_tensorrt(*, cross: bool = False) -> Any:
    """Return the TensorRT module of this Python.

    Args:
        cross: Return TensorRT-RTX, which can build for a GPU that is not here.

    Raises:
        BuildError: "no_runtime" if there is none.
    """
    reasons = []
    for name in _RTX if cross else ("tensorrt", *_RTX):
        try:
            return import_module(name)
        except (ImportError, OSError, RuntimeError) as e:  # a library of it, or a stub of a wheel
            reasons.append(str(e))  # the next one may be there
    if cross:
        raise BuildError(
            f"no TensorRT-RTX in this Python ({reasons[0]}), which building for another GPU needs",
            code="no_runtime",
            hint="pip install tensorrt-rtx, or build on the device and leave "
            "runtime.compute_capability empty",
        )
    raise BuildError(
        f"no TensorRT in this Python: {reasons[0]}",
        code="no_runtime",
        hint="on a Jetson: apt install python3-libnvinfer, and a venv made with "
        "--system-site-packages; elsewhere: pip install tensorrt-rtx",
    )


def is_rtx(trt: Any) -> bool:
    """Return True for TensorRT-RTX, whose engines TensorRT does not load, nor it TensorRT's."""
    return str(trt.__name__).split(".")[0] in _RTX


def version(trt: Any) -> str:
    """Return the version as reports name it: 10.3.0, or RTX 1.7.1.116."""
    return f"RTX {trt.__version__}" if is_rtx(trt) else str(trt.__version__)


def capabilities(trt: Any) -> dict[str, Any]:
    """Return the compute capabilities that can be named to the builder, as "8.6", in order."""
    kinds = getattr(trt, "ComputeCapability", None)
    found = {
        f"{match[1]}.{match[2]}": getattr(kinds, name)
        for name in dir(kinds)
        if (match := _SM.fullmatch(name))
    }
    return dict(sorted(found.items(), key=lambda item: float(item[0])))


def capability(trt: Any, name: str) -> Any:
    """Return TensorRT's own word for a compute capability such as "8.6".

    Raises:
        BuildError: "no_capability", naming those it can build for.
    """
    known = capabilities(trt)
    if name not in known:
        raise BuildError(
            f"TensorRT {version(trt)} can't build for compute capability {name}",
            code="no_capability",
            hint=f"it knows: {', '.join(known) or 'none but that of the GPU here'}; an engine for "
            "a Jetson is built on that Jetson",
        )
    return known[name]


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Keep Python from collecting garbage, for calls that make, build, load or free.

    TensorRT calls the logger while it holds the lock that freeing one of its objects takes
    (seen in TensorRT-RTX 1.7.1: createInferBuilder tells of an earlier logger). Python may
    collect garbage on its way into the logger; where an object of TensorRT is in it, kept so
    far by the traceback of a failed build, the thread waits for itself for ever. For one thread
    at a time, which all calls of TensorRT here are.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def make_logger(trt: Any) -> Any:
    """Return an ILogger that keeps the last errors for `told()`.

    It counts what the builder says to have put on an accelerator (`on_dla`): a line
    `[DlaLayer] {ForeignNode[first...last]}` for each run of layers.
    """

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self._errors: deque[str] = deque(maxlen=3)
            self.on_dla = 0

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.Severity.ERROR:
                self._errors.append(message)
            elif message.startswith("[DlaLayer]"):
                self.on_dla += 1

        def told(self) -> str:
            return "; ".join(self._errors)[:600] or "no reason given"

    return Logger()


def parser_errors(parser: Any) -> str:
    """Return what an OnnxParser refused: node, operator and reason of each."""
    told = []
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        node = error.node_name() or f"node {error.node()}"
        told.append(f"{node} ({error.node_operator()}): {_reason(error.desc())}")
    return "; ".join(told)[:600] or "no reason given"


def _reason(described: str) -> str:
    """Return a description on one line, without TensorRT's complaints that there is no GPU."""
    lines = [line for line in described.splitlines() if "catchCudaError" not in line]
    return " ".join(" ".join(lines or [described]).split())
