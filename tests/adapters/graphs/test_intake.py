"""Files as exporters wrote them over the years become ordinary graphs that compute the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from agent.adapters.graphs.intake import IR_VERSION, OPSET, OnnxIntake
from agent.core.errors import ModelError
from agent.core.frames.input_spec import InputSpec

LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"
SPEC = InputSpec(width=0, height=0)


def old(path: Path) -> str:
    """Save what exporters wrote until 2019: IR 3, where every weight is an input as well."""
    weights = [
        numpy_helper.from_array(np.full((4, 3, 3, 3), 0.1, np.float32), "w"),
        numpy_helper.from_array(np.int64([1, -1]), "flat"),
    ]
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Reshape", ["c", "flat"], ["scores"]),
    ]
    inputs = [
        helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 8, 8]),
        *(helper.make_tensor_value_info(w.name, w.data_type, w.dims) for w in weights),
    ]
    output = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 256])
    graph = helper.make_graph(nodes, "old", inputs, [output], weights)
    opset = [helper.make_opsetid("", 8)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=3), str(path))
    return str(path)


def outputs(path: str) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (image,) = (one for one in session.get_inputs() if len(one.shape) == 4)
    frame = np.random.default_rng(0).random(image.shape).astype(np.float32)
    return list(session.run(None, {image.name: frame}))


def test_a_model_whose_weights_are_inputs_becomes_an_ordinary_one(tmp_path):
    raw = old(tmp_path / "old.onnx")
    record = OnnxIntake().clean(raw, "old", SPEC, str(tmp_path))
    clean = onnx.load(str(tmp_path / "model.onnx"))
    assert (record.opset, clean.ir_version) == (OPSET, IR_VERSION)
    assert [one.name for one in clean.graph.input] == ["image"]
    for mine, its in zip(outputs(str(tmp_path / "model.onnx")), outputs(raw), strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-5)


def test_sides_of_minus_one_are_free(tmp_path):
    """Paddle's exporter writes them for a free batch."""
    raw = old(tmp_path / "old.onnx")
    model = onnx.load(raw)
    for place in (0, 2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[place].dim_value = -1
    onnx.save(model, raw)
    record = OnnxIntake().clean(raw, "old", InputSpec(width=8, height=8), str(tmp_path))
    assert record.inputs[0].shape == (1, 3, 8, 8)
    assert record.macs == 3 * 3 * 3 * 4 * 8 * 8


@pytest.mark.slow
@pytest.mark.parametrize("name", ["squeezenet", "shufflenet", "resnet50", "densenet121"])
def test_the_networks_of_the_onnx_package_are_taken(name, tmp_path):
    record = OnnxIntake().clean(str(LIGHT / f"light_{name}.onnx"), name, SPEC, str(tmp_path))
    assert (record.opset, record.inputs[0].shape) == (OPSET, (1, 3, 224, 224))
    assert record.macs > 100e6


def unordered(path: Path, *, cycle: bool = False) -> str:
    """Save a model with its nodes in no order, as converters to float16 leave them."""
    weights = [numpy_helper.from_array(np.full((4, 3, 3, 3), 0.1, np.float32), "w")]
    body = helper.make_graph(
        [
            helper.make_node("Mul", ["c", "c"], ["squared"]),
            helper.make_node("Add", ["squared", "c"], ["more"]),
        ],
        "body",
        [],
        [helper.make_tensor_value_info("more", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("If", ["yes"], ["scores"], then_branch=body, else_branch=body),
        helper.make_node("Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True))),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("Conv", ["c" if cycle else "image", "w"], ["b"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 8, 8])
    output = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 4, 6, 6])
    graph = helper.make_graph(nodes, "unordered", [image], [output], weights)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), str(path))
    return str(path)


def test_nodes_in_no_order_are_sorted(tmp_path):
    raw = unordered(tmp_path / "raw.onnx")
    record = OnnxIntake().clean(raw, "unordered", SPEC, str(tmp_path))
    (mine,), (its,) = (outputs(path) for path in (str(tmp_path / "model.onnx"), raw))
    np.testing.assert_allclose(mine, its, rtol=1e-5)
    assert any("order" in change for change in record.changes)


def test_nodes_that_wait_for_each_other_are_refused(tmp_path):
    raw = unordered(tmp_path / "raw.onnx", cycle=True)
    with pytest.raises(ModelError, match="topologically"):
        OnnxIntake().clean(raw, "cycle", SPEC, str(tmp_path))
