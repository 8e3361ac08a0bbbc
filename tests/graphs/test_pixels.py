"""The picture's own levels as INT8 codes: the same numbers in float, none lost in integers."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from agent.adapters.graphs.conditioner import OnnxConditioner
from agent.adapters.graphs.quantizer import OnnxQuantizer
from agent.core.quantization.mixed_search import Placement
from agent.graphs.pixels import (
    aligned_to_levels,
    find_levels,
    input_convolutions,
    input_levels,
    merge_distinct,
    steps_of,
)
from agent.graphs.qdq import load_inferred
from tests.support.onnx_runs import half_loss_db, run
from tests.support.quant_graphs import weights
from tests.support.trials import trial_of

SIDE = 24
MEAN, STD = (np.array(v, np.float32) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


def pixels(seed=0, low=0, high=256, count=2):
    rng = np.random.default_rng(seed)
    return [rng.integers(low, high, (1, 3, SIDE, SIDE)).astype(np.uint8) for _ in range(count)]


def feeds(shown, scale=1.0, mean=0.0, std=1.0):
    """Return what the model takes: ((pixel * scale) - mean) / std."""
    mean, std = (np.reshape(v, (1, -1, 1, 1)) for v in (mean, std))
    return [{"x": ((p * np.float32(scale) - mean) / std).astype(np.float32)} for p in shown]


INPUTS = {
    "pixels": {},
    "from 0 to 1": {"scale": 1 / 255},
    "from -1 to 1": {"scale": 1 / 127.5, "mean": 1.0},
    "by channel": {"scale": 1 / 255, "mean": MEAN, "std": STD},
}


def stem(path, before=(), constants=(), source="x", shape=(1, 3, SIDE, SIDE), **attributes):
    """Save [nodes] - Conv - Relu - Conv, whose first Conv reads `source`."""
    attributes = {"pads": [1, 0, 2, 1], "strides": [2, 2], **attributes}
    first = weights("w0", 6, 3 // attributes.get("group", 1), 3, 3)
    nodes = [
        *before,
        helper.make_node("Conv", [source, "w0", "b0"], ["c0"], "stem", **attributes),
        helper.make_node("Relu", ["c0"], ["r0"], "relu"),
        helper.make_node("Conv", ["r0", "w1"], ["y"], "next", pads=[1, 1, 1, 1]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [first, weights("b0", 6), weights("w1", 4, 6, 3, 3, seed=1), *constants],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path
    )
    return str(path)


def moved(path, frames):
    model = load_inferred(path)
    made, places = aligned_to_levels(model, input_levels(model, frames, 1))
    onnx.checker.check_model(made, full_check=True)
    assert places == 1
    return made


def assert_same_in_float(path, made, inputs):
    for expected, found in zip(run(path, inputs), run(made, inputs), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("given", INPUTS)
@pytest.mark.parametrize("attributes", [{}, {"pads": [0, 0, 0, 0]}, {"group": 3}])
def test_float_stays_and_every_pixel_is_a_code(tmp_path, given, attributes):
    path = stem(tmp_path / "m.onnx", **attributes)
    made = moved(path, feeds(pixels(), **INPUTS[given]))
    (shown,) = pixels(seed=9, count=1)
    (inputs,) = feeds([shown], **INPUTS[given])
    assert_same_in_float(path, made, inputs)
    ((tensor, step),) = steps_of(inferred_of(made, tmp_path)).items()
    codes = seen(made, tensor, inputs) / step
    top, left, bottom, right = attributes.get("pads", [1, 0, 2, 1])
    inner = codes[:, :, top : codes.shape[2] - bottom, left : codes.shape[3] - right]
    np.testing.assert_allclose(inner, shown.astype(np.float32) - 128, atol=0.01)


def test_frames_need_not_show_every_level(tmp_path):
    path = stem(tmp_path / "m.onnx")
    made = moved(path, feeds(pixels(low=20, high=200), scale=1 / 255))
    ((tensor, step),) = steps_of(made).items()
    for shown in pixels(seed=3, low=0, high=228):
        (inputs,) = feeds([shown], scale=1 / 255)
        assert_same_in_float(path, made, inputs)
        codes = seen(made, tensor, inputs) / step
        np.testing.assert_allclose(codes, np.rint(codes), atol=0.01)
        assert codes.min() >= -128
        assert codes.max() <= 127


def test_levels_beyond_those_seen_can_be_given(tmp_path):
    path, target = stem(tmp_path / "m.onnx"), str(tmp_path / "made.onnx")
    black, white = (np.full((1, 3, SIDE, SIDE), value, np.uint8) for value in (0, 255))
    conditioner = OnnxConditioner(1, feeds(pixels(seed=8, count=1))[0])
    assert conditioner.apply("pixels", path, feeds(pixels(low=20, high=40)), target) == 1
    ((tensor, _),) = steps_of(load_inferred(target)).items()
    for shown, code in ((black, -128), (white, 127)):
        found = seen(onnx.load(target), tensor, feeds([shown])[0])
        assert (found[:, :, 1:-2, :-1] == code).all()


@pytest.mark.parametrize("scheme", ["S8S8", "S8S8-FP16"])
@pytest.mark.parametrize("calibrator", ["minmax", "entropy", "percentile", "mse"])
def test_int8_loses_nothing_whatever_calibrates(tmp_path, scheme, calibrator):
    path, frames = stem(tmp_path / "m.onnx"), feeds(pixels(low=30, high=220))
    before, after = (
        noise(model, scheme, calibrator, frames)
        for model in (path, saved(moved(path, frames), tmp_path))
    )
    assert before > 1e-6
    assert after < 1e-12


def test_the_written_graph_contains_the_codes(tmp_path):
    """Through float16 too, which lies between the picture and its integers under TensorRT."""
    path, frames = stem(tmp_path / "m.onnx"), feeds(pixels(), **INPUTS["by channel"])
    model = saved(moved(path, frames), tmp_path)
    trial = trial_of(model, "S8S8-FP16", histograms_of(model, frames), frames)
    target = str(tmp_path / "q.onnx")
    trial.write(Placement(calibrator="entropy"), target)
    written = onnx.load(target)
    (tensor,) = steps_of(load_inferred(model))
    (codes,) = [
        n.output[0] for n in written.graph.node
        if n.op_type == "QuantizeLinear" and tensor in n.name
    ]  # fmt: skip
    (shown,) = pixels(seed=5, count=1)
    found = seen(written, codes, feeds([shown], **INPUTS["by channel"])[0], TensorProto.INT8)
    off = np.abs(found[:, :, 1:-2, :-1] - (shown.astype(int) - 128))
    assert off.max() <= (1 if half_loss_db() else 0)  # one that cuts off may miss a code


def test_what_a_graph_does_to_its_input_first_counts(tmp_path):
    """Bytes in rows of pixels, normalized inside."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], "turn", perm=[0, 3, 1, 2]),
        helper.make_node("Sub", ["t", "mean"], ["s"], "less"),
        helper.make_node("Div", ["s", "std"], ["n"], "over"),
    ]
    constants = [
        numpy_helper.from_array((255 * v).reshape(1, 3, 1, 1), name)
        for v, name in ((MEAN, "mean"), (STD, "std"))
    ]
    path = stem(tmp_path / "m.onnx", nodes, constants, "n", (1, SIDE, SIDE, 3))
    frames = [{"x": p.transpose(0, 2, 3, 1).astype(np.float32)} for p in pixels()]
    made = moved(path, frames)
    assert_same_in_float(path, made, frames[0])
    assert list(steps_of(made).values()) == [1.0]


