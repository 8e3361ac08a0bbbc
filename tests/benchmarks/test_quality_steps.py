"""The quality benchmark drives what a run executes, in child processes."""

from __future__ import annotations

import numpy as np
import pytest

from tests.benchmarks.quality import metrics
from tests.benchmarks.quality.children import quantized, required
from tests.benchmarks.quality.layout import lay_out
from tests.support import quant_graphs


@pytest.mark.slow
def test_a_precision_is_made_as_a_run_would_and_judged(tmp_path):
    model = quant_graphs.classifier(tmp_path / "classifier.onnx")
    folder, rng = tmp_path / "work", np.random.default_rng(0)
    images = list(rng.integers(0, 256, (8, 32, 32, 3), np.uint8))
    settings = {
        "model.name": "classifier",
        "model.path": str(model),
        "model.input.width": 32,
        "model.input.height": 32,
        "model.task.kind": "classification",
        "search.calibrators": ["minmax", "entropy"],
    }
    lay_out(folder, settings, images[:4], images[4:])
    required("steps", "intake", folder)
    plain = required("plain", folder / "model.onnx", folder / "calibration.npz")
    assert plain["frames"] == 4
    made = quantized(folder, "int8")
    assert list(made) == ["int8-minmax", "int8-entropy"]
    first, second = ([job["kind"] for job in one["jobs"]] for one in made.values())
    assert {"condition", "statistics", "quantize"} <= set(first)
    assert second == ["quantize"]  # the rest was made for the first
    assert all(job["cpu_s"] > 0 for one in made.values() for job in one["jobs"])
    held = str(folder / "holdout.npz")
    reference = metrics.outputs(str(folder / "model.onnx"), held)
    seen = metrics.outputs(made["int8-minmax"]["graph"], held)
    assert metrics.judged(reference, seen, "top1").figures()["sqnr_db"] > 10
    (refused,) = quantized(folder, "int4").values()
    assert refused["failed"] == "there is no candidate int4"
