"""The clean graph is compared with the file as it is written, and a wrong step is caught."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from agent.adapters.graphs import intake as steps
from agent.adapters.graphs.as_written import outputs_as_written, rounds_by_itself
from agent.adapters.graphs.intake import OnnxIntake
from agent.core.errors import ModelError
from agent.core.fidelity.plausibility import Plausibility
from agent.core.fidelity.sameness import COARSE_TOLERANCE, TOLERANCE
from agent.core.frames.input_spec import InputSpec
from agent.core.records import CheckedIntake, Digest
from agent.graphs.edits import copy_of
from agent.graphs.integers import GIVEN
from agent.stages.check_intake import check_intake
from tests.adapters.graphs.test_intake import old
from tests.support.onnx_runs import random_inputs

MODELS = Path(__file__).parents[2] / "fixtures" / "models"
NAMES = ("0", "1", "2", "3")


def checked(
    path: Path, folder: Path, spec: InputSpec | None = None, names: tuple[str, ...] = NAMES
):
    """Return the check of a file's intake on frames of noise."""
    record = OnnxIntake().clean(str(path), "m", spec or InputSpec(width=0, height=0), str(folder))
    given = folder / GIVEN
    clean = str(given if given.exists() else folder / "model.onnx")
    coarse = rounds_by_itself(str(path))

    def outputs_of(file, some):
        frames = (random_inputs(onnx.load(clean), int(name)) for name in some)
        return outputs_as_written(file, frames, 1)

    return check_intake(
        CheckedIntake(
            digest=Digest("d"), model=Digest("m"), calibration=Digest("c"),
            tolerance=COARSE_TOLERANCE if coarse else TOLERANCE,
        ),
        names, file=partial(outputs_of, str(path)), graph=partial(outputs_of, clean),
        ranked=record.ranked, coarse=coarse, progress=lambda *_: None,
        plausibility=Plausibility("generic", None),
    )  # fmt: skip


def half_spec(name: str) -> InputSpec:
    return InputSpec(width=0, height=0, dtype="float16" if name == "half_precision" else "float32")


@pytest.mark.parametrize("path", sorted(MODELS.glob("*.onnx")), ids=lambda path: path.stem)
def test_every_kind_of_file_is_computed_as_it_is_written(path, tmp_path):
    found = checked(path, tmp_path, half_spec(path.stem))
    assert (found.frames, found.reason) == (4, "")
    assert found.relative < (0.01 if path.stem == "half_precision" else 1e-5)
    assert found.output in {value.name for value in onnx.load(path).graph.output}


def test_pictures_are_compared_one_by_one_where_the_batch_is_fixed(tmp_path):
    """Three pictures of a file that takes four at a time."""
    assert (
        onnx.load(MODELS / "fixed_batch.onnx")
        .graph.input[0]
        .type.tensor_type.shape.dim[0]
        .dim_value
        == 4
    )
    found = checked(MODELS / "fixed_batch.onnx", tmp_path, names=NAMES[:3])
    assert (found.frames, found.reason) == (3, "")


def test_an_output_that_no_picture_changes_is_the_same_for_a_batch(tmp_path):
    model = onnx.load(MODELS / "fixed_batch.onnx")
    model.graph.initializer.append(numpy_helper.from_array(np.eye(4, dtype=np.float32), "anchors"))
    model.graph.node.append(helper.make_node("Identity", ["anchors"], ["corners"]))
    model.graph.output.append(helper.make_tensor_value_info("corners", TensorProto.FLOAT, [4, 4]))
    nodes = list(model.graph.node)
    for backwards in (False, True):
        del model.graph.node[:]
        model.graph.node.extend(nodes[::-1] if backwards else nodes)
        onnx.save(model, tmp_path / "raw.onnx")
        assert checked(tmp_path / "raw.onnx", tmp_path).frames == 4


def test_a_file_with_weights_among_its_inputs_is_compared(tmp_path):
    found = checked(Path(old(tmp_path / "old.onnx")), tmp_path)
    assert (found.frames, found.reason) == (4, "")


