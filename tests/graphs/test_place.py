"""Q/DQ lands where ONNX Runtime's own quantizer puts it, bit for bit, and one bad tensor costs one."""

from __future__ import annotations

import random
import zlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.quant_utils import QuantType, add_infer_metadata

from agent.graphs.compute import WEIGHTED, int8_share
from agent.graphs.edits import copy_of
from agent.graphs.marks import find_marks, tail
from agent.graphs.place import Placed
from agent.graphs.qdq import load_inferred, quantized_tensors, with_qdq
from agent.graphs.regions import float_nodes, layers_by_tensor
from agent.graphs.schemes import SCHEMES
from tests.support import quant_graphs
from tests.support.onnx_runs import random_inputs, run, sqnr_db

VERSION = tuple(int(n) for n in onnxruntime.__version__.split(".")[:2])
OPTIONS = {
    "U8S8": {"WeightSymmetric": True},
    "S8S8": {
        "ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False,
        "OpTypesToExcludeOutputQuantization": list(WEIGHTED),
    },
}  # fmt: skip


def by_onnxruntime(model, scheme, ranges, left_out) -> onnx.ModelProto:
    whole = copy_of(model)
    add_infer_metadata(whole)
    every = dict.fromkeys((n for node in model.graph.node for n in node.output), (-9.0, 9.0))
    limits = {n: (np.float32(low), np.float32(high)) for n, (low, high) in (every | ranges).items()}
    activation = QuantType.QInt8 if SCHEMES[scheme].symmetric else QuantType.QUInt8
    quantizer = QDQQuantizer(
        whole, True, False, QuantType.QInt8, activation,
        TensorsData(CalibrationMethod.MinMax, limits), [], list(left_out),
        list(SCHEMES[scheme].operators), OPTIONS[scheme],
    )  # fmt: skip
    quantizer.quantize_model()
    if not SCHEMES[scheme].between:
        _read_float_beside_layers(whole.graph)
    return whole


def _read_float_beside_layers(graph: onnx.GraphProto) -> None:
    """TensorRT's scheme quantizes the inputs of layers only; the oracle connects all readers."""
    makers = {name: node for node in graph.node for name in node.output}
    integer = {n.output[0] for n in graph.node if n.op_type == "DequantizeLinear"}
    for node in graph.node:
        if node.op_type in WEIGHTED and set(node.input[:2]) <= integer:
            continue
        for index, name in enumerate(node.input):
            codes = makers[name].input[0] if name in integer else ""
            if codes in makers:
                node.input[index] = makers[codes].input[0]


def ranges_of(model, scheme):
    """Return ranges as of a real run: every tensor has others, some of them lie above zero."""
    found = {}
    for name in quantized_tensors(model, scheme):
        draw = random.Random(zlib.crc32(name.encode()))
        found[name] = (min(draw.uniform(-3, 1), 0), draw.uniform(0, 5))
    return found


def layers_of(graph):
    return [node.name for node in graph.node if node.op_type in WEIGHTED]


@pytest.mark.skipif(VERSION < (1, 32), reason="older ones give Flatten a scale of its own")
@pytest.mark.parametrize("scheme", OPTIONS)
@pytest.mark.parametrize("graph", ["affine", "classifier", "detector", "elementwise", "inverted"])
def test_the_graph_is_that_of_onnxruntimes_quantizer(tmp_path, graph, scheme):
    model = load_inferred(getattr(quant_graphs, graph)(tmp_path / "m.onnx"))
    ranges, layers = ranges_of(model, scheme), layers_of(model.graph)
    for left_out in ([], layers[:1], layers[1:]):
        marks = find_marks(model.graph, SCHEMES[scheme], left_out)
        found = Placed(model, SCHEMES[scheme], marks, ranges).model.graph
        behind = tail(model.graph, SCHEMES[scheme])  # stays in float, where the oracle quantizes
        out = [node.name for node in model.graph.node if not behind.isdisjoint(node.output)]
        expected = by_onnxruntime(model, scheme, ranges, [*left_out, *out]).graph
        assert list(found.node) == list(expected.node)
        assert found.SerializeToString() == expected.SerializeToString()


def model_of(nodes, constants, outputs=("y",), opset=17):
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 8, 8])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        constants,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)


def placed(model, scheme, ranges=None):
    wanted = quantized_tensors(model, scheme)
    return with_qdq(model, scheme, dict.fromkeys(wanted, (-8.0, 8.0)) | (ranges or {}))


