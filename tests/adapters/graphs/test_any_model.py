"""Kinds of graphs that people bring: one tensor's trouble costs that tensor, not the precision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from agent.adapters.graphs.conditioner import OnnxConditioner
from agent.adapters.graphs.quantizer import OnnxQuantizer
from agent.core.errors import ModelError, QuantizeError
from agent.core.frames.input_spec import InputSpec
from agent.graphs.batches import with_batch
from agent.graphs.integers import integer_operators
from tests.support import quant_graphs, quantized_files
from tests.support.onnx_runs import run, sqnr_db
from tests.support.precisions import SCHEMES, cleaned, conditioned, frames_of, half, int8
from tests.support.quantized_files import KINDS

FLOAT = TensorProto.FLOAT
SIDE = 32
WEIGHTS = {"w1": (16, 3, 3, 3), "w2": (8, 16, 1, 1)}


def model_of(nodes, constants, outputs, *, opset=17, batch=1, element=FLOAT):
    """Return a model of an image `x`; constants by name, weights as shapes."""
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", element, [batch, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info(name, element, shape) for name, shape in outputs.items()],
        [
            quant_graphs.weights(name, *values)
            if isinstance(values, tuple)
            else numpy_helper.from_array(values, name)
            for name, values in constants.items()
        ],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def group_norm() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], "c1", pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("GroupNormalization", ["a", "g", "b"], ["n"], "norm", num_groups=4),
        helper.make_node("Relu", ["n"], ["r"], "relu"),
        helper.make_node("Conv", ["r", "w2"], ["y"], "c2", pads=[1, 1, 1, 1]),
    ]
    constants = {
        "w1": (16, 3, 3, 3), "w2": (8, 16, 3, 3), "g": np.linspace(0.5, 2, 16).astype(np.float32),
        "b": np.linspace(-1, 1, 16).astype(np.float32),
    }  # fmt: skip
    return model_of(nodes, constants, {"y": [1, 8, 16, 16]}, opset=21)


def test_a_shape_that_inference_does_not_find_is_taken_from_a_run(tmp_path):
    record, path = cleaned(group_norm(), tmp_path)
    assert record.macs == 16 * 16 * (16 * 27 + 8 * 144)
    assert any("from a run" in change for change in record.changes)
    inputs = frames_of(path, 1)[0]
    (reference,) = run(str(tmp_path / "raw.onnx"), inputs)
    assert sqnr_db(reference, run(path, inputs)[0]) > 100
    assert sqnr_db(reference, run(half(path, tmp_path), inputs)[0]) > 40
    for scheme in SCHEMES:
        conditioned(path, tmp_path, scheme)
        target, share, kept = int8(path, tmp_path, scheme)
        assert (share, kept) == (1.0, ())
        assert sqnr_db(reference, run(target, inputs)[0]) > 20


def preprocessed_in_a_loop() -> onnx.ModelProto:
    """Return convolutions behind a Loop over the pictures, as TensorFlow's detectors have it."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["next"], "next"),
            helper.make_node("Gather", ["x", "index"], ["one"], "one"),
            helper.make_node("Mul", ["one", "two"], ["picture"], "prepare"),
        ],
        "body",
        [
            helper.make_tensor_value_info("index", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        ],
        [
            helper.make_tensor_value_info("next", TensorProto.BOOL, []),
            helper.make_tensor_value_info("picture", FLOAT, [3, SIDE, SIDE]),
        ],
    )
    nodes = [
        helper.make_node("Loop", ["count", "yes"], ["pictures"], "loop", body=body),
        helper.make_node("Conv", ["pictures", "w1"], ["a"], "c1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["r"], "relu"),
        helper.make_node("Conv", ["r", "w2"], ["y"], "c2"),
    ]
    constants = WEIGHTS | {"count": np.int64(1), "yes": np.bool_(1), "two": np.float32(2)}
    return model_of(nodes, constants, {"y": [1, 8, SIDE, SIDE]})


def test_layers_behind_a_loop_over_the_pictures_are_quantized(tmp_path):
    record, path = cleaned(preprocessed_in_a_loop(), tmp_path)
    assert record.macs == SIDE * SIDE * (16 * 27 + 8 * 16)
    assert_every_precision(tmp_path, path)


def flat_attention() -> onnx.ModelProto:
    """Return attention over a thousand nearly equal places: each share is about a thousandth."""
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], "c1", pads=[1, 1, 1, 1]),
        helper.make_node("Reshape", ["a", "flat"], ["rows"], "rows"),
        helper.make_node("Transpose", ["rows"], ["places"], "places", perm=[0, 2, 1]),
        helper.make_node("Mul", ["places", "little"], ["asked"], "asked"),
        helper.make_node("MatMul", ["asked", "rows"], ["alike"], "alike"),
        helper.make_node("Softmax", ["alike"], ["shares"], "shares", axis=-1),
        helper.make_node("MatMul", ["shares", "places"], ["y"], "y"),
    ]
    constants = {
        "w1": WEIGHTS["w1"], "flat": np.int64([1, 16, SIDE * SIDE]), "little": np.float32(0.01),
    }  # fmt: skip
    return model_of(nodes, constants, {"y": [1, SIDE * SIDE, 16]})


