"""ONNX Runtime on the CPU, for trying graphs while they are made."""

from __future__ import annotations

import onnx
import onnxruntime

_FATAL = 4  # what fails is told by the error raised


def session(
    model: onnx.ModelProto, threads: int, *, tapped: bool = False, as_written: bool = False
) -> onnxruntime.InferenceSession:
    """Open a graph.

    Args:
        model: The graph.
        threads: 0 takes all cores.
        tapped: True for one with many outputs inside, run over many frames: it plans no memory
            ahead, which would take twice as much, keeps what it has between frames, and lets
            idle threads sleep. Others are for a few runs, and give back all that they take.
        as_written: True to leave Q/DQ where it is, as the runtime does for which the graph is
            made; ONNX Runtime's own moves and fusions of it cost 3 dB on one such graph.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL
    options.intra_op_num_threads = threads
    options.enable_cpu_mem_arena = tapped
    if tapped:
        options.enable_mem_pattern = False
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if as_written:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
