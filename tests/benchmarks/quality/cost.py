"""What calibrating CenterFace at 480x640 costs: time, memory, and how both grow."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from typing import Any

from agent.core.quantization.calibrator_names import CALIBRATORS
from tests.benchmarks.bench_calibration import centerface, child

_VIDEO = "bikes.mp4"
_FRAMES = 128
_GROWTH = (32, 512)
_REPEATS = 3  # of the pass, whose ratio a busy machine moves by a tenth
_BESIDE = "centerface, street"


def measured(
    fidelity: Mapping[str, Any], frames: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Return quantd's cost, and all tools' over FP32 inference of as many frames.

    Args:
        fidelity: The comparison's rows, whose seconds are taken where CenterFace is among them.
        frames: How many frames those rows were calibrated with.
        say: Told what is being measured.
    """
    with tempfile.TemporaryDirectory(prefix="quantd-bench-") as directory:
        model = centerface(directory)

        def told(kind: str, count: int) -> dict[str, float]:
            found = child(kind, model, _VIDEO, count)
            say(f"  {kind}, {count} frames: {found}")
            return found

        few = told("time", frames)
        passes = sorted((told("time", _FRAMES) for _ in range(_REPEATS)), key=lambda p: p["ratio"])
        peaks = {n: told("memory", n)["peak_rss_mb"] for n in sorted({_FRAMES, *_GROWTH})}
        ranges = told("calibrators", _FRAMES)
    each = [ranges[f"{name}_s"] for name in CALIBRATORS]
    return {
        "video": _VIDEO,
        "pass": {"frames": _FRAMES, **passes[_REPEATS // 2]},
        "pass_ratios": [one["ratio"] for one in passes],
        "pass_beside": {"frames": frames, **few},
        "peak_rss_mb": peaks,
        "growth": round(peaks[_GROWTH[1]] / peaks[_GROWTH[0]] - 1, 4),
        "calibrators": {
            **ranges,
            "four_over_one": round(
                (ranges["pass_s"] + sum(each)) / (ranges["pass_s"] + min(each)), 3
            ),
        },
        "whole": [
            {
                "tool": row["tool"],
                "calibrator": row["calibrator"],
                "seconds": row["seconds"],
                "ratio": round(row["seconds"] / few["plain_s"], 1),
                "peak_rss_mb": row["peak_rss_mb"],
            }
            for row in fidelity.get(_BESIDE, {}).get("rows", [])
            if "seconds" in row
        ],
    }