@pytest.mark.parametrize("scheme", SCHEMES)
def test_attention_over_many_places_is_not_rounded_to_nothing(scheme, tmp_path):
    _, path = cleaned(flat_attention(), tmp_path)
    target, share, _ = int8(path, tmp_path, scheme)
    assert share == 1.0
    inputs = frames_of(path, 1)[0]
    assert sqnr_db(run(path, inputs)[0], run(target, inputs, plain=True)[0]) > 20


def two_stage() -> onnx.ModelProto:
    """Return a detector with a second stage that works on as many rows as the first one finds."""
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], "c1", pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["r"], "relu"),
        helper.make_node("Conv", ["r", "w2"], ["heat"], "c2"),
        helper.make_node("Greater", ["heat", "limit"], ["over"], "over"),
        helper.make_node("NonZero", ["over"], ["found"], "found"),
        helper.make_node("Transpose", ["found"], ["places"], "places"),
        helper.make_node("GatherND", ["heat", "places"], ["values"], "values"),
        helper.make_node("Unsqueeze", ["values", "last"], ["column"], "column"),
        helper.make_node("Gemm", ["column", "w3", "b3"], ["rows"], "second"),
    ]
    constants = {
        "w1": (16, 3, 3, 3), "w2": (8, 16, 1, 1), "limit": np.float32(1.5), "w3": (1, 5),
        "b3": (5,), "last": np.int64([1]),
    }  # fmt: skip
    return model_of(nodes, constants, {"heat": [1, 8, 16, 16], "rows": ["n", 5]})


def test_a_second_stage_of_varying_rows_stays_in_float(tmp_path):
    record, path = cleaned(two_stage(), tmp_path)
    assert record.macs == 16 * 16 * (16 * 27 + 8 * 16)
    assert any("second" in change for change in record.changes)
    inputs = frames_of(path, 1)[0]
    reference = run(str(tmp_path / "raw.onnx"), inputs)
    assert len(reference[1])
    empty = {"x": np.zeros((1, 3, SIDE, SIDE), np.float32)}
    for target in (path, half(path, tmp_path)):
        assert sqnr_db(reference[0], run(target, inputs)[0]) > 40
        assert run(target, empty)[1].shape == (0, 5)
    for scheme in SCHEMES:
        conditioned(path, tmp_path, scheme)
        target, share, kept = int8(path, tmp_path, scheme)
        assert (share, kept) == (1.0, ("second",))
        assert sqnr_db(reference[0], run(target, inputs)[0]) > 20
        assert run(target, empty)[1].shape == (0, 5)


def half_precision() -> onnx.ModelProto:
    """Return convolutions in float16, with a type in an attribute and an output that is read."""
    nodes = [
        helper.make_node("Cast", ["x"], ["again"], "cast", to=TensorProto.FLOAT16),
        helper.make_node("Conv", ["again", "w1", "b1"], ["a"], "c1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["r"], "relu"),
        helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(np.float16(0.5))),
        helper.make_node("Mul", ["r", "k"], ["m"], "scale"),
        helper.make_node("Conv", ["m", "w2"], ["y"], "c2", pads=[1, 1, 1, 1]),
    ]
    constants = {
        name: numpy_helper.to_array(quant_graphs.weights(name, *shape)).astype(np.float16)
        for name, shape in {"w1": (16, 3, 3, 3), "b1": (16,), "w2": (8, 16, 3, 3)}.items()
    }
    outputs = {"y": [1, 8, SIDE, SIDE], "r": [1, 16, SIDE, SIDE]}
    return model_of(nodes, constants, outputs, element=TensorProto.FLOAT16)


