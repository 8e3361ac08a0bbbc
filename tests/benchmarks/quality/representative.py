"""Whether representative frames pay: calibrating with frames that quantd chose, or with others.

    python -m tests.benchmarks.quality.representative MODEL [FOLDER_OF_MODELS]

prints one JSON object. The scene is made to change: both clips, one after the other, as a camera
that is moved sees them. INT8 is equalized and by one calibrator, without corrected biases, so
that the frames alone make the difference.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx

from agent.adapters.graphs.conditioner import OnnxConditioner
from agent.adapters.graphs.quantization_trial import Fold, JudgingFrames, OnnxQuantizationTrial
from agent.adapters.graphs.quantizer import OnnxQuantizer
from agent.core.frames.selection import choose_frames, frame_features
from agent.core.quantization.mixed_search import Placement
from agent.graphs.calibrated import Calibrated
from tests.benchmarks.quality import metrics, peers
from tests.benchmarks.quality.children import step
from tests.benchmarks.quality.layout import lay_out
from tests.benchmarks.quality.material import MODELS, SCENES, images, spread

FRAMES = (16, 32)
CALIBRATORS = ("minmax", "percentile")
_HELD_OUT = 32
_SEEDS = range(5)
_EQUALIZED_ON = 8  # frames, as in the product


def chosen(signatures: np.ndarray, count: int) -> dict[str, list[int]]:
    """Return the `count` indices that each way of choosing takes, given [frames, features]."""
    ways = {f"quantd, seed {seed}": list(choose_frames(signatures, count, seed)) for seed in _SEEDS}
    for seed in _SEEDS:
        drawn = np.random.default_rng(seed).choice(len(signatures), count, replace=False)
        ways[f"random, seed {seed}"] = sorted(drawn.tolist())
    return ways | {"first": list(range(count))}


def measured(name: str, models: Path | None) -> dict[str, Any]:
    """Return fidelity on the held-out frames for each number of frames and way of choosing."""
    (model,) = (one for one in MODELS if one.name == name)
    everything = [image for scene in SCENES for image in images(scene)]
    held = set(spread(len(everything), _HELD_OUT))
    pool = [image for index, image in enumerate(everything) if index not in held]
    with tempfile.TemporaryDirectory(prefix="quantd-bench-") as directory:
        folder = Path(directory) / "work"
        path = model.locate(models, peers.CACHE)
        settings = {**model.settings, "model.name": model.name, "model.path": str(path)}
        signatures = np.stack([frame_features(image).signature for image in pool])
        ways = {count: chosen(signatures, count) for count in FRAMES}
        used = sorted({i for taken in ways.values() for indices in taken.values() for i in indices})
        lay_out(folder, settings, [pool[i] for i in used], [everything[i] for i in sorted(held)])
        made = step("intake", folder)
        if "failed" in made:
            return made
        clean, judges = str(folder / "model.onnx"), str(folder / "holdout.npz")
        reference = metrics.outputs(clean, judges)
        found: dict[int, dict[str, Any]] = {}
        for count, way in ((count, way) for count, taken in ways.items() for way in taken):
            stored = [used.index(index) for index in ways[count][way]]
            one = {
                calibrator: metrics.judged(
                    reference, metrics.outputs(graph, judges), model.metric
                ).figures()
                for calibrator, graph in _quantized(folder, clean, stored)
            }
            found.setdefault(count, {})[way] = one
            sys.stderr.write(f"  {name}, {count} frames by {way}: {_line(one)}\n")
    return {
        "metric": metrics.METRICS[model.metric].title,
        "pool": len(pool),
        "holdout": _HELD_OUT,
        "ways": found,
        "told": {
            count: {c: _summary(taken, c) for c in CALIBRATORS} for count, taken in found.items()
        },
    }


def _quantized(folder: Path, clean: str, indices: Sequence[int]) -> list[tuple[str, str]]:
    """Return (calibrator, graph) calibrated with these of the stored frames."""
    name = onnx.load(clean).graph.input[0].name
    with np.load(folder / "calibration.npz") as arrays:
        feeds = [{name: arrays[f"{index:04d}"]} for index in indices]
    few = feeds[:: max(len(feeds) // _EQUALIZED_ON, 1)][:_EQUALIZED_ON]
    equal = str(folder / "equalized.onnx")
    model = equal if OnnxConditioner(0).apply("equalization", clean, few, equal) else clean
    found = OnnxQuantizer(0).collect(model, iter(feeds), len(feeds), lambda *_: None)
    source = Calibrated(found)
    fold = Fold(made_from=source, judged_on=JudgingFrames(few))
    trial = OnnxQuantizationTrial(model, "S8S8", source, [fold], 0)
    graphs = []
    for calibrator in CALIBRATORS:
        graph = str(folder / f"{calibrator}.onnx")
        trial.write(Placement(calibrator=calibrator), graph)
        graphs.append((calibrator, graph))
    return graphs


def _summary(ways: dict[str, Any], calibrator: str) -> dict[str, Any]:
    """Return median, lowest and highest of each way, for each figure."""
    told: dict[str, Any] = {}
    for figure in ("sqnr_db", "agreement"):
        for way in ("quantd", "random", "first"):
            values = [
                found[calibrator][figure] for key, found in ways.items() if key.startswith(way)
            ]
            told.setdefault(figure, {})[way] = {
                "median": round(statistics.median(values), 4),
                "lowest": min(values),
                "highest": max(values),
            }
    return told


def _line(found: dict[str, Any]) -> str:
    return ", ".join(f"{c} {f['sqnr_db']:.1f} dB {f['agreement']:.3f}" for c, f in found.items())


def main(arguments: list[str]) -> None:
    """Measure one model."""
    cv2.setNumThreads(1)
    name, *rest = arguments
    found = measured(name, Path(rest[0]) if rest else None)
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
