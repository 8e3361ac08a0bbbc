"""INT8 weights by what they do to the outputs of their layers."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from agent.core.errors import CalibrationError
from agent.core.quantization.division import divide
from agent.core.quantization.weight_rounding import round_weights
from agent.graphs.calibrated import WeightFile, load_weights
from agent.graphs.channels import channel_means
from agent.graphs.edits import copy_of
from agent.graphs.moments import LARGEST_ROW, Moment, moments
from agent.graphs.qdq import load_inferred
from agent.graphs.rounding import rounded_weights, with_weights
from agent.graphs.weights import _error_weights, least_error_weights
from tests.support import quant_graphs
from tests.support.onnx_runs import random_inputs, run


def smooth(model, count=3):
    """Return inputs whose neighbouring pixels are alike, as those of pictures are."""
    frames = []
    for seed in range(count):
        (name, values), *_ = random_inputs(model, seed).items()
        frames.append({name: (2 + values.cumsum(axis=-1) / 4).astype(np.float32)})
    return frames


def chosen_weights(model, frames):
    return {name: found[-1] for name, found in least_error_weights(model, divide(frames), 1)}


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
    return load_inferred(str(path))


@pytest.mark.parametrize(
    ("shape", "attributes"),
    [
        ((6, 4, 3, 3), {"pads": [1, 2, 0, 1], "strides": [2, 1]}),
        ((4, 1, 3, 3), {"group": 4, "dilations": [2, 2]}),
        ((6, 2, 1, 3), {"group": 2}),
    ],
)
def test_moments_predict_the_output_of_a_convolution(tmp_path, shape, attributes):
    """sum(w) over the mean of what it meets is the mean output, and alike its square."""
    weight = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    model = conv(tmp_path / "m.onnx", weight, **attributes)
    inputs = random_inputs(model)
    ((_, (moment,)),) = moments(model, model.graph.node, [[inputs]], 1)
    mean, second = moment.mean(), moment.covariance()
    second = second + mean[:, :, None] * mean[:, None, :]
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
    model = load_inferred(make(tmp_path / "m.onnx"))
    chosen = chosen_weights(model, smooth(model))
    assert set(chosen) == set(rounded_weights(model, "S8S8"))
    left = rounded_weights(with_weights(model, chosen), "S8S8")
    moved = rounded_weights(model, "S8S8")
    for layer, values in chosen.items():
        np.testing.assert_allclose(left[layer], values, rtol=1e-5, atol=1e-7)
    assert any(not np.allclose(moved[layer], chosen[layer]) for layer in chosen)


@pytest.mark.parametrize("layer", ["stem", "block", "up", "head"])
def test_a_layers_output_moves_less(tmp_path, layer):
    model = load_inferred(quant_graphs.detector(tmp_path / "m.onnx"))
    frames = smooth(model)
    chosen = chosen_weights(model, frames)
    (node,) = [n for n in model.graph.node if n.name == layer]
    trial = copy_of(model)
    trial.graph.output.append(helper.make_tensor_value_info(node.output[0], 1, None))

    def noise(weights):
        total = 0.0
        for frame in frames:
            before, after = (
                run(m, frame)[-1] for m in (trial, with_weights(trial, {layer: weights}))
            )
            off = after - before  # its mean is for the bias, where the layer has one to change
            total += np.square(off - off.mean(axis=(0, 2, 3), keepdims=True)).sum()
        return total

    assert noise(chosen[layer]) < noise(rounded_weights(model, "S8S8")[layer])


def test_layers_that_are_too_wide_are_left_to_the_nearest(tmp_path):
    wide = np.ones((1, 4, 25, 25), np.float32)
    assert wide[0].size > LARGEST_ROW
    model = conv(tmp_path / "m.onnx", wide, pads=[12, 12, 12, 12])
    assert not chosen_weights(model, [random_inputs(model)])


def test_a_dead_channel_stays_dead_and_spoils_no_other(tmp_path):
    weight = np.random.default_rng(0).standard_normal((5, 4, 3, 3)).astype(np.float32)
    weight[2] = 0
    model = conv(tmp_path / "m.onnx", weight)
    (found,) = chosen_weights(model, smooth(model)).values()
    assert (found[2] == 0).all()
    assert (np.abs(found[[0, 1, 3, 4]]).max(axis=(1, 2, 3)) > 0).all()


def test_moments_of_many_frames_are_those_of_all_their_pixels(tmp_path):
    """Around a large mean too, where the difference of squares would be rounding."""
    weight = np.ones((2, 4, 1, 1), np.float32)
    model = conv(tmp_path / "m.onnx", weight)
    rng = np.random.default_rng(1)
    frames = [
        {"x": (1000 + 0.1 * rng.standard_normal((1, 4, 9, 11))).astype(np.float32)}
        for _ in range(4)
    ]
    ((_, (moment, others)),) = moments(model, model.graph.node, [frames[:3], frames[3:]], 1)
    moment.merge(others)
    pixels = np.concatenate([f["x"][0].reshape(4, -1) for f in frames], axis=1).astype(np.float64)
    np.testing.assert_allclose(moment.mean()[0], pixels.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(moment.covariance()[0], np.cov(pixels, bias=True), atol=2e-5)


@pytest.mark.parametrize(("layer", "size"), [("up", 16), ("logits", 8)])
def test_moments_of_other_layers_are_of_what_they_multiply(tmp_path, layer, size):
    make = quant_graphs.detector if layer == "up" else quant_graphs.classifier
    model = load_inferred(make(tmp_path / "m.onnx"))
    (node,) = [n for n in model.graph.node if n.name == layer]
    inputs = smooth(model)[0]
    ((_, (moment,)),) = moments(model, [node], [[inputs]], 1)
    trial = copy_of(model)
    trial.graph.output.append(helper.make_tensor_value_info(node.input[0], 1, None))
    met = run(trial, inputs)[-1].reshape(size, -1)
    np.testing.assert_allclose(moment.mean()[0], met.mean(axis=1), rtol=1e-4, atol=1e-5)


def test_few_positions_shrink_moments_towards_their_diagonal(tmp_path):
    """On inputs that were not seen, what is chosen from eight positions is no worse than nearest."""
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((256, 256)) / 16
    worse = 0
    for seed in range(12):
        draw = np.random.default_rng(seed)
        weights = draw.standard_normal((16, 256))
        scales = np.abs(weights).max(axis=1) / 127
        seen, unseen = (
            (mixing @ draw.standard_normal((256, n))).astype(np.float32) for n in (8, 4000)
        )
        moment = Moment(
            seen.mean(axis=1)[None, :, None], np.zeros((1, 256)), np.zeros((1, 256, 256))
        )
        moment.add(seen[None])
        weighting = _error_weights(moment, centered=False)
        (codes,) = round_weights(weights[None], scales[None], weighting)
        errors = [
            np.square((c * scales[:, None] - weights) @ unseen).sum()
            for c in (np.rint(weights / scales[:, None]), codes)
        ]
        worse += errors[1] > errors[0] * 1.02
    assert worse <= 1


def test_weights_of_another_node_are_not_taken_for_ones_own(tmp_path):
    model = onnx.load(quant_graphs.detector(tmp_path / "m.onnx"))
    for node in model.graph.node:  # a name that `set_input` would use for the stem
        if node.name == "block":
            node.input[1] = "stem:rounded"
    for tensor in model.graph.initializer:
        if tensor.name == "w1":
            tensor.name = "stem:rounded"
    model = onnx.shape_inference.infer_shapes(model)
    same = with_weights(model, {"stem": numpy_helper.to_array(model.graph.initializer[0])})
    inputs = random_inputs(model)
    np.testing.assert_array_equal(run(same, inputs)[0], run(model, inputs)[0])


def test_frames_that_are_no_numbers_leave_the_nearest(tmp_path):
    model = load_inferred(quant_graphs.detector(tmp_path / "m.onnx"))
    bad = {"x": np.full((1, 3, 32, 32), np.nan, np.float32)}
    chosen = chosen_weights(model, [bad])
    assert chosen
    nearest = rounded_weights(model, "S8S8")
    for layer, values in chosen.items():
        np.testing.assert_allclose(values, nearest[layer], rtol=1e-5, atol=1e-7)


def test_weights_are_chosen_from_each_half_alone_and_from_all(tmp_path):
    model = load_inferred(quant_graphs.detector(tmp_path / "m.onnx"))
    frames = smooth(model, 4)
    by_source = list(least_error_weights(model, divide(frames), 1))
    alone = [
        chosen_weights(model, part) for part in ([frames[0], frames[2]], [frames[1], frames[3]])
    ]
    assert {name for name, _ in by_source} == alone[0].keys()
    for name, (*halves, whole) in by_source:
        assert len(halves) == 2
        steps = np.abs(whole).max() / 127
        for found, one in zip(halves, alone, strict=True):
            # positions are sampled anew in each run, so that single codes differ
            assert np.mean(np.abs(found - one[name]) < 0.1 * steps) > 0.5
    assert any(not np.array_equal(found[0], found[1]) for _, found in by_source)


def test_weights_come_back_whatever_the_layers_are_called(tmp_path):
    path = str(tmp_path / "weights.npz")
    names = ("file", "../up", "a/b", "", "é")
    with WeightFile(path, sources=2) as file:
        for index, name in enumerate(names):
            file.add(0, name, np.full(3, index, np.float32))
            file.add_mean(1, name, np.full(2, index, np.float32))
    weights, means = load_weights(path, 0)
    assert {name: values.tolist() for name, values in weights.items()} == {
        name: [index] * 3 for index, name in enumerate(names)
    }
    assert not means
    weights, means = load_weights(path)
    assert not weights
    assert list(means) == list(names)
    for damage in (b"", b"PK\x03\x04rubbish"):
        (tmp_path / "weights.npz").write_bytes(damage)
        with pytest.raises(CalibrationError, match=r"weights\.npz") as caught:
            load_weights(path)
        assert caught.value.code == "damaged"


def test_a_file_of_weights_that_failed_is_not_left(tmp_path):
    path = tmp_path / "weights.npz"

    def fail():
        with WeightFile(str(path), sources=1) as file:
            file.add(0, "a", np.ones(3, np.float32))
            raise CalibrationError("no moments", code="model_failed")

    with pytest.raises(CalibrationError):
        fail()
    assert not path.exists()


def test_the_means_of_biases_are_those_of_moments(tmp_path):
    """Bias correction and weights must speak of the same mean, or each undoes the other."""
    model = load_inferred(quant_graphs.inverted(tmp_path / "m.onnx"))
    inputs = random_inputs(model)
    (layer,) = [n for n in model.graph.node if n.name == "project"]
    ((_, (moment,)),) = moments(model, [layer], [[inputs]], 1)
    np.testing.assert_allclose(
        moment.mean()[0],
        channel_means(model, [layer.input[0]], [inputs], 1)[layer.input[0]],
        rtol=1e-5,
    )
