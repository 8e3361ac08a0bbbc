"""ONNX Runtime's `quantize_static` as it is recommended for TensorRT, run by the Python that has it.

    PYTHON quantize_ort.py MODEL.onnx FRAMES.npz TARGET.onnx MinMax|Entropy|Percentile

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
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process


class Frames(CalibrationDataReader):
    """The frames of an npz file, read one at a time."""

    def __init__(self, path: str, name: str) -> None:
        arrays = np.load(path)
        self._feeds = ({name: arrays[key]} for key in arrays.files)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next frame, None after the last."""
        return next(self._feeds, None)


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
    prepared = target + ".prepared.onnx"
    quant_pre_process(model, prepared)
    quantize_static(
        prepared,
        target,
        Frames(frames, name),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod[method],
        # QuantizeBias: TensorRT's parser takes no int32 DequantizeLinear.
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
        },
    )
    Path(prepared).unlink()
    result = {
        "seconds": round(time.monotonic() - begin, 2),
        "peak_rss_mb": peak_rss_mb(),
        "imported_mb": imported_mb,
        "version": f"onnxruntime {version('onnxruntime')}",
    }
    sys.stdout.write("\n" + json.dumps(result) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
