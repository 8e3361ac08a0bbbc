"""ONNX Runtime on the CPU, for trying graphs while they are made."""

from __future__ import annotations

import onnx
import onnxruntime

_FATAL = 4  # what fails is told by the error raised


def session(
    model: onnx.ModelProto, threads: int, *, lean: bool = False
) -> onnxruntime.InferenceSession:
    """Open a graph.

    Args:
        model: The graph.
        threads: 0 takes all cores.
        lean: True to plan no memory ahead, which with many outputs takes twice as much, and to
            let idle threads sleep, for others to use the cores between two runs.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL
    options.intra_op_num_threads = threads
    if lean:
        options.enable_mem_pattern = False
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
