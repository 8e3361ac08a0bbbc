"""What calibrating CenterFace at 480x640 costs: the pass of the statistics, and peak memory."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.core.quantization.calibrator_names import CALIBRATORS
from tests.benchmarks.bench_calibration import centerface, child
from tests.benchmarks.quality import peers
from tests.benchmarks.quality.children import quantized, required
from tests.benchmarks.quality.layout import lay_out
from tests.benchmarks.quality.material import MODELS, images

_VIDEO = "bikes.mp4"
_FRAMES = 128
_MOST = 512
_REPEATS = 3  # of the pass, whose ratio a busy machine moves by a tenth


def calibration_pass(report: Callable[[str], None]) -> dict[str, Any]:
    """Return the cost of the pass over FP32 inference of as many frames.

    Args:
        report: Called with a line for each part.
    """
    with tempfile.TemporaryDirectory(prefix="quantd-bench-") as directory:
        model = centerface(directory)

        def measured(kind: str) -> dict[str, float]:
            found = child(kind, model, _VIDEO, _FRAMES)
            report(f"  {kind}, {_FRAMES} frames: {found}")
            return found

        passes = sorted((measured("time") for _ in range(_REPEATS)), key=lambda p: p["ratio"])
        ranges = measured("calibrators")
    each = [ranges[f"{name}_s"] for name in CALIBRATORS]
    four = (ranges["pass_s"] + sum(each)) / (ranges["pass_s"] + min(each))
    return {
        "video": _VIDEO,
        "pass": {"frames": _FRAMES, **passes[_REPEATS // 2]},
        "pass_ratios": [one["ratio"] for one in passes],
        "calibrators": {**ranges, "four_over_one": round(four, 3)},
    }


def memory(report: Callable[[str], None]) -> dict[str, Any]:
    """Return the peak memory of whole quantizations, and of FP32 inference alone, MB of 10^6 bytes.

    Args:
        report: Called with a line for each part.
    """
    (model,) = (one for one in MODELS if one.name == "centerface")
    settings = {
        **model.settings,
        "model.name": model.name,
        "model.path": str(model.locate(None, peers.CACHE)),
    }
    shown = images("street")
    found: dict[str, Any] = {"peak_rss_mb": {}}
    with tempfile.TemporaryDirectory(prefix="quantd-bench-") as directory:
        folder = Path(directory) / "one"
        lay_out(folder, settings, shown[:1], shown[1:2])
        required("steps", "intake", folder)
        plain = required("plain", folder / "model.onnx", folder / "calibration.npz")
        found["runtime_mb"] = plain["peak_rss_mb"]
        for count in (_FRAMES, _MOST):
            folder = Path(directory) / str(count)
            taken = [shown[index % len(shown)] for index in range(count)]
            lay_out(folder, settings, taken, shown[:1])
            (made,) = quantized(folder, "int8-entropy").values()
            report(f"  memory, {count} frames: {made.get('peak_rss_mb')} MB, {made.get('jobs')}")
            if "failed" in made:
                return {**found, "failed": made["failed"]}
            found["peak_rss_mb"][str(count)] = made["peak_rss_mb"]
    return found
