"""ONNX Runtime's execution providers: selection, and sessions on them."""

from __future__ import annotations

import functools
import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from agent.core.errors import BuildError
from agent.disk import make_folder
from agent.engines.errors import ONNXRUNTIME_ERRORS, one_line

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
"""Used only where it is configured: it builds an engine for each session, minutes on a board."""
_ON_GPU = {CUDA, "NvTensorRTRTXExecutionProvider", TENSORRT}
_CACHED_GRAPHS = 16
_WITHOUT_CONSTANTS = {
    "session.optimized_model_external_initializers_file_name": "{name}.constants",
    "session.optimized_model_external_initializers_min_size_in_bytes": "1024",
}  # a graph of more than 2 GB can't be written otherwise


def resolve_providers(wanted: Sequence[str]) -> list[str]:
    """Return the providers of a session in order of preference, always with the CPU.

    Args:
        wanted: As configured; empty for CUDA if it loads here, and the CPU.

    Raises:
        BuildError: "no_provider" if this ONNX Runtime was built without one of them, or fails with
            CUDA's.
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
    if not wanted:
        return [*((CUDA,) if CUDA in available and _cuda_loads() else ()), CPU]
    return [*wanted, *(() if CPU in wanted else (CPU,))]


@functools.cache
def _cuda_loads() -> bool:
    """Return whether CUDA's provider loads; each session that tries in vain prints red lines."""
    return _loaded([CUDA, CPU])[0] == CUDA


def load_providers(wanted: Sequence[str]) -> tuple[str, ...]:
    """Return those of `resolve_providers` that load on this machine.

    A provider can be built in and still fail to load, without a driver or with another CUDA; ONNX
    Runtime then drops it with a message on stderr only.

    Raises:
        BuildError: "no_provider" if a configured one is missing or does not load.
    """
    loaded = _loaded(resolve_providers(wanted))
    lost = [name for name in wanted if name not in loaded]
    if lost:
        raise BuildError(
            f"{lost[0]} does not load on this machine",
            code="no_provider",
            hint="its driver and libraries (CUDA, cuDNN, TensorRT) must be of the versions that "
            "this onnxruntime-gpu was built for",
        )
    return tuple(loaded)


def _loaded(providers: Sequence[str]) -> list[str]:
    """Return the providers that a small session gets.

    Raises:
        BuildError: "no_provider" if there is no session with them.
    """
    onnxruntime.set_default_logger_severity(4)
    try:
        return list(make_session(_probe_model(), 1, providers).get_providers())
    except ONNXRUNTIME_ERRORS as e:
        raise BuildError(
            f"{', '.join(providers)}: ONNX Runtime can't use them here: {one_line(e)}",
            code="no_provider",
            hint='runtime.providers = ["CPUExecutionProvider"] works everywhere',
        ) from e


def on_gpu(providers: Sequence[str]) -> bool:
    """Return True if the preferred provider executes on an NVIDIA GPU."""
    return bool(providers) and providers[0] in _ON_GPU


def make_session(
    model: str | bytes,
    threads: int,
    providers: Sequence[str],
    *,
    profile: str = "",
    optimized: str = "",
    cache: str = "",
) -> onnxruntime.InferenceSession:
    """Return a session.

    Args:
        model: Path of the file, or its bytes.
        threads: Of one inference; 0 takes all cores.
        providers: From `resolve_providers`.
        profile: Prefix of the profile's file; empty for no profile.
        optimized: Where to write the graph as it is executed, its constants beside it; empty for
            nowhere. Providers that compile nodes can't write it.
        cache: Folder for the engines of TensorRT's provider; empty to build them each time.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    if profile:
        options.enable_profiling = True
        options.profile_file_prefix = profile
    if optimized:
        options.optimized_model_filepath = optimized
        for key, value in _WITHOUT_CONSTANTS.items():
            options.add_session_config_entry(key, value.format(name=Path(optimized).name))
    chosen = [
        (name, tensorrt_options(model, cache)) if name == TENSORRT else name for name in providers
    ]
    return onnxruntime.InferenceSession(model, options, providers=chosen)


def tensorrt_options(model: str | bytes, cache: str) -> dict[str, str]:
    """Return the options of TensorRT's provider for the precisions in a graph.

    Without the flag of a precision it refuses Q/DQ, or computes float16 in float32. Its names of
    cached engines depend on the nodes of a graph but not on its weights, so each file has a folder.

    Source: onnxruntime.ai, "TensorRT Execution Provider"; microsoft/onnxruntime#13381,
        #6455 and #32254 for the names of cached engines.
    """
    body = Path(model).read_bytes() if isinstance(model, str) else model
    graph = onnx.load_model_from_string(body).graph
    found = {}
    if any(node.op_type in {"QuantizeLinear", "DequantizeLinear"} for node in graph.node):
        found["trt_int8_enable"] = "True"
    if any(tensor.data_type == TensorProto.FLOAT16 for tensor in graph.initializer):
        found["trt_fp16_enable"] = "True"
    if cache:
        folder = _cache_folder(Path(cache), hashlib.sha256(body).hexdigest()[:32])
        found |= {
            "trt_engine_cache_enable": "True",
            "trt_engine_cache_path": str(folder),
            "trt_timing_cache_enable": "True",
            "trt_timing_cache_path": str(folder.parent),
        }
    return found


def _cache_folder(cache: Path, name: str) -> Path:
    """Return the folder of a graph, created if absent; remove the oldest beyond the limit."""
    folder = cache / name
    if not folder.is_dir():
        make_folder(folder)
        graphs = sorted(
            (one for one in cache.iterdir() if one.is_dir() and one != folder),
            key=lambda one: one.stat().st_mtime,
        )
        for old in graphs[: max(0, len(graphs) + 1 - _CACHED_GRAPHS)]:
            shutil.rmtree(old, ignore_errors=True)
    return folder


def _probe_model() -> bytes:
    shape = [1, 1, 4, 4]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    weight = helper.make_tensor("w", TensorProto.FLOAT, [1, 1, 1, 1], np.ones(1, np.float32))
    graph = helper.make_graph(nodes, "probe", [x], [y], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())