def test_a_half_precision_file_becomes_float32_with_its_own_weights(tmp_path):
    raw = half_precision()
    record, path = cleaned(raw, tmp_path, InputSpec(width=0, height=0, dtype="float16"))
    assert [(t.name, t.dtype) for t in (*record.inputs, *record.outputs)] == [
        ("x", "float16"), ("y", "float16"), ("r", "float16")
    ]  # fmt: skip
    clean = onnx.load(path)
    given = {t.name: numpy_helper.to_array(t) for t in raw.graph.initializer}
    kept = {t.name: numpy_helper.to_array(t) for t in clean.graph.initializer}
    for name in ("w1", "b1"):
        assert kept[name].dtype == np.float32
        np.testing.assert_array_equal(kept[name], given[name].astype(np.float32))
    assert sum(node.op_type == "Cast" for node in clean.graph.node) == 3  # at the ends only
    frames = frames_of(path)
    reference = run(str(tmp_path / "raw.onnx"), frames[0])
    for expected, found in zip(reference, run(path, frames[0]), strict=True):
        assert sqnr_db(expected, found) > 55
    for scheme in SCHEMES:
        target, share, kept_float = int8(path, tmp_path, scheme, frames)
        assert (share, kept_float) == (1.0, ())
        assert sqnr_db(reference[0], run(target, frames[0])[0]) > 25
    target = half(path, tmp_path, frames)
    assert sqnr_db(reference[0], run(target, frames[0])[0]) > 40


def head(*sides: int, batch: int, constant: bool = False) -> onnx.ModelProto:
    """Return a model of a fixed batch with a Reshape to fixed sides, as YOLO exports have it."""
    shape = numpy_helper.from_array(np.int64(sides), "sides")
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], "c1", pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["r"], "relu"),
        helper.make_node("Conv", ["r", "w2"], ["h"], "c2"),
        helper.make_node("Reshape", ["h", "sides"], ["s"], "rows"),
        helper.make_node("Sigmoid", ["s"], ["y"], "scores"),
    ]
    constants = {"w1": (16, 3, 3, 3), "w2": (8, 16, 1, 1)}
    model = model_of(nodes, constants, {"y": None}, batch=batch)
    if constant:
        model.graph.node.insert(0, helper.make_node("Constant", [], ["sides"], value=shape))
    else:
        model.graph.initializer.append(shape)
    return onnx.shape_inference.infer_shapes(model)


@pytest.mark.parametrize("constant", [False, True])
def test_a_fixed_batch_becomes_1_if_each_picture_keeps_its_outputs(tmp_path, constant):
    record, path = cleaned(head(4, 8, 256, batch=4, constant=constant), tmp_path)
    assert (record.inputs[0].shape, record.outputs[0].shape) == ((1, 3, 32, 32), (1, 8, 256))
    pictures = np.random.default_rng(3).standard_normal((4, 3, SIDE, SIDE)).astype(np.float32)
    (whole,) = run(str(tmp_path / "raw.onnx"), {"x": pictures})
    for index in range(4):
        (one,) = run(path, {"x": pictures[index : index + 1]})
        assert sqnr_db(whole[index : index + 1], one) > 80


@pytest.mark.parametrize("sides", [(2, 16, 256), (2, -1, 256), (-1, 32, 256)])
def test_a_batch_that_is_mixed_with_other_sides_is_refused_by_its_size(tmp_path, sides):
    with pytest.raises(ModelError, match="fixed batch of 4") as caught:
        cleaned(head(*sides, batch=4), tmp_path)
    assert caught.value.code == "fixed_batch"
    assert "batch 1" in caught.value.hint


def test_a_free_batch_is_not_built_in(tmp_path):
    """ONNX Runtime's fusion of MatMul and Add puts Reshapes of batch 1 around a Gemm."""
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], "patches", strides=[8, 8]),
        helper.make_node("Reshape", ["a", "sides"], ["t"], "tokens"),
        helper.make_node("Transpose", ["t"], ["p"], "turn", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["p", "w2"], ["m"], "project"),
        helper.make_node("Add", ["m", "b"], ["y"], "bias"),
    ]
    constants = {
        "w1": (32, 3, 8, 8), "w2": (32, 16), "b": (16,), "sides": np.int64([0, 32, -1])
    }  # fmt: skip
    model = model_of(nodes, constants, {"y": ["N", 16, 16]}, batch="N")
    _, path = cleaned(model, tmp_path)
    pictures = np.random.default_rng(3).standard_normal((3, 3, SIDE, SIDE)).astype(np.float32)
    (whole,) = run(str(tmp_path / "raw.onnx"), {"x": pictures})
    (found,) = run(with_batch(onnx.load(path), 3), {"x": pictures})
    assert found.shape == (3, 16, 16)
    assert sqnr_db(whole, found) > 100


