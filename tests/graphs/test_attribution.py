"""The nodes that ONNX Runtime makes of a graph serve the right layers."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from agent.engines.providers import CPU, make_session
from agent.graphs.attribution import attribute, flow
from agent.graphs.qdq import load_inferred, quantized_tensors, save, with_qdq
from tests.support import quant_graphs

SPAN = (-4.0, 4.0)


def graphs(model: str, folder: Path, scheme: str = "") -> tuple[onnx.GraphProto, onnx.GraphProto]:
    """Return a model's graph, with Q/DQ under a scheme, and what ONNX Runtime makes of it."""
    if scheme:
        inferred = load_inferred(model)
        ranges = dict.fromkeys(quantized_tensors(inferred, scheme), SPAN)
        model = str(folder / f"{scheme}.onnx")
        save(with_qdq(inferred, scheme, ranges), model)
    optimized = str(folder / "optimized.onnx")
    make_session(model, 1, [CPU], optimized=optimized)
    return onnx.load(model).graph, onnx.load(optimized, load_external_data=False).graph


def served(model: str, folder: Path, scheme: str = "") -> list[tuple[str, str, bool]]:
    """Return operator, tensor and whether it converts, of every node as executed."""
    source, executed = graphs(model, folder, scheme)
    found = attribute(executed, flow(source))
    return [(n.op_type, found[n.name].tensor, found[n.name].conversion) for n in executed.node]


def test_in_fp32_convolutions_in_blocks_of_channels_are_found(tmp_path):
    found = served(quant_graphs.interrupted(tmp_path / "m.onnx"), tmp_path)
    layers = [(operator, tensor) for operator, tensor, converts in found if not converts]
    assert layers == [("Conv", "r0"), ("Softmax", "s"), ("Resize", "u"), ("Conv", "y")]
    for operator, tensor, converts in found:
        assert converts == operator.startswith("Reorder")
        assert not converts or tensor in {"s", "u", "y"}, "it serves what needs the plain layout"


def test_in_int8_each_conversion_serves_the_layer_that_stays_in_float(tmp_path):
    found = served(quant_graphs.interrupted(tmp_path / "m.onnx"), tmp_path, "U8S8")
    layers = [(operator, tensor) for operator, tensor, converts in found if not converts]
    assert layers == [
        ("QLinearConv", "r0"), ("QLinearSoftmax", "s"), ("Resize", "u"), ("QLinearConv", "y"),
    ]  # fmt: skip
    conversions = [(operator, tensor) for operator, tensor, converts in found if converts]
    assert all(operator == "Transpose" or "uantize" in operator for operator, _ in conversions)
    rounds = {one for one in conversions if one[0] != "Transpose"}
    around_resize = {("DequantizeLinear", "u"), ("QuantizeLinear", "u")}
    assert rounds - around_resize == {("QuantizeLinear", "r0"), ("DequantizeLinear", "y")}
    # ONNX Runtime 1.23 resizes the codes themselves, 1.32 does it in float
    assert rounds & around_resize in (around_resize, set())


@pytest.mark.parametrize("scheme", ["", "U8S8", "S8S8"])
@pytest.mark.parametrize(
    "make", [quant_graphs.detector, quant_graphs.classifier, quant_graphs.inverted]
)
def test_every_node_serves_a_layer_of_the_float_graph(tmp_path, make, scheme):
    model = make(tmp_path / "m.onnx")
    tensors = {name for node in onnx.load(model).graph.node for name in node.output}
    found = served(model, tmp_path, scheme)
    assert {tensor.removesuffix(":float") for _, tensor, _ in found} <= tensors  # guarded
    computed = {tensor for operator, tensor, _ in found if "Conv" in operator or "Gemm" in operator}
    weighted = {"Conv", "ConvTranspose", "Gemm"}
    assert len(computed) == sum(node.op_type in weighted for node in onnx.load(model).graph.node)


def test_a_layer_that_transposes_or_casts_is_no_conversion():
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], "Transpose", perm=[0, 2, 3, 1]),
        helper.make_node("Cast", ["t"], ["c"], "cast", to=TensorProto.FLOAT16),
    ]
    added = [
        helper.make_node("Transpose", ["x"], ["t0"], "Transpose_token_1", perm=[0, 2, 3, 1]),
        helper.make_node("Transpose", ["t0"], ["t"], "Transpose"),
        helper.make_node("Cast", ["t"], ["c"], "cast_token_2_token_3"),
    ]
    found = attribute(_graph(added), flow(_graph(nodes)))
    assert {name: (one.tensor, one.conversion) for name, one in found.items()} == {
        "Transpose_token_1": ("t", True), "Transpose": ("t", False),
        "cast_token_2_token_3": ("c", False),
    }  # fmt: skip


def test_an_output_behind_qdq_is_the_layer_before_it():
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["y_raw"], "conv"),
        helper.make_node("QuantizeLinear", ["y_raw", "s", "z"], ["codes"], "q"),
        helper.make_node("DequantizeLinear", ["codes", "s", "z"], ["y"], "dq"),
    ]
    found = flow(_graph(nodes, output="y"))
    assert [(one.name, one.outputs) for one in found.nodes] == [("conv", ("y",))]
    assert {found.origins[name] for name in ("y_raw", "codes", "y")} == {"y"}


def test_graphs_that_no_runtime_writes_end_all_the_same():
    """Unnamed nodes, loops of nodes and of Q/DQ, nothing known, nothing there."""
    odd = [
        helper.make_node("QuantizeLinear", ["b"], ["a"], ""),
        helper.make_node("DequantizeLinear", ["a"], ["b"], ""),
        helper.make_node("Odd", ["d"], ["c"], "odd"),
        helper.make_node("Odd", ["c"], ["d"], "odd"),
        helper.make_node("QuantizeLinear", [], [], "nothing"),
        helper.make_node("Transpose", ["c"], ["e"], "no order"),
    ]
    found = attribute(_graph(odd), flow(_graph([])))
    assert {one.tensor for one in found.values()} == {""}
    looped = flow(_graph(odd))
    assert [one.name for one in looped.nodes] == ["odd", "odd", "no order"]
    assert attribute(_graph([]), looped) == {}


def _graph(nodes: list[onnx.NodeProto], output: str = "c") -> onnx.GraphProto:
    value = helper.make_tensor_value_info
    return helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, [1, 2, 3, 4])], [value(output, 1, None)]
    )
