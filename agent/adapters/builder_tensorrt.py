"""Engines by TensorRT's own parser and builder: strongly typed, the graph carries the precision."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from agent.core.errors import BuildError
from agent.disk import write_atomically
from agent.ports import Progress

FILE = "engine.plan"
_MODULES = ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings")


class TensorrtBuilder:
    """Implements `ports.EngineBuilder` on TensorRT 10, 11 and TensorRT-RTX alike.

    Networks are always strongly typed, the one kind that all of them know: there are no
    INT8 or FP16 builder flags here.

    Args:
        workspace_mb: Limit of the builder's scratch memory; 0 leaves it to TensorRT.
        compute_capability: Build for this one, such as "8.6", instead of the GPU here.
            Only TensorRT-RTX can; the engine is then not runnable on this machine.
    """

    runtime = "tensorrt"

    def __init__(self, workspace_mb: int, compute_capability: str = "") -> None:
        self._trt = find_tensorrt()
        self._workspace_mb = workspace_mb
        self._capability = compute_capability
        self.version = str(self._trt.__version__)
        self.runnable = not compute_capability
        self.device = f"compute capability {compute_capability}" if compute_capability else "GPU"

    def build(self, quantized: str, batch: int, directory: str, progress: Progress) -> str:
        """Write directory/engine.plan.

        Raises:
            BuildError: with every parser error: node, operator and reason.
        """
        trt = self._trt
        logger = _Logger(trt)
        builder = trt.Builder(logger)
        flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        network = builder.create_network(flags)
        parser = trt.OnnxParser(network, logger)
        if not parser.parse_from_file(quantized):
            raise BuildError(
                f"TensorRT {self.version} can't parse the graph: {_parser_errors(parser)}",
                code="not_parsed",
                hint="replace the operator named, or use runtime.kind = onnxruntime",
            )
        if batch > 1:
            _set_batch(network, batch)
        config = builder.create_builder_config()
        if self._workspace_mb:
            pool = trt.MemoryPoolType.WORKSPACE
            config.set_memory_pool_limit(pool, self._workspace_mb << 20)
        if self._capability:
            self._target(config)
        config.progress_monitor = _monitor(trt, progress)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise BuildError(
                f"TensorRT {self.version} built nothing: {logger.told()}",
                code="not_built",
                hint="lower runtime.workspace_mb if memory is short; doctor checks the rest",
            )
        write_atomically(Path(directory, FILE), bytes(plan))
        return FILE

    def _target(self, config: Any) -> None:
        name = "SM" + self._capability.replace(".", "")
        kinds = getattr(self._trt, "ComputeCapability", None)
        if kinds is None or not hasattr(kinds, name):
            known = ", ".join(k for k in dir(kinds) if k.startswith("SM")) if kinds else "none"
            raise BuildError(
                f"TensorRT {self.version} can't build for compute capability {self._capability}",
                code="no_capability",
                hint=f"it knows: {known}",
            )
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(kinds, name), 0)


def find_tensorrt() -> Any:
    """Return the TensorRT module of this Python, the full one before TensorRT-RTX.

    Raises:
        BuildError: "no_runtime" if there is none.
    """
    for name in _MODULES:
        try:
            return import_module(name)
        except ImportError:
            continue  # the next one may be there
    raise BuildError(
        "no TensorRT in this Python",
        code="no_runtime",
        hint="on a Jetson: apt install python3-libnvinfer, and a venv made with "
        "--system-site-packages; elsewhere: pip install tensorrt-rtx",
    )


def _Logger(trt: Any) -> Any:  # noqa: N802 - makes a class, whose base is known only now
    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self._errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.Severity.ERROR:
                self._errors.append(message)

        def told(self) -> str:
            return "; ".join(self._errors[-3:])[:600] or "no reason given"

    return Logger()


def _monitor(trt: Any, progress: Progress) -> Any:
    """Return an IProgressMonitor that reports the outermost phase."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            self._steps[name] = steps
            if parent is None:
                progress(0, steps, name)

        def step_complete(self, name: str, step: int) -> bool:
            progress(step + 1, self._steps.get(name, 0), name)
            return True

        def phase_finish(self, name: str) -> None:
            self._steps.pop(name, None)

    return Monitor()


def _parser_errors(parser: Any) -> str:
    told = []
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        node = error.node_name() or f"node {error.node()}"
        told.append(f"{node} ({error.node_operator()}): {error.desc()}")
    return "; ".join(told)[:600] or "no reason given"


def _set_batch(network: Any, batch: int) -> None:
    image = network.get_input(0)
    image.shape = (batch, *tuple(image.shape)[1:])
