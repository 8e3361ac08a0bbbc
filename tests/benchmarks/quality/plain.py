"""FP32 inference of all frames in a process of its own: the unit that other costs are given in.

    python -m tests.benchmarks.quality.plain MODEL.onnx FRAMES.npz

prints one JSON object: CPU seconds of one pass over the frames with one thread, the median of
three, and the peak memory of a process that does nothing else.
"""

from __future__ import annotations

import json
import statistics
import sys
import time

import numpy as np
import onnxruntime

from tests.benchmarks.memory import peak_rss_mb

_PASSES = 3


def measured(model: str, frames: str) -> dict[str, float]:
    """Return seconds of a pass and the peak memory."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (feed,) = (value.name for value in session.get_inputs())
    passes = []
    with np.load(frames) as arrays:
        names = arrays.files
        session.run(None, {feed: arrays[names[0]]})  # warm-up
        for _ in range(_PASSES):
            spent = 0.0
            for name in names:
                frame = arrays[name]
                begin = time.process_time()
                session.run(None, {feed: frame})
                spent += time.process_time() - begin
            passes.append(spent)
    return {
        "frames": len(names),
        "pass_cpu_s": round(statistics.median(passes), 3),
        "passes_s": [round(one, 3) for one in passes],
        "peak_rss_mb": peak_rss_mb(),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measured(*sys.argv[1:])) + "\n")
