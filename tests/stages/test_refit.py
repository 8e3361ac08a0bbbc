"""The refit on real graphs: kept where it helps on other frames, undone and reported elsewhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent.adapters.graphs.quantization_trial import Fold, JudgingFrames, OnnxQuantizationTrial
from agent.adapters.graphs.quantizer import OnnxQuantizer
from agent.core.errors import CalibrationError
from agent.core.fidelity.comparison import Comparison
from agent.core.quantization.division import divide
from agent.core.records import ConditionedModel, Digest
from agent.graphs.calibrated import Calibrated
from agent.graphs.qdq import load_inferred
from agent.graphs.refit_file import load_refit
from agent.stages.refit import refit
from tests.support import quant_graphs
from tests.support.onnx_runs import random_inputs

LAYERS = {"stem", "expand", "depthwise", "project", "head"}
RECORD = ConditionedModel(
    digest=Digest("d"), model=Digest("m"), calibration=Digest("c"), scheme="S8S8",
    tried=("earlier",), weight_steps=(),
)  # fmt: skip


def refitted(path: str, work: Path, *, count: int = 8) -> ConditionedModel:
    """Refit under ranges that clip much, as a calibrator's may."""
    frames = divide([random_inputs(load_inferred(path), seed) for seed in range(count)])
    judging = [JudgingFrames(frames.parts[judged]) for _, judged in frames.folds]

    def open_trial(source: int) -> OnnxQuantizationTrial:
        shown = frames.frames_of(source)
        made_from = Calibrated(
            [
                replace(h, minimum=h.minimum / 3, maximum=h.maximum / 3, clippable=False)
                for h in OnnxQuantizer(1).collect(path, shown, len(shown), lambda *_: None)
            ]
        )
        folds = [Fold(made_from=made_from, judged_on=j) for j in judging[source : source + 1]]
        return OnnxQuantizationTrial(path, "S8S8", made_from, folds, 1)

    return refit(
        RECORD,
        frames,
        work=str(work),
        open_trial=open_trial,
        comparison=lambda: Comparison("generic", None),
        progress=lambda *_: None,
    )


@pytest.mark.parametrize("count", [8, 64])
def test_what_helps_is_kept_and_made_from_all_frames(tmp_path, monkeypatch, count):
    asked = []
    real = OnnxQuantizationTrial.refit

    def counted(self, placement, frames, target, progress):
        asked.append(len(frames))
        return real(self, placement, frames, target, progress)

    monkeypatch.setattr(OnnxQuantizationTrial, "refit", counted)
    found = refitted(quant_graphs.inverted(tmp_path / "m.onnx", spread=1), tmp_path, count=count)
    assert found.weight_steps == ("refit",)
    assert found.tried[0] == "earlier"
    assert found.tried[1].startswith("refit: 5 layers: INT8 from ")
    assert load_refit(str(tmp_path / "refit.npz")).keys() == LAYERS
    assert asked[-1] == count
    assert set(asked[:-1]) == {count // 2 if count == 8 else 48}


def test_what_makes_int8_worse_is_undone(tmp_path, monkeypatch):
    real = OnnxQuantizationTrial.refit

    def spoiled(self, placement, frames, target, progress):
        layers = real(self, placement, frames, target, progress)
        changed = {n: (-weights, bias) for n, (weights, bias) in self._whole.refitted.items()}
        self._whole.refitted = changed
        return layers

    monkeypatch.setattr(OnnxQuantizationTrial, "refit", spoiled)
    found = refitted(quant_graphs.inverted(tmp_path / "m.onnx", spread=1), tmp_path)
    assert found.weight_steps == ()
    assert found.tried[1].endswith(", not kept")
    assert not (tmp_path / "refit.npz").exists()


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_frames_are_reported(tmp_path, count):
    """Each half would be one frame, of which nothing could judge how strong the ridge must be."""
    found = refitted(quant_graphs.inverted(tmp_path / "m.onnx"), tmp_path, count=count)
    assert found.tried[1] == "refit: no layer with enough positions on these frames"
    assert not (tmp_path / "refit.npz").exists()


def test_a_failure_costs_nothing_else(tmp_path, monkeypatch):
    def fail(_self, _placement, _frames, target, _progress):
        Path(target).write_bytes(b"half")
        raise CalibrationError("no frame", code="model_failed")

    monkeypatch.setattr(OnnxQuantizationTrial, "refit", fail)
    found = refitted(quant_graphs.inverted(tmp_path / "m.onnx"), tmp_path)
    assert found.tried[1] == "refit: failed, no frame"
    assert found.weight_steps == ()
    assert not (tmp_path / "refit.npz").exists()