def backbone(*middle: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Return a convolution and Relu to `r`, then nodes from `r` to `m`, then one to `y`."""
    return [
        helper.make_node("Conv", ["x", "w1"], ["a"], "c1", pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["r"], "relu"),
        *middle,
        helper.make_node("Conv", ["m", "w2"], ["y"], "c2"),
    ]


def assert_every_precision(folder: Path, path: str, *, int8_db: float = 25) -> None:
    inputs = frames_of(path, 1)[0]
    reference = run(str(folder / "raw.onnx"), inputs)
    targets = {half(path, folder): 55.0}
    for scheme in SCHEMES:
        conditioned(path, folder, scheme)
        target, share, kept = int8(path, folder, scheme)
        assert (share, kept) == (1.0, ())
        targets[target] = int8_db
    for target, least_db in targets.items():
        for one, other in zip(reference, run(target, inputs), strict=True):
            assert sqnr_db(one, other) > least_db


@pytest.mark.parametrize("read", [False, True])
def test_a_constant_output_stays_what_it_is_in_every_precision(tmp_path, read):
    anchors = np.arange(1, 17, dtype=np.float32).reshape(1, 16, 1, 1)
    middle = helper.make_node(
        "Mul" if read else "Identity", ["r", "anchors"][: 1 + read], ["m"], "k"
    )
    model = model_of(
        backbone(middle), WEIGHTS | {"anchors": anchors}, {"y": None, "anchors": [1, 16, 1, 1]}
    )
    _, path = cleaned(model, tmp_path)
    assert_every_precision(tmp_path, path)


def test_a_pad_of_some_axes_is_spelled_out(tmp_path):
    """ONNX Runtime's layout optimizer fails on it between integers."""
    middle = helper.make_node("Pad", ["r", "sides", "", "axes"], ["m"], "pad")
    constants = WEIGHTS | {"sides": np.int64([1, 0, 2, 0]), "axes": np.int64([-1, 2])}
    _, path = cleaned(model_of(backbone(middle), constants, {"y": None}, opset=18), tmp_path)
    assert_every_precision(tmp_path, path)


def test_a_mask_of_minus_infinity_costs_its_addition_only(tmp_path):
    mask = np.zeros((16, 16), np.float32)
    mask[0, 1:] = -np.inf
    middle = (
        helper.make_node("Add", ["r", "mask"], ["masked"], "mask"),
        helper.make_node("Softmax", ["masked"], ["m"], "attention"),
    )
    _, path = cleaned(model_of(backbone(*middle), WEIGHTS | {"mask": mask}, {"y": None}), tmp_path)
    assert_every_precision(tmp_path, path)


@pytest.mark.parametrize(
    ("channels", "hint"), [(None, "N, C, H, W"), (1, 'color = "GRAY"'), (4, "3 channels, or 1")]
)
def test_what_is_wrong_with_an_input_is_named(tmp_path, channels, hint):
    model = model_of(backbone()[:2], {"w1": WEIGHTS["w1"]}, {"r": None})
    tensor = model.graph.input[0].type.tensor_type
    if channels:
        tensor.shape.dim[1].dim_value = channels
        model.graph.initializer[0].CopyFrom(quant_graphs.weights("w1", 16, channels, 3, 3))
    else:
        tensor.ClearField("shape")
    with pytest.raises(ModelError, match="input x") as caught:
        cleaned(model, tmp_path)
    assert caught.value.code == "wrong_shape"
    assert hint in (caught.value.hint or "")


def quantized(*, activations: bool) -> onnx.ModelProto:
    """Return convolutions with INT8 weights, with or without INT8 activations."""
    read = "codes" if activations else "r"
    middle = [
        helper.make_node("QuantizeLinear", ["r", "s", "z"], ["q"], "quantize"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["codes"], "dequantize"),
    ]
    nodes = [
        helper.make_node("DequantizeLinear", ["w2q", "w2s", "w2z"], ["w2"], "weights", axis=0),
        *backbone(
            *(middle if activations else ()), helper.make_node("Identity", [read], ["m"], "same")
        ),
    ]
    codes = np.random.default_rng(0).integers(-127, 128, (8, 16, 1, 1)).astype(np.int8)
    constants = {
        "w1": (16, 3, 3, 3), "w2q": codes, "w2s": np.linspace(0.001, 0.01, 8).astype(np.float32),
        "w2z": np.zeros(8, np.int8), "s": np.float32(0.02), "z": np.int8(0),
    }  # fmt: skip
    return model_of(nodes, constants, {"y": None})


def test_weights_stored_as_integers_become_float_exactly(tmp_path):
    raw = quantized(activations=False)
    record, path = cleaned(raw, tmp_path)
    given = {t.name: numpy_helper.to_array(t) for t in raw.graph.initializer}
    kept = {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    expected = given["w2q"] * given["w2s"].reshape(8, 1, 1, 1)
    np.testing.assert_array_equal(kept["w2"], expected)
    assert "1 integer weights to float32" in record.changes
    assert_every_precision(tmp_path, path)


def given_graph(path: str, folder: Path, scheme: str) -> tuple[str, float | None, tuple[str, ...]]:
    """Return the path of the graph as-given for a runtime, its INT8 share and its float layers."""
    target = str(folder / f"given-{scheme}.onnx")
    return target, *OnnxQuantizer(1).take_as_given(path, scheme, target)


@pytest.mark.parametrize("kind", KINDS)
def test_a_quantized_file_is_offered_as_given_beside_its_fp32(tmp_path, kind):
    raw = quantized_files.quantized(quant_graphs.detector(tmp_path / "float.onnx"), kind)
    record, path = cleaned(raw, tmp_path)
    assert (record.quantized, record.baseline) == (integer_operators(raw.graph), "fp32")
    assert any("quantized already" in change for change in record.changes)
    assert integer_operators(onnx.load(path).graph) == ""
    frames = frames_of(path, 3)
    # ONNX Runtime has no integer ConvTranspose; in some files its inputs are dequantized only
    partly = kind in {"QOperator-S8", "QOperator-U8", "dynamic"}
    for scheme in SCHEMES:
        target, share, kept = given_graph(path, tmp_path, scheme)
        assert share == pytest.approx(1 - 524_288 / 3_391_488 if partly else 1)
        assert kept == (("up",) if partly else ())
        for frame in frames:
            (wanted,), (found,) = (run(p, frame) for p in (str(tmp_path / "raw.onnx"), target))
            # a bias in float is added before rounding, not after
            assert sqnr_db(wanted, found) > (40 if scheme == "S8S8" else 120)
            assert sqnr_db(run(path, frame)[0], found) > 30
    own = {half(path, tmp_path): 55, **{int8(path, tmp_path, scheme)[0]: 30 for scheme in SCHEMES}}
    for target, least_db in own.items():
        for frame in frames:
            assert sqnr_db(run(path, frame)[0], run(target, frame)[0]) > least_db


def as_codes() -> onnx.ModelProto:
    """Return convolutions with INT8 between them and an output of codes."""
    model = quantized(activations=True)
    model.graph.node.append(helper.make_node("QuantizeLinear", ["y", "s", "z"], ["codes_out"]))
    model.graph.output[0].CopyFrom(
        helper.make_tensor_value_info("codes_out", TensorProto.INT8, None)
    )
    return model


def test_a_file_that_no_fp32_can_be_made_of_is_its_own_baseline(tmp_path):
    record, path = cleaned(as_codes(), tmp_path)
    assert (record.quantized, record.baseline) == (
        "2 DequantizeLinear, 2 QuantizeLinear", "as-given"
    )  # fmt: skip
    assert any("output codes_out is of integers" in change for change in record.changes)
    (inputs,) = frames_of(path, 1)
    target, share, kept = given_graph(path, tmp_path, "U8S8")
    assert share == pytest.approx(16 * 8 / (16 * 8 + 16 * 27))
    assert kept == ("c1",)
    for same in (path, target):
        np.testing.assert_array_equal(run(str(tmp_path / "raw.onnx"), inputs), run(same, inputs))
    with pytest.raises(QuantizeError, match="2 QuantizeLinear") as caught:
        half(path, tmp_path)
    assert caught.value.code == "quantized_already"
    with pytest.raises(QuantizeError) as caught:
        OnnxConditioner(1).check(path)
    assert caught.value.code == "quantized_already"
