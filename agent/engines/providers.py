"""ONNX Runtime's execution providers: which are used, and a session on them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

from agent.core.errors import BuildError
from agent.runtime_errors import ONNXRUNTIME_ERRORS, one_line

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_BY_ITSELF = (CUDA, CPU)
"""Taken without being named. TensorRT's provider builds an engine whenever a session is made,
minutes on a board, so it is left to who asks for it."""
_ON_GPU = {CUDA, "NvTensorRTRTXExecutionProvider", "TensorrtExecutionProvider"}


def named(wanted: Sequence[str]) -> list[str]:
    """Return the providers of a session in order of preference, the CPU always the last resort.

    Args:
        wanted: As configured; empty for the best that this ONNX Runtime was built with.

    Raises:
        BuildError: "no_provider" if one of them is not in this ONNX Runtime.
    """
    available = onnxruntime.get_available_providers()
    missing = [name for name in wanted if name not in available]
    if missing:
        raise BuildError(
            f"runtime.providers has {missing[0]}, which this ONNX Runtime "
            f"{onnxruntime.__version__} was built without",
            code="no_provider",
            hint=f"it has {', '.join(available)}",
        )
    chosen = list(wanted) or [name for name in _BY_ITSELF if name in available]
    return chosen if CPU in chosen else [*chosen, CPU]


def usable(wanted: Sequence[str]) -> tuple[str, ...]:
    """Return those of `named` that load on this machine.

    A provider can be built in and still not load, without a driver or with another CUDA; ONNX
    Runtime then goes on without it and says so on stderr only.

    Raises:
        BuildError: "no_provider" if one that was asked for is not there or does not load.
    """
    chosen = named(wanted)
    onnxruntime.set_default_logger_severity(4)
    try:
        loaded = make_session(_probe(), 1, chosen).get_providers()
    except ONNXRUNTIME_ERRORS as e:
        raise BuildError(
            f"{', '.join(chosen)}: ONNX Runtime can't use them here: {one_line(e)}",
            code="no_provider",
            hint='runtime.providers = ["CPUExecutionProvider"] works everywhere',
        ) from e
    lost = [name for name in wanted if name not in loaded]
    if lost:
        raise BuildError(
            f"{lost[0]} does not load on this machine",
            code="no_provider",
            hint="its driver and libraries (CUDA, cuDNN, TensorRT) must be of the versions that "
            "this onnxruntime-gpu was built for",
        )
    return tuple(loaded)


def on_gpu(providers: Sequence[str]) -> bool:
    """Return True if the preferred provider executes on an NVIDIA GPU."""
    return bool(providers) and providers[0] in _ON_GPU


def make_session(
    model: str | bytes, threads: int, providers: Sequence[str], *, profile: str = ""
) -> onnxruntime.InferenceSession:
    """Return a session; with `profile`, one that writes what it runs to files of that prefix."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    if profile:
        options.enable_profiling = True
        options.profile_file_prefix = profile
    return onnxruntime.InferenceSession(model, options, providers=list(providers))


def _probe() -> bytes:
    shape = [1, 1, 4, 4]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    weight = helper.make_tensor("w", TensorProto.FLOAT, [1, 1, 1, 1], np.ones(1, np.float32))
    graph = helper.make_graph(nodes, "probe", [x], [y], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())
