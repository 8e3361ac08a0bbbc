"""int8-mixed on a head of boxes in pixels beside scores: its small heads stay in float, no more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agent.adapters.graphs.quantizer import OnnxQuantizer
from agent.core.fidelity.comparison import Comparison
from agent.core.fidelity.decoding import Decoding
from agent.core.records import Digest, MixedFront, QuantizedModel, Recipe
from agent.core.search.target import Target
from agent.stages.mixed import find_front, write_member
from tests.support.onnx_runs import run
from tests.support.trials import trial_of

MODEL = str(Path(__file__).parents[1] / "fixtures" / "models" / "yolo_head.onnx")
HEADS = {"boxhead", "clshead"}  # 0.8 % of the compute


def pictures(count: int, seed: int) -> list[dict[str, np.ndarray]]:
    """Return noise in 0..1, of which the head makes a hundred boxes."""
    drawn = np.random.default_rng(seed)
    return [{"x": drawn.random((1, 3, 320, 320), np.float32)} for _ in range(count)]


def boxes() -> Comparison:
    return Comparison("detection", None, Decoding(kind="yolo"))


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["U8S8", "S8S8", "S8S8-FP16"])
def test_mixed_finds_the_boxes_with_nearly_all_of_the_compute_in_int8(tmp_path, scheme):
    frames = pictures(8, seed=1)
    histograms = list(OnnxQuantizer(1, scheme).collect(MODEL, frames, 8, lambda *_: None))
    blank = QuantizedModel(
        digest=Digest("q"), model=Digest("m"), statistics=Digest("s"),
        recipe=Recipe(precision="int8-mixed", calibrator="best", scheme=scheme),
    )  # fmt: skip
    trial = trial_of(MODEL, scheme, histograms, frames, weights=str(tmp_path / "w.npz"))
    front = find_front(
        MixedFront(
            digest=Digest("f"), model=Digest("m"), statistics=Digest("s"), members=(),
            calibrator="", steps=(), evaluations=0, layers=(), weighed_by="",
        ),
        Target.of(0, 0.95, has_metric=True), trial, speeds=None, comparison=boxes,
        progress=lambda *_: None,
    )  # fmt: skip
    blank = replace(blank, recipe=replace(blank.recipe, member=len(front.members)))
    found = write_member(blank, front, trial, work=str(tmp_path))
    assert set(found.kept_float) <= HEADS
    assert found.int8_macs_fraction > 0.99
    assert front.members[0].sqnr_db < 45  # of the scores; over all channels 53 dB and more
    judge = boxes()
    for frame in pictures(12, seed=2):
        wanted, seen = run(MODEL, frame)[0], run(str(tmp_path / "model.onnx"), frame)[0]
        judge.add({"y": wanted}, {"y": seen})
    fidelity = judge.result()
    assert fidelity.judged_frames == 12
    assert fidelity.agreement is not None
    assert fidelity.agreement >= 0.95
