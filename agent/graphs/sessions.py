"""ONNX Runtime sessions on the CPU, for graphs under construction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

_FATAL = 4  # failures are in the exceptions


def session(
    model: onnx.ModelProto | str,
    threads: int,
    *,
    as_written: bool = False,
    optimized: bool = True,
) -> onnxruntime.InferenceSession:
    """Open a graph. Its idle threads sleep, since the application runs beside it.

    Memory is kept between frames, since fetching the pages of every tensor from the kernel again
    took a third of the time of a Q/DQ graph; and it is not planned, which would take more of it
    where a graph has many outputs.

    Args:
        model: The graph, or the path of its file, which may have external data.
        threads: 0 takes all cores.
        as_written: True to leave Q/DQ in place, as the target runtime does; ONNX Runtime's own
            moves and fusions of it cost 3 dB on one such graph.
        optimized: False to run the graph without any of ONNX Runtime's optimizations.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_mem_pattern = False
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if as_written:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    source = model if isinstance(model, str) else model.SerializeToString()
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def copied(values: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return copies of a session's outputs, to keep.

    The outputs are views of the session's memory, all of which stays as long as one of them.
    """
    return {name: np.array(value) for name, value in values.items()}
