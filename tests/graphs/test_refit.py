"""Refitted layers: on INT8's grid, nearer to FP32 on frames that they were not made from."""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx
import pytest

from agent.core.errors import CalibrationError
from agent.graphs.channels import channel_means
from agent.graphs.qdq import load_inferred, quantized_tensors, with_qdq
from agent.graphs.refit import refit, with_layers
from agent.graphs.refit_file import load_refit, save_refit
from agent.graphs.rounding import rounded_weights
from tests.support import quant_graphs
from tests.support.onnx_runs import random_inputs, run, sqnr_db


def spans(clean, scheme, width):
    """Return ranges that clip much."""
    return dict.fromkeys(quantized_tensors(clean, scheme), (-width, width))


@pytest.mark.parametrize("scheme", ["S8S8", "U8S8"])
def test_layers_undo_what_int8_does_to_their_inputs(tmp_path, scheme):
    """Clipped activations lose their size, which the layer behind them can give back."""
    clean = load_inferred(quant_graphs.inverted(tmp_path / "m.onnx", spread=1))
    frames = [random_inputs(clean, seed) for seed in range(8)]
    place = partial(with_qdq, scheme=scheme, ranges=spans(clean, scheme, 1.5))
    found = dict(refit(clean, place(clean), frames, 1))
    assert found.keys() == {"stem", "expand", "depthwise", "project", "head"}
    after = with_layers(clean, found)
    left = rounded_weights(after, scheme)
    for name, (weights, _) in found.items():
        np.testing.assert_allclose(left[name], weights, rtol=1e-5, atol=1e-7)
    others = [random_inputs(clean, seed) for seed in range(8, 14)]
    expected, plain, refitted = (
        np.concatenate([run(model, frame, plain=True)[0] for frame in others])
        for model in (clean, place(clean), place(after))
    )
    assert sqnr_db(expected, refitted) > sqnr_db(expected, plain) + 2


def test_means_of_outputs_are_those_of_fp32(tmp_path):
    clean = load_inferred(quant_graphs.inverted(tmp_path / "m.onnx", spread=1))
    frames = [random_inputs(clean, seed) for seed in range(4)]
    placed = with_qdq(clean, "S8S8", spans(clean, "S8S8", 1.5))
    found = dict(refit(clean, placed, frames, 1))
    again = with_qdq(with_layers(clean, found), "S8S8", spans(clean, "S8S8", 1.5))
    stem = next(n.output[0] for n in clean.graph.node if n.name == "stem")
    again = onnx.shape_inference.infer_shapes(again)
    means = [channel_means(model, [stem], frames, 1)[stem] for model in (clean, again)]
    np.testing.assert_allclose(means[0], means[1], atol=1e-3)


def test_few_positions_for_many_weights_are_not_fitted(tmp_path):
    """The last layer of a classifier has one position per frame."""
    clean = load_inferred(quant_graphs.classifier(tmp_path / "m.onnx"))
    frames = [random_inputs(clean, seed) for seed in range(4)]
    placed = with_qdq(clean, "S8S8", spans(clean, "S8S8", 2))
    gemms = {n.name for n in clean.graph.node if n.op_type == "Gemm"}
    found = dict(refit(clean, placed, frames, 1))
    assert found
    assert gemms
    assert not gemms & found.keys()
    assert not list(refit(clean, placed, frames[:1], 1))


def test_a_gemm_with_enough_frames_is_fitted(tmp_path):
    clean = load_inferred(quant_graphs.classifier(tmp_path / "m.onnx"))
    (gemm,) = [n for n in clean.graph.node if n.op_type == "Gemm"]
    frames = [random_inputs(clean, seed) for seed in range(80)]
    placed = with_qdq(clean, "S8S8", spans(clean, "S8S8", 2))
    found = dict(refit(clean, placed, frames, 1))
    weights = {t.name: tuple(t.dims) for t in clean.graph.initializer}
    assert found[gemm.name][0].shape == weights[gemm.input[1]]


def test_a_file_keeps_what_was_written(tmp_path):
    layers = {"a/b.npy": (np.ones((2, 3), np.float32), np.zeros(2, np.float32))}
    path = tmp_path / "refit.npz"
    save_refit(str(path), layers)
    found = load_refit(str(path))
    assert found.keys() == layers.keys()
    for one, other in zip(found["a/b.npy"], layers["a/b.npy"], strict=True):
        np.testing.assert_array_equal(one, other)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CalibrationError, match=r"refit\.npz"):
        load_refit(str(path))