def test_a_file_of_another_size_is_compared_at_the_size_that_is_used(tmp_path):
    found = checked(MODELS / "group_norm.onnx", tmp_path, InputSpec(width=96, height=64))
    assert (found.frames, found.reason) == (4, "")


def test_a_file_with_external_data_is_compared(tmp_path):
    model = onnx.load(MODELS / "group_norm.onnx")
    path = tmp_path / "raw.onnx"
    onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    assert checked(path, tmp_path).frames == 4


def quantized(folder: Path) -> Path:
    """Save a convolution with its input and output in integers."""
    drawn = np.random.default_rng(0)
    constants = {
        "w": drawn.standard_normal((8, 3, 3, 3)).astype(np.float32), "s": np.float32(0.03),
        "z": np.int8(0), "big": np.float32(0.2),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        helper.make_node("Conv", ["xd", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("QuantizeLinear", ["c", "big", "z"], ["cq"]),
        helper.make_node("DequantizeLinear", ["cq", "big", "z"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )  # fmt: skip
    path = folder / "qdq.onnx"
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path
    )
    return path


def test_a_file_of_integers_is_compared(tmp_path):
    path = quantized(tmp_path)
    assert rounds_by_itself(str(path))
    found = checked(path, tmp_path)
    assert (found.frames, found.reason, found.relative) == (4, "", 0)


def scaled(model, by=1.01):
    """Return a model with the weights of one layer larger by a hundredth."""
    found = copy_of(model)
    tensor = next(t for t in found.graph.initializer if len(t.dims) == 4)
    values = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array((values * by).astype(values.dtype), tensor.name))
    return found


def without_relu(model):
    """Return a model in which a Relu passes everything."""
    found = copy_of(model)
    node = next(n for n in found.graph.node if n.op_type in {"Relu", "Sigmoid"})
    node.op_type = "Identity"
    return found


def with_outputs_exchanged(model):
    found = copy_of(model)
    first, second = (value.name for value in found.graph.output)
    names = {first: second, second: first}
    for node in found.graph.node:
        for tensors in (node.input, node.output):
            tensors[:] = [names.get(name, name) for name in tensors]
    return found


def without_if(model):
    """Return a model in which an If passes what its branches read."""
    found = copy_of(model)
    for node in found.graph.node:
        if node.op_type == "If":
            node.CopyFrom(helper.make_node("Identity", ["r"], list(node.output), node.name))
    return found


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("free_batch", scaled), ("yolo_head", scaled), ("fixed_batch", scaled), ("top_k", scaled),
        ("half_precision", partial(scaled, by=1.3)), ("if_body", scaled), ("two_stage", scaled),
        ("group_norm", without_relu), ("yolo_head", without_relu),
        ("if_body", without_if),
    ],
)  # fmt: skip
def test_a_wrong_step_of_the_intake_ends_the_run(monkeypatch, tmp_path, name, wrong):
    right = steps._optimize

    def optimize(model, target, changes):
        return right(wrong(model), target, changes)

    monkeypatch.setattr(steps, "_optimize", optimize)
    with pytest.raises(ModelError, match="does not compute what the model file does") as caught:
        checked(MODELS / f"{name}.onnx", tmp_path, half_spec(name))
    assert caught.value.code == "intake_differs"


def test_outputs_under_each_others_names_are_caught(monkeypatch, tmp_path):
    right = steps._optimize
    monkeypatch.setattr(
        steps, "_optimize", lambda model, *rest: right(with_outputs_exchanged(model), *rest)
    )
    with pytest.raises(ModelError, match="output boxes has shape"):
        checked(MODELS / "top_k.onnx", tmp_path)


def test_a_file_that_onnx_runtime_does_not_run_says_so(tmp_path):
    node = helper.make_node("Fancy", ["x"], ["y"], domain="nobody.knows")
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 4, 4])],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("nobody.knows", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), tmp_path / "f.onnx")
    frame = {"x": np.zeros((1, 3, 4, 4), np.float32)}
    for path in ("f.onnx", "gone.onnx"):
        with pytest.raises(ModelError, match=path) as caught:
            list(outputs_as_written(str(tmp_path / path), [frame], 1))
        assert caught.value.code == "not_run"