def test_a_bias_of_one_number_serves_every_channel():
    """ONNX Runtime's quantizer refuses the whole graph, as it has one scale per channel."""
    model = model_of(
        [
            helper.make_node("Conv", ["x", "w0"], ["c"], "conv"),
            helper.make_node("GlobalAveragePool", ["c"], ["p"], "pool"),
            helper.make_node("Flatten", ["p"], ["f"], "flat"),
            helper.make_node("Gemm", ["f", "w1", "one"], ["y"], "head", transB=1),
        ],
        [
            quant_graphs.weights("w0", 4, 4, 1, 1), quant_graphs.weights("w1", 5, 4),
            numpy_helper.from_array(np.float32([0.25]), "one"),
        ],
    )  # fmt: skip
    inputs = random_inputs(model)
    (reference,) = run(model, inputs)
    for scheme in OPTIONS:
        found = placed(model, scheme, dict.fromkeys("pfy", (-1.0, 1.0)))
        assert int8_share(found, model) == (1.0, ())
        assert sqnr_db(reference, run(found, inputs)[0]) > 25


@pytest.mark.parametrize("scheme", OPTIONS)
def test_the_factor_of_a_bias_counts_once(scheme):
    model = model_of(
        [
            helper.make_node("Flatten", ["x"], ["f"], "flat"),
            helper.make_node("Gemm", ["f", "w", "b"], ["y"], "head", transB=1, beta=3.0),
        ],
        [quant_graphs.weights("w", 5, 256), numpy_helper.from_array(np.ones(5, np.float32), "b")],
    )
    inputs = random_inputs(model)
    assert sqnr_db(run(model, inputs)[0], run(placed(model, scheme), inputs)[0]) > 25


def test_a_constant_that_is_not_finite_costs_its_node_alone():
    """A mask of minus infinity is usual in front of a Softmax."""
    mask = np.zeros((8, 8), np.float32)
    mask[0, 1:] = -np.inf
    model = model_of(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], "conv"),
            helper.make_node("Add", ["c", "mask"], ["a"], "masked"),
            helper.make_node("Softmax", ["a"], ["s"], "attention"),
            helper.make_node("Conv", ["s", "w"], ["y"], "last"),
        ],
        [quant_graphs.weights("w", 4, 4, 1, 1), numpy_helper.from_array(mask, "mask")],
    )
    assert "a" in quantized_tensors(model, "U8S8")  # its statistics show the infinity
    ranges = dict.fromkeys(quantized_tensors(model, "U8S8"), (-4.0, 4.0)) | {"y": (-1.2, 1.2)}
    del ranges["a"]
    found = with_qdq(model, "U8S8", ranges, ["masked", "attention"])
    inputs = random_inputs(model)
    assert int8_share(found, model) == (1.0, ())
    assert sqnr_db(run(model, inputs)[0], run(found, inputs)[0]) > 25


def head() -> onnx.ModelProto:
    return load_inferred(str(Path(__file__).parents[1] / "fixtures" / "models" / "yolo_head.onnx"))


def spans_of(model, scheme, frames):
    """Return the lowest and highest value of each tensor on some frames."""
    probed = copy_of(model)
    names = list(quantized_tensors(model, scheme))
    inputs = {value.name for value in model.graph.input}
    del probed.graph.output[:]
    probed.graph.output.extend(
        helper.make_empty_tensor_value_info(n) for n in names if n not in inputs
    )
    found = [
        dict(zip([n for n in names if n not in inputs], run(probed, f), strict=True)) | f
        for f in frames
    ]
    return {n: (min(f[n].min() for f in found), max(f[n].max() for f in found)) for n in names}


def test_what_lies_behind_the_last_layers_stays_in_float():
    """A Concat of boxes in pixels and of scores would give both one scale, that of the pixels."""
    model = head()
    assert set(quantized_tensors(model, "U8S8")) == {"x", "r", "rb", "rd", "bx", "cl"}
    frames = [random_inputs(model, seed) for seed in range(4)]
    found = placed(model, "U8S8", spans_of(model, "U8S8", frames))
    assert int8_share(found, model) == (1.0, ())
    (wanted,), (seen,) = run(model, frames[0]), run(found, frames[0])
    assert sqnr_db(wanted[:, :4], seen[:, :4]) > 40
    assert sqnr_db(wanted[:, 4:], seen[:, 4:]) > 15


