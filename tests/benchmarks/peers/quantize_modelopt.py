"""Model Optimizer's INT8 by its defaults, run by the Python that has it.

    PYTHON quantize_modelopt.py MODEL.onnx FRAMES.npz TARGET.onnx max|entropy

prints one JSON object as its last line. Nothing of quantd is imported.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
from modelopt.onnx.quantization import quantize


def peak_rss_mb() -> float:
    """Return the most memory that this process had resident, MB of 10^6 bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM:"))
    return round(int(line.split()[1]) * 1024 / 1e6, 1)


def main(model: str, frames: str, target: str, method: str) -> None:
    """Quantize and tell what it took."""
    Path("/proc/self/oom_score_adj").write_text("1000")  # if memory ends, it ends this process
    name = onnx.load(model, load_external_data=False).graph.input[0].name
    imported_mb = peak_rss_mb()
    begin = time.monotonic()
    with np.load(frames) as arrays:
        stacked = np.concatenate([arrays[key] for key in arrays.files])
    quantize(
        model,
        quantize_mode="int8",
        calibration_data={name: stacked},
        calibration_method=method,
        calibration_eps=["cpu"],
        high_precision_dtype="fp32",  # its default is fp16, which would blur what INT8 costs
        output_path=target,
    )
    result = {
        "seconds": round(time.monotonic() - begin, 2),
        "peak_rss_mb": peak_rss_mb(),
        "imported_mb": imported_mb,
        "version": f"nvidia-modelopt {version('nvidia-modelopt')}",
    }
    sys.stdout.write("\n" + json.dumps(result) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