def test_names_that_a_graph_has_already_are_not_taken(tmp_path):
    constants = [numpy_helper.from_array(np.float32(1), name) for name in ("stem:pad", "one")]
    before = [
        helper.make_node("Mul", ["x", "stem:pad"], ["stem:sub"], "first"),
        helper.make_node("Mul", ["stem:sub", "one"], ["n"], "second"),
    ]
    path, target = stem(tmp_path / "m.onnx", before, constants, "n"), str(tmp_path / "made.onnx")
    frames = feeds(pixels())
    assert OnnxConditioner(1).apply("pixels", path, frames, target) == 1
    assert_same_in_float(path, load_inferred(target), frames[0])


def test_what_comes_behind_the_first_layers_does_not_have_to_bear_the_frame(tmp_path):
    """Where nothing is found, detectors may take the first of what they found."""
    model = onnx.load(stem(tmp_path / "m.onnx"))
    model.graph.initializer.append(numpy_helper.from_array(np.float32(1e9), "many"))
    model.graph.initializer.append(numpy_helper.from_array(np.array([0]), "one"))
    model.graph.node.extend(
        [
            helper.make_node("Greater", ["y", "many"], ["g"], "over"),
            helper.make_node("NonZero", ["g"], ["places"], "places"),
            helper.make_node("Gather", ["places", "one"], ["best"], "best", axis=1),
        ]
    )
    model.graph.output.append(helper.make_tensor_value_info("best", TensorProto.INT64, None))
    onnx.save(model, tmp_path / "m.onnx")
    target = str(tmp_path / "made.onnx")
    assert (
        OnnxConditioner(1).apply("pixels", str(tmp_path / "m.onnx"), feeds(pixels()), target) == 1
    )


