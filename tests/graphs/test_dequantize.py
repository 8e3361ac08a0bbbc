"""FP32 of a file that is quantized already: its weights, and what is refused."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from agent.graphs.dequantize import InexactError, to_float
from agent.graphs.integers import integer_operators
from tests.support import quant_graphs
from tests.support.onnx_runs import random_inputs, run, sqnr_db
from tests.support.quantized_files import KINDS, quantized

SIDE = 8


def with_rounded_weights(source: str, given: onnx.ModelProto) -> onnx.ModelProto:
    """Return the float model with the weights and biases that its quantized file stores."""
    model = onnx.load(source)
    stored = {t.name: numpy_helper.to_array(t) for t in given.graph.initializer}
    inputs = {name: node for node in model.graph.node for name in node.input}
    for tensor in model.graph.initializer:
        shape = tuple(tensor.dims)
        for name in (tensor.name, f"{tensor.name}_Transposed"):  # of a Gemm, as versions name it
            codes = stored.get(f"{name}_quantized")
            scale = stored.get(f"{name}_scale", stored.get(f"{name}_quantized_scale"))
            if codes is not None and scale is not None:
                break
        else:  # stored in float, or a bias of a QLinearConv, which has the scale of the products
            continue
        zero = stored.get(f"{name}_zero_point", np.int32(0))
        codes = codes if codes.shape == shape else codes.T
        axes = [1] * codes.ndim
        axes[1 if inputs[tensor.name].op_type == "ConvTranspose" else 0] = -1
        scale, zero = (one.reshape(axes if one.size > 1 else -1) for one in (scale, zero))
        values = (codes.astype(np.float32) - zero) * scale
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), tensor.name))
    return model


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("make", "per_channel"),
    [
        (quant_graphs.detector, True),
        (quant_graphs.classifier, False),
        (quant_graphs.inverted, True),
    ],
)
def test_the_float_graph_computes_with_the_weights_of_the_file(tmp_path, make, kind, per_channel):
    source = make(tmp_path / "model.onnx")
    given = quantized(source, kind, per_channel=per_channel)
    assert integer_operators(given.graph)
    made = to_float(given)
    assert integer_operators(made.graph) == ""
    expected = with_rounded_weights(source, given)
    least_db = 90 if kind.startswith("QDQ") else 45  # others store biases, or a Gemm, in other ways
    for seed in range(3):
        inputs = random_inputs(given, 100 + seed)
        (found,) = run(made, inputs)
        assert sqnr_db(run(expected, inputs)[0], found) > least_db
        assert sqnr_db(found, run(given, inputs)[0]) > 18


def graph_of(nodes, constants, element=TensorProto.FLOAT, opset=17):
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("y", element, None)],
        [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


CONSTANTS = {
    "w": np.random.default_rng(0).standard_normal((4, 3, 1, 1)).astype(np.float32),
    "s": np.float32(6 / 255), "t": np.float32(0.1), "z": np.uint8(0), "m": np.uint8(128),
}  # fmt: skip


def pair(source: str, target: str, scale: str = "s", zero: str = "z") -> list[onnx.NodeProto]:
    return [
        helper.make_node("QuantizeLinear", [source, scale, zero], [f"{target}_q"]),
        helper.make_node("DequantizeLinear", [f"{target}_q", scale, zero], [target]),
    ]


@pytest.mark.parametrize(
    ("scale", "zero", "expected"),
    [
        ("s", "z", lambda a: np.clip(a, 0, 6)),  # the range of a ReLU6
        ("t", "z", lambda a: np.maximum(a, 0)),
        ("s", "m", lambda a: a),
    ],
)
def test_an_activation_that_the_codes_stand_for_stays(scale, zero, expected):
    conv = helper.make_node("Conv", ["x", "w"], ["a"])
    made = to_float(graph_of([conv, *pair("a", "y", scale, zero)], CONSTANTS))
    inputs = {"x": 20 * random_inputs(made)["x"]}
    (before,) = run(graph_of([helper.make_node("Conv", ["x", "w"], ["y"])], CONSTANTS), inputs)
    np.testing.assert_array_equal(run(made, inputs)[0], expected(before))


def test_codes_may_be_moved():
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("QuantizeLinear", ["r", "t", "z"], ["q"]),
        helper.make_node("MaxPool", ["q"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Transpose", ["p"], ["l"], perm=[0, 2, 3, 1]),
        helper.make_node("DequantizeLinear", ["l", "t", "z"], ["y"]),
    ]
    given = graph_of(nodes, CONSTANTS)
    made = to_float(given)
    inputs = random_inputs(made)
    (found,) = run(made, inputs)
    np.testing.assert_allclose(run(given, inputs)[0], found, atol=0.051)
    assert found.shape == (1, 4, 4, 3)


def test_constants_may_be_nodes_and_float_weights_are_rounded_as_the_file_does():
    nodes = [
        helper.make_node("Constant", [], ["s"], value=numpy_helper.from_array(np.float32(0.5))),
        helper.make_node("Constant", [], ["m"], value=numpy_helper.from_array(np.uint8(128))),
        *pair("w", "v", "s", "m"),
        *pair("x", "r", "s", "m"),
        helper.make_node("Conv", ["r", "v"], ["y"]),
    ]
    made = to_float(graph_of(nodes, {"w": CONSTANTS["w"]}))
    rounded = {"w": (np.round(CONSTANTS["w"] / 0.5) * 0.5).astype(np.float32)}
    inputs = random_inputs(made)
    expected = run(graph_of([helper.make_node("Conv", ["x", "w"], ["y"])], rounded), inputs)
    np.testing.assert_array_equal(run(made, inputs), expected)


def test_an_input_of_integers_is_scaled_in_float():
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "t", "m"], ["d"]),
        helper.make_node("Conv", ["d", "w"], ["a"]),
        *pair("a", "y", "t", "m"),
    ]
    given = graph_of(nodes, CONSTANTS)
    given.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    made = to_float(given)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, SIDE, SIDE), np.uint8)
    plain = graph_of([helper.make_node("Conv", ["x", "w"], ["y"])], CONSTANTS)
    numbers = {"x": (pixels.astype(np.float32) - 128) * np.float32(0.1)}
    np.testing.assert_allclose(
        run(made, {"x": pixels})[0], run(plain, numbers)[0], rtol=1e-5, atol=1e-5
    )


UNEQUAL = helper.make_node("DequantizeLinear", ["y_q", "t", "z"], ["y"])
INEXACT = [
    ([helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"])], TensorProto.UINT8, "output y"),
    ([pair("x", "y")[0], UNEQUAL], TensorProto.FLOAT, "another scale"),
    (
        [pair("x", "y")[0], helper.make_node("Cast", ["y_q"], ["y"], to=TensorProto.FLOAT)],
        TensorProto.FLOAT, "Cast",
    ),
    (
        [
            helper.make_node("Cast", ["x"], ["c"], to=TensorProto.UINT8),
            helper.make_node("DequantizeLinear", ["c", "s", "z"], ["y"]),
        ],
        TensorProto.FLOAT, "not computed here",
    ),
    (
        [
            helper.make_node("ReduceMax", ["x"], ["high"], keepdims=0),
            helper.make_node("QuantizeLinear", ["x", "high", "z"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "high", "z"], ["y"]),
        ],
        TensorProto.FLOAT, "a scale that is computed",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("nodes", "element", "reason"), INEXACT)
def test_what_can_not_be_exact_is_refused_with_the_operator(nodes, element, reason):
    given = graph_of(nodes, CONSTANTS, element)
    before = given.SerializeToString()
    with pytest.raises(InexactError, match=reason):
        to_float(given)
    assert given.SerializeToString() == before


def test_integers_in_the_body_of_an_if_are_seen_and_refused():
    body = helper.make_graph(
        pair("x", "b"), "body", [], [helper.make_tensor_value_info("b", TensorProto.FLOAT, None)]
    )
    nodes = [helper.make_node("If", ["yes"], ["y"], then_branch=body, else_branch=body)]
    given = graph_of(nodes, CONSTANTS | {"yes": np.bool_(True)})
    assert integer_operators(given.graph) == "2 DequantizeLinear, 2 QuantizeLinear"
    with pytest.raises(InexactError, match="QuantizeLinear"):
        to_float(given)
