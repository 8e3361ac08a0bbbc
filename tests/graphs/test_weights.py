"""INT8 weights by what they do to the outputs of their layers."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from agent.core.errors import CalibrationError
from agent.graphs.channels import channel_means
from agent.graphs.edits import copied
from agent.graphs.moments import LARGEST_ROW, moments
from agent.graphs.qdq import inferred
from agent.graphs.rounding import reweighted, rounded_weights
from agent.graphs.weights import least_error_weights, load_weights, save_weights
from tests.support import quant_graphs
from tests.support.onnx_runs import random_inputs, run


def smooth(model, count=3):
    """Return inputs whose neighbouring pixels are alike, as those of pictures are."""
    frames = []
    for seed in range(count):
        (name, values), *_ = random_inputs(model, seed).items()
        frames.append({name: (2 + values.cumsum(axis=-1) / 4).astype(np.float32)})
    return frames


def conv(path, weight, **attributes):
    """Save one convolution with all its outputs."""
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], "conv", **attributes)],
        "g",
        [helper.make_tensor_value_info("x", 1, [1, 4, 9, 11])],
        [helper.make_tensor_value_info("y", 1, None)],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return inferred(str(path))


@pytest.mark.parametrize(
    ("shape", "attributes"),
    [
        ((6, 4, 3, 3), {"pads": [1, 2, 0, 1], "strides": [2, 1]}),
        ((4, 1, 3, 3), {"group": 4, "dilations": [2, 2]}),
        ((6, 2, 1, 3), {"group": 2}),
    ],
)
def test_moments_tell_what_a_convolution_makes_of_its_input(tmp_path, shape, attributes):
    """sum(w) over the mean of what it meets is the mean output, and alike its square."""
    weight = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    model = conv(tmp_path / "m.onnx", weight, **attributes)
    inputs = random_inputs(model)
    ((_, (mean, second)),) = moments(model, model.graph.node, [inputs], 1)
    groups = attributes.get("group", 1)
    rows = weight.reshape(groups, shape[0] // groups, -1)
    (found,) = run(model, inputs)
    np.testing.assert_allclose(
        np.einsum("gok,gk->go", rows, mean).ravel(), found.mean(axis=(0, 2, 3)), atol=1e-5
    )
    squares = np.einsum("gok,gkl,gol->go", rows, second, rows).ravel()
    np.testing.assert_allclose(squares, np.square(found).mean(axis=(0, 2, 3)), rtol=1e-4)


@pytest.mark.parametrize("make", [quant_graphs.detector, quant_graphs.classifier])
def test_what_is_chosen_is_what_int8_leaves(tmp_path, make):
    """The values lie on INT8's own grid, so that placing Q/DQ takes them as they are."""
    model = inferred(make(tmp_path / "m.onnx"))
    chosen = dict(least_error_weights(model, smooth(model), 1))
    assert set(chosen) == set(rounded_weights(model, "S8S8"))
    left = rounded_weights(reweighted(model, chosen), "S8S8")
    moved = rounded_weights(model, "S8S8")
    for layer, values in chosen.items():
        np.testing.assert_allclose(left[layer], values, rtol=1e-5, atol=1e-7)
    assert any(not np.allclose(moved[layer], chosen[layer]) for layer in chosen)


@pytest.mark.parametrize("layer", ["stem", "block", "up", "head"])
def test_a_layers_output_moves_less(tmp_path, layer):
    model = inferred(quant_graphs.detector(tmp_path / "m.onnx"))
    frames = smooth(model)
    chosen = dict(least_error_weights(model, frames, 1))
    (node,) = [n for n in model.graph.node if n.name == layer]
    trial = copied(model)
    trial.graph.output.append(helper.make_tensor_value_info(node.output[0], 1, None))

    def noise(weights):
        total = 0.0
        for frame in frames:
            before, after = (
                run(m, frame)[-1] for m in (trial, reweighted(trial, {layer: weights}))
            )
            off = after - before  # its mean is for the bias, where the layer has one to change
            total += np.square(off - off.mean(axis=(0, 2, 3), keepdims=True)).sum()
        return total

    assert noise(chosen[layer]) < noise(rounded_weights(model, "S8S8")[layer])


def test_layers_that_are_too_wide_or_without_weights_are_left_to_the_nearest(tmp_path):
    wide = np.ones((1, 4, 25, 25), np.float32)
    assert wide[0].size > LARGEST_ROW
    model = conv(tmp_path / "m.onnx", wide, pads=[12, 12, 12, 12])
    assert not dict(least_error_weights(model, [random_inputs(model)], 1))
    empty = conv(tmp_path / "m.onnx", np.zeros((2, 4, 1, 1), np.float32))
    assert not dict(least_error_weights(empty, [random_inputs(empty)], 1))


def test_frames_that_are_no_numbers_leave_the_nearest(tmp_path):
    model = inferred(quant_graphs.detector(tmp_path / "m.onnx"))
    bad = {"x": np.full((1, 3, 32, 32), np.nan, np.float32)}
    chosen = dict(least_error_weights(model, [bad], 1))
    nearest = rounded_weights(model, "S8S8")
    for layer, values in chosen.items():
        np.testing.assert_allclose(values, nearest[layer], rtol=1e-5, atol=1e-7)


def test_weights_come_back_whatever_the_layers_are_called(tmp_path):
    path = str(tmp_path / "weights.npz")
    weights = {name: np.ones(3, np.float32) for name in ("file", "../up", "a/b", "", "é")}
    save_weights(path, weights)
    assert load_weights(path).keys() == weights.keys()
    for damage in (b"", b"PK\x03\x04rubbish"):
        (tmp_path / "weights.npz").write_bytes(damage)
        with pytest.raises(CalibrationError, match=r"weights\.npz") as caught:
            load_weights(path)
        assert caught.value.code == "damaged"


def test_the_means_of_biases_are_those_of_moments(tmp_path):
    """Bias correction and weights must speak of the same mean, or each undoes the other."""
    model = inferred(quant_graphs.inverted(tmp_path / "m.onnx"))
    inputs = random_inputs(model)
    (layer,) = [n for n in model.graph.node if n.name == "project"]
    ((_, (mean, _)),) = moments(model, [layer], [inputs], 1)
    np.testing.assert_allclose(
        mean[0], channel_means(model, [layer.input[0]], [inputs], 1)[layer.input[0]], rtol=1e-5
    )