def test_what_only_smooth_frames_have_is_no_level(tmp_path):
    """Differences of neighbours lie in -255..255, which a few frames need not show."""
    ends = [("a", 1), ("b", SIDE), ("c", 0), ("d", SIDE - 1), ("axis", 3)]
    constants = [numpy_helper.from_array(np.array([value]), name) for name, value in ends]
    before = [
        helper.make_node("Slice", ["x", "a", "b", "axis"], ["right"], "right"),
        helper.make_node("Slice", ["x", "c", "d", "axis"], ["left"], "left"),
        helper.make_node("Sub", ["right", "left"], ["n"], "less"),
    ]
    path, target = stem(tmp_path / "m.onnx", before, constants, "n"), str(tmp_path / "made.onnx")
    smooth, (noise,) = feeds(pixels(low=100, high=150)), feeds(pixels(count=1))
    assert OnnxConditioner(1).apply("pixels", path, smooth, target) == 1
    assert OnnxConditioner(1, noise).apply("pixels", path, smooth, target) == 0


@pytest.mark.parametrize(
    "frames",
    [
        [{"x": np.random.default_rng(0).random((1, 3, SIDE, SIDE), np.float32)}],
        feeds(pixels(low=100, high=150)),
        feeds([np.full((1, 3, SIDE, SIDE), 7, np.uint8)]),
        [{"x": np.full((1, 3, SIDE, SIDE), np.nan, np.float32)}],
    ],
    ids=["no levels", "few levels", "one level", "no numbers"],
)
def test_other_inputs_are_left_alone(tmp_path, frames):
    path, target = stem(tmp_path / "m.onnx"), tmp_path / "made.onnx"
    assert OnnxConditioner(1).apply("pixels", path, frames, str(target)) == 0
    assert not target.exists()


def test_only_the_first_layers_read_the_picture(tmp_path):
    assert [n.name for n in input_convolutions(load_inferred(stem(tmp_path / "m.onnx")))] == [
        "stem"
    ]
    grown = onnx.load(tmp_path / "m.onnx")
    grown.graph.node[0].attribute.append(helper.make_attribute("auto_pad", "SAME_UPPER"))
    assert not input_convolutions(grown)


@given(
    first=st.integers(-1000, 1000),
    count=st.integers(64, 256),
    step=st.floats(1e-4, 1e3),
    drop=st.sets(st.integers(1, 254), max_size=20),
    zero=st.booleans(),
)
def test_levels_are_found_wherever_they_lie(first, count, step, drop, zero):
    index = first + np.array([k for k in range(count) if k not in drop or k == count - 1])
    if len(index) < 64:
        index = first + np.arange(count)
    values = (index * np.float64(step)).astype(np.float32)
    found = find_levels(of(values[::2], values[1::2]), zero=zero)
    low, high = (min(first, 0), max(index[-1], 0)) if zero else (first, index[-1])
    if high - low > 255:
        assert found is None
        return
    assert found is not None
    assert found.step == pytest.approx(step, rel=1e-3)
    codes = (values.astype(np.float64) - found.middle) / found.step
    np.testing.assert_allclose(codes, np.rint(codes), atol=0.05)
    assert codes.min() > -128.1
    assert codes.max() < 127.1
    assert not zero or -128.1 < -found.middle / found.step < 127.1


def test_uneven_or_many_levels_are_none():
    even = np.arange(256.0)
    assert find_levels(of(even), zero=True)
    assert find_levels(of(np.append(even, 256)), zero=False) is None
    assert find_levels(of(np.append(even[:-1], 254.5)), zero=False) is None
    assert find_levels(of(even + 200), zero=True) is None  # no code would be left for zero


@given(seed=st.integers(0, 1000))
def test_what_float_arithmetic_does_to_levels_does_not_hide_them(seed):
    """One level may come as two values, as of sums whose order varies."""
    rng = np.random.default_rng(seed)
    shown = [np.arange(256) + rng.uniform(-0.005, 0.005, 256) for _ in range(3)]
    found = find_levels(of(*shown), zero=True)
    assert found is not None
    assert found.step == pytest.approx(1, rel=1e-3)


def of(*shown):
    seen = np.empty(0)
    for values in shown:
        seen = merge_distinct(seen, values)
    return seen


def saved(model, folder):
    onnx.save(model, folder / "moved.onnx")
    return str(folder / "moved.onnx")


def inferred_of(model, folder):
    return load_inferred(saved(model, folder))


def histograms_of(model, frames):
    return list(OnnxQuantizer(1, "S8S8").collect(model, frames, 0, lambda *_: None))


def noise(model, scheme, calibrator, frames):
    """Return the noise at the outputs of what the stem reads alone in INT8."""
    trial = trial_of(model, scheme, histograms_of(model, frames), frames)
    (read,) = [name for name, held in trial.tensors.items() if held == {"stem"}]
    return max(trial.activation_noise([read], calibrator))


def seen(model, tensor, inputs, kind=TensorProto.FLOAT):
    trial = onnx.ModelProto()
    trial.CopyFrom(model)
    trial.graph.output.append(helper.make_tensor_value_info(tensor, kind, None))
    return run(trial, inputs)[-1]