def test_a_layer_in_float_takes_only_its_own_output_out():
    """Its neighbours are not connected with it by the Concat behind both."""
    model = head()
    ranges = dict.fromkeys(quantized_tensors(model, "U8S8"), (-8.0, 8.0))
    layers = layers_by_tensor(model.graph, "U8S8", ranges)
    assert layers["bx"] == {"boxhead"}
    assert layers["rd"] == {"c3", "boxhead", "clshead"}
    out = float_nodes(model.graph, "U8S8", layers, {"clshead"})
    integer = {n.name for n in with_qdq(model, "U8S8", ranges, out).graph.node}
    assert "bx_QuantizeLinear" in integer
    assert "cl_QuantizeLinear" not in integer


def test_a_relu_behind_the_last_layer_is_fused_into_it():
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["c"], "conv"),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("Sigmoid", ["r"], ["s"], "sigmoid"),
        helper.make_node("Relu", ["s"], ["y"], "second"),
    ]
    model = model_of(nodes, [quant_graphs.weights("w0", 4, 4, 1, 1)])
    assert quantized_tensors(model, "U8S8") == ("x", "r")
    found = placed(model, "U8S8")
    assert [n.op_type for n in found.graph.node if n.op_type in {"Relu", "Sigmoid"}] == [
        "Sigmoid", "Relu",
    ]  # fmt: skip


def test_names_that_the_graph_has_already_are_not_taken():
    model = model_of(
        [
            helper.make_node("Mul", ["x", "x_scale"], ["m"], "mul"),
            helper.make_node("Conv", ["m", "w"], ["c"], "conv"),
            helper.make_node("Conv", ["x", "w"], ["d"], "other"),
            helper.make_node("Add", ["c", "d"], ["y"], "sum"),
        ],
        [
            quant_graphs.weights("w", 4, 4, 1, 1),
            numpy_helper.from_array(np.float32([3]), "x_scale"),
        ],
    )
    inputs = random_inputs(model)
    for scheme in OPTIONS:
        found = placed(model, scheme, dict.fromkeys("mcy", (-16.0, 16.0)))
        assert sqnr_db(run(model, inputs)[0], run(found, inputs)[0]) > 20


@pytest.mark.parametrize("read", ["c", "r"])
def test_a_relu_whose_values_a_body_reads_stays(read):
    """U8S8 replaces a Relu by the range behind it, but a body reads the value before Q/DQ."""
    shape = [1, 4, 8, 8]

    def branch(operator: str) -> onnx.GraphProto:
        return helper.make_graph(
            [helper.make_node(operator, [read], [f"in_{operator}"])], operator, [],
            [helper.make_tensor_value_info(f"in_{operator}", TensorProto.FLOAT, shape)],
        )  # fmt: skip

    model = model_of(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], "conv"),
            helper.make_node("Relu", ["c"], ["r"], "relu"),
            helper.make_node("Conv", ["r", "w"], ["d"], "next"),
            helper.make_node(
                "If", ["true"], ["i"], "if", then_branch=branch("Neg"), else_branch=branch("Abs")
            ),
            helper.make_node("Add", ["d", "i"], ["y"], "sum"),
        ],
        [quant_graphs.weights("w", 4, 4, 1, 1), numpy_helper.from_array(np.bool_(1), "true")],
    )
    inputs = random_inputs(model)
    found = placed(model, "U8S8", {"r": (0.0, 8.0)})
    assert sqnr_db(run(model, inputs)[0], run(found, inputs)[0]) > 20


def test_an_output_in_front_of_a_relu_keeps_its_negative_values():
    model = model_of(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], "conv"),
            helper.make_node("Relu", ["c"], ["y"], "relu"),
        ],
        [quant_graphs.weights("w", 4, 4, 1, 1)],
        ("c", "y"),
    )
    inputs = random_inputs(model)
    found = run(placed(model, "U8S8", {"y": (0.0, 8.0)}), inputs)
    for one, other in zip(run(model, inputs), found, strict=True):
        assert sqnr_db(one, other) > 25


def test_what_is_dequantized_already_is_not_quantized_again():
    model = model_of(
        [
            helper.make_node("DequantizeLinear", ["codes", "s"], ["w"], "weights"),
            helper.make_node("MaxPool", ["x"], ["m"], "pool", kernel_shape=[1, 1]),
            helper.make_node("Conv", ["m", "w", "b"], ["y"], "conv"),
        ],
        [
            numpy_helper.from_array(np.ones((4, 4, 1, 1), np.int8), "codes"),
            numpy_helper.from_array(np.float32(0.1), "s"), quant_graphs.weights("b", 4),
        ],
    )  # fmt: skip
    inputs = random_inputs(model)
    for scheme in OPTIONS:
        assert "w" not in quantized_tensors(model, scheme)
        assert sqnr_db(run(model, inputs)[0], run(placed(model, scheme), inputs)[0]) > 20
