"""The QuantizationTrial port: what it says of single places and of whole graphs is what they are."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from agent.adapters.graphs.quantization_trial import Fold, JudgingFrames, OnnxQuantizationTrial
from agent.adapters.graphs.quantizer import OnnxQuantizer
from agent.core.fidelity.comparison import Comparison
from agent.core.quantization.histogram import merge
from agent.core.quantization.mixed_search import (
    REFIT,
    WEIGHT_STEPS,
    Placement,
    best_weight_steps,
)
from agent.graphs.calibrated import Calibrated
from agent.graphs.qdq import load_inferred
from tests.support import quant_graphs
from tests.support.onnx_runs import half_loss_db, random_inputs, run, sqnr_db
from tests.support.trials import flat, trial_of

SCHEMES = ("U8S8", "S8S8", "S8S8-FP16")
LAYERS = ("stem", "expand", "depthwise", "project", "head")


@pytest.fixture(scope="module", params=SCHEMES)
def opened(request, tmp_path_factory):
    """Return a trial of an inverted residual block, its ranges and its frames."""
    tmp_path = tmp_path_factory.mktemp("trial")
    path = quant_graphs.inverted(tmp_path / "m.onnx", spread=3)
    inputs = [random_inputs(load_inferred(path), seed) for seed in range(6)]
    histograms = list(OnnxQuantizer(1).collect(path, inputs, len(inputs), lambda *_: None))
    weights = str(tmp_path / "weights.npz")
    return trial_of(path, request.param, histograms, inputs, weights=weights), histograms, inputs


def total(noises):
    return sum(noise[0] for noise in noises)


def test_every_layer_is_counted_with_its_compute(opened):
    trial, _, _ = opened
    pixels = 16 * 16
    assert {name: macs for name, (_, macs) in trial.layers().items()} == {
        "stem": 64 * pixels, "expand": 192 * pixels, "depthwise": 216 * pixels,
        "project": 192 * pixels, "head": 64 * pixels,
    }  # fmt: skip


def test_noise_of_single_places_adds_up_to_that_of_the_whole(opened):
    trial, _, _ = opened
    weights = total(trial.weight_noise([name]) for name in trial.layers())
    activations = total(trial.activation_noise([name], "minmax") for name in trial.tensors)
    whole = trial.evaluate(Placement(calibrator="minmax"), Comparison("generic"))
    predicted_db = -10 * math.log10(weights + activations)
    assert whole.sqnr_db == pytest.approx(predicted_db, abs=3)


def test_a_wider_range_makes_more_noise(opened, tmp_path):
    trial, histograms, inputs = opened
    wide = [replace(h, minimum=50 * h.minimum, maximum=50 * h.maximum) for h in histograms]
    coarser = trial_of(
        quant_graphs.inverted(tmp_path / "m.onnx", spread=3), str(trial._scheme), wide, inputs
    )
    name = next(iter(trial.tensors))
    fine, coarse = (one.activation_noise([name], "minmax")[0] for one in (trial, coarser))
    assert 0 < fine < coarse


def test_all_in_float_is_exact(opened):
    trial, _, inputs = opened
    placement = Placement(calibrator="minmax", kept=frozenset(LAYERS), steps=WEIGHT_STEPS[2])
    found = trial.evaluate(placement, Comparison("generic")).fidelity
    assert found.sqnr_reason == "identical to the baseline"
    assert found.frames == len(inputs)


def test_chosen_weights_make_less_noise_and_each_layers_are_its_own(opened):
    trial, _, _ = opened
    noise = [trial.weight_noise(LAYERS, steps)[0] for steps in WEIGHT_STEPS]
    assert noise[2] < noise[1] < noise[0]
    assert best_weight_steps(lambda steps: trial.weight_noise(LAYERS, steps)) == WEIGHT_STEPS[2]
    for layer in LAYERS:
        nearest, chosen = (trial.weight_noise([layer], WEIGHT_STEPS[i])[0] for i in (1, 2))
        assert chosen < 1.5 * nearest


@pytest.mark.parametrize("steps", WEIGHT_STEPS)
@pytest.mark.parametrize("kept", [(), ("depthwise",), ("stem", "head")])
def test_what_is_written_is_what_was_tried(opened, tmp_path, kept, steps):
    trial, _, inputs = opened
    placement = Placement(calibrator="minmax", kept=frozenset(kept), steps=steps)
    target = str(tmp_path / "out.onnx")
    share, floating = trial.write(placement, target)
    macs = {name: m for name, (_, m) in trial.layers().items()}
    assert set(floating) == set(kept)
    assert share == pytest.approx(1 - sum(macs[name] for name in kept) / sum(macs.values()))
    onnx.checker.check_model(target, full_check=True)
    tried = trial.evaluate(placement, Comparison("generic"))
    # TensorRT's scheme is judged as it is written, ONNX Runtime's as ONNX Runtime optimizes it
    plain = "S8S8" in str(trial._scheme)
    model = quant_graphs.inverted(tmp_path / "m.onnx", spread=3)
    reference, found = (
        np.concatenate([run(path, frame, plain=plain)[0] for frame in inputs])
        for path in (model, target)
    )
    # beside the integers float16 is written where float32 was tried
    near = 0.5 + half_loss_db() if str(trial._scheme).endswith("FP16") else 0.01
    assert sqnr_db(reference, found) == pytest.approx(tried.sqnr_db, abs=near)


def test_keeping_a_layer_in_float_helps(opened):
    trial, _, _ = opened
    worst = max(LAYERS, key=lambda name: trial.weight_noise([name])[0])
    before, after = (
        trial.evaluate(Placement(calibrator="minmax", kept=kept), Comparison("generic")).sqnr_db
        for kept in (frozenset(), frozenset({worst}))
    )
    assert after > before


def test_correction_is_of_the_mean_of_the_layers_left_in_int8_only(opened, tmp_path):
    trial, _, _ = opened
    plain, corrected = (
        trial.placed(Placement(calibrator="minmax", kept=frozenset({"expand"}), steps=steps))
        for steps in ((), ("bias-correction",))
    )
    biases = [
        {n.name: n.input[2] for n in graph.graph.node if n.op_type == "Conv" and len(n.input) > 2}
        for graph in (plain, corrected)
    ]
    assert biases[0]["expand"] == biases[1]["expand"] == "b1"
    assert biases[0]["project"] != biases[1]["project"]


def test_noise_is_that_of_each_group_of_channels():
    """The boxes of a head, in pixels, do not hide what is lost of the scores beside them."""
    path = str(Path(__file__).parents[1] / "fixtures" / "models" / "yolo_head.onnx")
    frames = [random_inputs(load_inferred(path), seed) for seed in range(2)]
    trial = trial_of(path, "S8S8", map(flat, ["x", "r", "rb", "rd"]), frames)
    assert trial.weight_noise([]) == (0.0, 0.0)
    boxes, scores = trial.weight_noise(["clshead"])
    assert boxes == 0
    assert scores > 1e-5
    boxes, scores = trial.weight_noise(["boxhead"])
    assert boxes > 0
    assert scores == 0


def test_numbers_that_are_none_are_no_fidelity(tmp_path):
    path = quant_graphs.inverted(tmp_path / "m.onnx")
    frames = [{"x": np.full((1, 8, 16, 16), np.nan, np.float32)}]
    trial = trial_of(path, "S8S8", [flat("x")], frames)
    found = trial.evaluate(Placement(calibrator="minmax"), Comparison("generic"))
    assert (found.fidelity, found.sqnr_db) == (None, -math.inf)


def test_a_trial_is_made_from_one_fold_and_judged_on_the_other_and_written_from_all(tmp_path):
    path = quant_graphs.inverted(tmp_path / "m.onnx")
    halves = [
        [random_inputs(load_inferred(path), seed) for seed in seeds] for seeds in ((0, 1), (2, 3))
    ]
    parts = [list(OnnxQuantizer(1).collect(path, half, 2, lambda *_: None)) for half in halves]
    sources = [Calibrated(histograms) for histograms in parts]
    whole = Calibrated([merge(*pair) for pair in zip(*parts, strict=True)])
    folds = [
        Fold(made_from=sources[made], judged_on=JudgingFrames(halves[1 - made])) for made in (0, 1)
    ]
    placement = Placement(calibrator="minmax")
    crossed = OnnxQuantizationTrial(path, "S8S8", whole, folds, 1)
    judge, by_hand = Comparison("generic"), Comparison("generic")
    found = crossed.evaluate(placement, judge)
    for made in (0, 1):
        graph = crossed.placed(placement, sources[made])
        for frame in halves[1 - made]:
            by_hand.add({"y": run(path, frame)[0]}, {"y": run(graph, frame, plain=True)[0]})
    assert found.fidelity.frames == 4
    assert found.sqnr_db == pytest.approx(by_hand.sqnr_db(), abs=0.01)
    target = str(tmp_path / "out.onnx")
    crossed.write(placement, target)
    alone = OnnxQuantizationTrial(path, "S8S8", whole, folds[:1], 1).placed(placement, whole)
    frame = halves[0][0]
    np.testing.assert_array_equal(run(target, frame)[0], run(alone, frame)[0])


def test_a_tensor_without_a_range_in_a_fold_has_that_of_all_frames(tmp_path):
    path = quant_graphs.inverted(tmp_path / "m.onnx")
    frames = [random_inputs(load_inferred(path), seed) for seed in range(2)]
    found = list(OnnxQuantizer(1).collect(path, frames, 2, lambda *_: None))
    dead = replace(found[0], minimum=0.0, maximum=0.0)
    whole, partial = Calibrated(found), Calibrated([dead, *found[1:]])
    fold = Fold(made_from=partial, judged_on=JudgingFrames(frames))
    trial = OnnxQuantizationTrial(path, "S8S8", whole, [fold], 1)
    placement = Placement(calibrator="minmax")
    one, other = trial.placed(placement, partial), trial.placed(placement, whole)
    np.testing.assert_array_equal(run(one, frames[0])[0], run(other, frames[0])[0])


def test_a_refit_serves_later_placements(tmp_path):
    """Of the layers that are in INT8; what stays in float keeps its own weights."""
    path = quant_graphs.inverted(tmp_path / "m.onnx", spread=3)
    inputs = [random_inputs(load_inferred(path), seed) for seed in range(6)]
    histograms = list(OnnxQuantizer(1).collect(path, inputs, len(inputs), lambda *_: None))
    trial = trial_of(path, "S8S8", histograms, inputs)
    placement = Placement(calibrator="minmax", kept=frozenset(["stem"]))
    seen = []
    layers = trial.refit(
        placement, inputs, str(tmp_path / "refit.npz"), lambda *args: seen.append(args)
    )
    assert [name for _, _, name in seen] == ["expand", "depthwise", "project", "head"]
    assert layers == len(seen)
    plain, refitted = (
        trial.evaluate(replace(placement, steps=steps), Comparison("generic", None))
        for steps in ((), (REFIT,))
    )
    assert refitted.sqnr_db > plain.sqnr_db
    kept = replace(placement, kept=frozenset(LAYERS), steps=(REFIT,))
    assert trial.evaluate(kept, Comparison("generic")).fidelity.sqnr_db is None
