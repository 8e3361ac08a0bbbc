"""The runtime, device and quantization scheme with which this machine executes engines."""

from __future__ import annotations

import platform as machine
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

import agent
from agent.core.errors import BuildError, RunnerError
from agent.core.records import Platform
from agent.disk import text_of
from agent.engines.cuda import CudaErrors, find_cuda
from agent.engines.tensorrt import capability, find_tensorrt
from agent.engines.tensorrt import version as version_of
from agent.packages import import_hint, installed_version

Facts = Mapping[str, str | int | float | None]
_NO_FP16 = (
    "fp16 is not offered on ONNX Runtime's CPU provider: it has few FP16 kernels and converts "
    "to FP32 and back around them, which is slower"
)


def find_platform(
    kind: str,
    board: Facts,
    compute_capability: str = "",
    providers: Sequence[str] = (),
) -> Platform:
    """Return the platform that `runtime.kind` names, or the best one for "auto".

    Args:
        kind: auto, tensorrt or onnxruntime.
        board: What identifies the board, for the report.
        compute_capability: With kind tensorrt: build for this one, not for the GPU of this machine.
        providers: Execution providers for ONNX Runtime; empty for the best.

    Raises:
        BuildError: "no_runtime" if the runtime can't be used here, "no_capability" if it can't
            build for the compute capability, "no_provider" if a provider is not usable.
    """
    if kind == "tensorrt" and compute_capability:
        module = find_tensorrt(cross=True)
        capability(module, compute_capability)
        device = f"compute capability {compute_capability}"
        return _of_tensorrt(module, device, board, compute_capability=compute_capability)
    reason = f"runtime.kind is {kind}"
    if kind in {"auto", "tensorrt"}:
        try:
            return _tensorrt(board)
        except (BuildError, RunnerError) as e:
            if kind == "tensorrt":
                raise BuildError(
                    f"runtime.kind is tensorrt, but TensorRT can't be used: {e.message}",
                    code="no_runtime",
                    hint="on a Jetson: apt install python3-libnvinfer and a venv made with "
                    '--system-site-packages; elsewhere: runtime.kind = "onnxruntime", or '
                    "runtime.compute_capability to build, unmeasured, for a GPU that is not here",
                ) from e
            reason = e.message
    return _onnxruntime(board, providers, reason)


def _tensorrt(board: Facts) -> Platform:
    """Return the platform of this machine's GPU.

    Raises:
        BuildError, RunnerError: with the reason why there is no GPU or no TensorRT for it.
    """
    cuda = find_cuda()  # before TensorRT, whose libraries are large
    trt = find_tensorrt()
    with CudaErrors(cuda, "no GPU can be used", "no_runtime"):
        gpu = cuda.Device(0)
        device = gpu.name()
        its = ".".join(map(str, gpu.compute_capability()))
        shares = gpu.get_attribute(cuda.device_attribute.INTEGRATED)
    memory = "shared" if shares else "its own"
    return _of_tensorrt(trt, device, board, gpu=device, gpu_memory=memory, compute_capability=its)


def _of_tensorrt(module: Any, device: str, board: Facts, **gpu: str) -> Platform:
    return Platform(
        runtime="tensorrt",
        runtime_version=version_of(module),
        scheme="S8S8-FP16",
        fp16_reason="",
        device=device,
        environment=_environment(board) | {"tensorrt": version_of(module), **gpu},
    )


def _onnxruntime(board: Facts, wanted: Sequence[str], no_tensorrt: str) -> Platform:
    try:
        import onnxruntime

        from agent.engines.providers import load_providers, on_gpu
    except ImportError as e:
        raise BuildError(
            f"neither TensorRT nor ONNX Runtime is usable from this Python: {e}",
            code="no_runtime",
            hint=import_hint(e),
        ) from e
    providers = load_providers(wanted)
    gpu = on_gpu(providers)
    return Platform(
        runtime="onnxruntime",
        runtime_version=onnxruntime.__version__,
        scheme="S8S8" if gpu else "U8S8",
        fp16_reason="" if gpu else _NO_FP16,
        device=providers[0].removesuffix("ExecutionProvider") if gpu else _cpu_name(),
        environment=_environment(board)
        | {
            "tensorrt": None,
            "tensorrt_reason": no_tensorrt,
            "providers": ", ".join(providers),
        },
    )


def _environment(board: Facts) -> dict[str, str | int | float | None]:
    return {
        **board,
        "cpu": _cpu_name(),
        "cpus": psutil.cpu_count(),
        "memory_mb": round(psutil.virtual_memory().total / 1e6),
        "machine": machine.machine(),
        "kernel": machine.release(),
        "python": machine.python_version(),
        "onnxruntime": installed_version("onnxruntime") or installed_version("onnxruntime-gpu"),
        "quantd": agent.__version__,
    }


def _cpu_name() -> str:
    for line in text_of(Path("/proc/cpuinfo")).splitlines():
        key, _, value = line.partition(":")
        if key.strip() in {"model name", "Model", "Hardware"}:
            return value.strip()
    return machine.processor() or machine.machine()
