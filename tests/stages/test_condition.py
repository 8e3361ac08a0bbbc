"""Conditioning on real graphs: kept where INT8 gains, undone where it doesn't, reported either way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from agent.adapters.graphs.conditioner import OnnxConditioner
from agent.adapters.graphs.quantization_trial import Fold, JudgingFrames, OnnxQuantizationTrial
from agent.adapters.graphs.quantizer import OnnxQuantizer
from agent.core.errors import CalibrationError, QuantizeError
from agent.core.fidelity.agreement import UserMetric
from agent.core.fidelity.comparison import Comparison
from agent.core.quantization.division import divide
from agent.core.quantization.histogram import TensorHistogram
from agent.core.quantization.mixed_search import WEIGHT_STEPS
from agent.core.records import ConditionedModel, Digest
from agent.graphs.calibrated import Calibrated, input_means, load_weights
from agent.graphs.qdq import load_inferred
from agent.stages.condition import condition
from tests.support import quant_graphs
from tests.support.onnx_runs import random_inputs, run


def conditioned(
    path: str, work: Path, scheme: str = "S8S8", *, metric: UserMetric | None = None, few: int = 4
) -> ConditionedModel:
    work.mkdir()
    frames = divide([random_inputs(load_inferred(path), seed) for seed in range(2 * few)])
    judging = [JudgingFrames(frames.parts[judged]) for _, judged in frames.folds]

    def open_trial(
        model: str, fold: int, histograms: Sequence[TensorHistogram] | None, weights: str
    ) -> OnnxQuantizationTrial:
        made_from = frames.parts[frames.folds[fold][0]]
        if weights:
            source = Calibrated(histograms, *load_weights(weights, fold))
        else:
            source = Calibrated(histograms, means=input_means(load_inferred(model), made_from, 1))
        folds = [Fold(made_from=source, judged_on=judging[fold])]
        return OnnxQuantizationTrial(model, scheme, source, folds, 1, reference=path)

    return condition(
        ConditionedModel(
            digest=Digest("d"), model=Digest("m"), calibration=Digest("c"), scheme=scheme
        ),
        path,
        frames,
        (*frames.parts[0], *frames.parts[1]),
        work=str(work),
        quantizer=OnnxQuantizer(1),
        conditioner=OnnxConditioner(1),
        open_trial=open_trial,
        comparison=lambda: Comparison("generic", metric),
        progress=lambda *_: None,
    )


@pytest.mark.parametrize("scheme", ["S8S8", "U8S8"])
def test_uneven_channels_are_evened(tmp_path, scheme):
    path = quant_graphs.inverted(tmp_path / "m.onnx")
    found = conditioned(path, tmp_path / "work", scheme)
    assert found.steps == (("equalization", "centering") if scheme == "S8S8" else ("equalization",))
    assert "at 3 places" in found.tried[0]
    made = str(tmp_path / "work" / "model.onnx")
    assert Path(made).read_bytes() != Path(path).read_bytes()
    inputs = random_inputs(load_inferred(path), 9)
    expected, computed = (run(model, inputs, plain=True)[0] for model in (path, made))
    np.testing.assert_allclose(computed, expected, rtol=1e-4, atol=1e-5)
    weights, means = load_weights(str(tmp_path / "work" / "weights.npz"))
    assert len(weights) == 5
    assert means
    assert found.weight_steps in WEIGHT_STEPS
    assert found.tried[-1] == "weight-rounding: weights of 5 of 5 layers chosen by it"


def test_a_step_that_changes_what_the_model_computes_is_not_kept(tmp_path, monkeypatch):
    """However easy its graph is to quantize: it is held against the clean model."""
    path = quant_graphs.inverted(tmp_path / "m.onnx", spread=8)
    other = onnx.load(quant_graphs.inverted(tmp_path / "other.onnx", spread=0))
    (last,) = [t for t in other.graph.initializer if t.name == "w4"]
    last.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(last), "w4"))

    def apply(_self, _step, _model, _frames, target):
        onnx.save(other, target)
        return 1

    monkeypatch.setattr(OnnxConditioner, "apply", apply)
    assert conditioned(path, tmp_path / "work").steps == ()


def test_a_step_that_fails_is_reported_and_costs_nothing_else(tmp_path, monkeypatch):
    path = quant_graphs.inverted(tmp_path / "m.onnx")
    real = OnnxConditioner.apply

    def apply(self, step, model, frames, target):
        if step != "equalization":
            return real(self, step, model, frames, target)
        raise QuantizeError("no graph", code="not_placed")

    monkeypatch.setattr(OnnxConditioner, "apply", apply)
    found = conditioned(path, tmp_path / "work")
    assert "failed, no graph" in found.tried[0]
    assert found.steps == ("centering",)


def test_weights_that_can_not_be_chosen_are_reported_and_cost_nothing_else(tmp_path, monkeypatch):
    def choose_weights(*_):
        raise CalibrationError("no moments", code="model_failed")

    monkeypatch.setattr(OnnxConditioner, "choose_weights", choose_weights)
    path = quant_graphs.inverted(tmp_path / "m.onnx")
    found = conditioned(path, tmp_path / "work")
    assert found.steps == ("equalization", "centering")
    assert found.tried[-1] == "weight-rounding: failed, no moments"


def test_a_step_that_loses_is_undone_and_reported(tmp_path, monkeypatch):
    path = quant_graphs.inverted(tmp_path / "m.onnx", spread=2)
    worse = quant_graphs.inverted(tmp_path / "worse.onnx", spread=14)

    def apply(_self, _step, _model, _frames, target):
        Path(target).write_bytes(Path(worse).read_bytes())
        return 2

    monkeypatch.setattr(OnnxConditioner, "apply", apply)
    found = conditioned(path, tmp_path / "work")
    assert found.steps == ()
    assert len(found.tried) == 5
    assert all(one.endswith("not kept") for one in found.tried[:-1])
    assert (tmp_path / "work" / "model.onnx").read_bytes() == Path(path).read_bytes()
    assert sorted(p.name for p in (tmp_path / "work").iterdir()) == ["model.onnx", "weights.npz"]


def test_the_metric_of_the_task_decides_on_a_step(tmp_path, monkeypatch):
    """One that prefers what SQNR does not; on 4 frames it could be luck, and SQNR decides."""
    path = quant_graphs.inverted(tmp_path / "m.onnx", spread=2)
    worse = quant_graphs.inverted(tmp_path / "worse.onnx", spread=14)

    def apply(_self, step, _model, _frames, target):
        Path(target).write_bytes(Path(worse).read_bytes())
        return 2 if step == "equalization" else 0

    def loss(expected, seen):
        noise = np.square(expected["y"] - seen["y"]).sum() / np.square(expected["y"]).sum()
        return float(min(noise, 1.0))

    monkeypatch.setattr(OnnxConditioner, "apply", apply)
    sure = conditioned(path, tmp_path / "sure", metric=loss, few=6)
    assert sure.steps == ("equalization",)
    assert "and agreement" in sure.tried[0]
    assert conditioned(path, tmp_path / "unsure", metric=loss, few=2).steps == ()
    assert conditioned(path, tmp_path / "generic", few=6).steps == ()


def test_a_model_without_a_place_is_taken_as_it_is(tmp_path):
    path = quant_graphs.elementwise(tmp_path / "m.onnx")
    found = conditioned(path, tmp_path / "work")
    assert [one.partition(":")[0] for one in found.tried] == [
        "equalization", "smoothing", "centering", "pixels", "weight-rounding",
    ]  # fmt: skip
    assert all(one.endswith("no place where it would be exact") for one in found.tried[:-1])
    assert found.tried[-1].endswith("weights of 0 of 0 layers chosen by it")
    assert (tmp_path / "work" / "model.onnx").read_bytes() == Path(path).read_bytes()
