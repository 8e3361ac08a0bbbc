"""The TensorRT module of this Python: TensorRT, or TensorRT-RTX to build for another GPU.

TensorRT-RTX builds engines on a machine without a GPU, for a given compute capability. Only
TensorRT-RTX loads them.
"""

from __future__ import annotations

import gc
import re
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from agent.core.errors import BuildError
from agent.packages import pip_install

_RTX = ("tensorrt_rtx", "tensorrt_rtx_bindings")
_SM = re.compile(r"SM(\d+)(\d)")  # SM86, SM120


def find_tensorrt(*, cross: bool = False) -> Any:
    """Return the TensorRT module of this Python.

    Args:
        cross: Return TensorRT-RTX, which can build for another GPU.

    Raises:
        BuildError: "no_runtime" if there is none.
    """
    reasons = []
    for name in _RTX if cross else ("tensorrt", *_RTX):
        try:
            return import_module(name)
        except (ImportError, OSError, RuntimeError) as e:  # a missing library, or a stub wheel
            reasons.append(str(e))
    if cross:
        raise BuildError(
            f"no TensorRT-RTX in this Python ({reasons[0]}), which building for another GPU needs",
            code="no_runtime",
            hint=f"{pip_install('tensorrt-rtx')}, or build on the device and leave "
            "runtime.compute_capability empty",
        )
    raise BuildError(
        f"no TensorRT in this Python: {reasons[0]}",
        code="no_runtime",
        hint="on a Jetson: `sudo apt install python3-libnvinfer`, and a venv made with "
        f"--system-site-packages; elsewhere: {pip_install('tensorrt-rtx')}",
    )


def is_rtx(trt: Any) -> bool:
    """Return True for TensorRT-RTX; it and TensorRT don't load each other's engines."""
    return str(trt.__name__).split(".")[0] in _RTX


def version(trt: Any) -> str:
    """Return the version as reports name it: 10.3.0, or RTX 1.7.1.116."""
    return f"RTX {trt.__version__}" if is_rtx(trt) else str(trt.__version__)


def capabilities(trt: Any) -> dict[str, Any]:
    """Return the compute capabilities that the builder supports by name ("8.6"), in order."""
    kinds = getattr(trt, "ComputeCapability", None)
    found = {
        f"{match[1]}.{match[2]}": getattr(kinds, name)
        for name in dir(kinds)
        if (match := _SM.fullmatch(name))
    }
    return dict(sorted(found.items(), key=lambda item: float(item[0])))


def capability(trt: Any, name: str) -> Any:
    """Return TensorRT's enum member of a compute capability such as "8.6".

    Raises:
        BuildError: "no_capability", with those it can build for.
    """
    known = capabilities(trt)
    if name not in known:
        raise BuildError(
            f"TensorRT {version(trt)} can't build for compute capability {name}",
            code="no_capability",
            hint=f"supported: {', '.join(known) or 'only that of the GPU here'}; an engine for "
            "a Jetson is built on that Jetson",
        )
    return known[name]


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Disable garbage collection during calls that create, build, load or free.

    TensorRT calls the logger while it owns the lock that freeing one of its objects needs (seen in
    TensorRT-RTX 1.7.1: createInferBuilder logs an earlier logger). If Python collects garbage on
    entry to the logger, and the garbage contains an object of TensorRT that the traceback of a
    failed build kept alive, the thread deadlocks. Not for concurrent threads; TensorRT is called by
    one thread only.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def make_logger(trt: Any) -> Any:
    """Return an ILogger that keeps the last errors for `errors()`.

    `on_dla` counts the runs of layers that the builder put on an accelerator: one line
    `[DlaLayer] {ForeignNode[first...last]}` each.
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

        def errors(self) -> str:
            return "; ".join(self._errors)[:600] or "no reason given"

    return Logger()


def make_profiler(trt: Any, report: Callable[[str, float], None]) -> Any:
    """Return an IProfiler that passes on the name and the time, ms, of each layer.

    Source: TensorRT Python API, IProfiler and IExecutionContext.profiler: with enqueue_emits_profile
        (the default) every execution waits for its end, and reports.
    """

    class Profiler(trt.IProfiler):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            report(layer_name, ms)

    return Profiler()


def parser_errors(parser: Any) -> str:
    """Return the errors of an OnnxParser: node, operator and reason of each."""
    errors = []
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        node = error.node_name() or f"node {error.node()}"
        errors.append(f"{node} ({error.node_operator()}): {_reason(error.desc())}")
    return "; ".join(errors)[:600] or "no reason given"


def _reason(described: str) -> str:
    """Return a description on one line, without TensorRT's messages about a missing GPU."""
    lines = [line for line in described.splitlines() if "catchCudaError" not in line]
    return " ".join(" ".join(lines or [described]).split())
