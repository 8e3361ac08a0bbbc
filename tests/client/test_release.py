"""An application's view of a release: frames in, results in the frame's pixels out."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from agent.adapters.storage.frames import OpencvFrames
from agent.client import Objects, Release, ReleaseError
from agent.core.fidelity.decoding import Decoding
from agent.core.fidelity.task import Task
from agent.core.frames.input_spec import InputSpec
from agent.core.frames.preprocess import to_tensor
from agent.core.release.identity import identity_of
from tests.support.releases import described, write_release

SPEC = InputSpec(width=16, height=12)
FRAME = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)
DTYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "uint8": TensorProto.UINT8}


def shape_of(spec: InputSpec, batch: int) -> list[int]:
    channels = 1 if spec.color == "GRAY" else 3
    if spec.layout == "NHWC":
        return [batch, spec.height, spec.width, channels]
    return [batch, channels, spec.height, spec.width]


def echo(path: Path, spec: InputSpec = SPEC, batch: int = 1, add: float = 0.0) -> Path:
    """Save a model that gives its input back, plus a number."""
    shape, kind = shape_of(spec, batch), DTYPES[spec.dtype]
    value = helper.make_tensor("number", kind, [], np.array([add], spec.dtype).tolist())
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "number"], ["y"])]
        if spec.dtype != "uint8"
        else [helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, shape)],
        [value] if spec.dtype != "uint8" else [],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return write_release(tmp_path / "r1", echo(tmp_path / "m.onnx"), SPEC)


def refused(path: Path) -> ReleaseError:
    with pytest.raises(ReleaseError) as caught, Release(path):
        pass
    return caught.value


def again(release: Path, **changed: object) -> None:
    """Write model.json with other values, as quantd would have."""
    found = described(release / "model.onnx", SPEC, **changed)
    (release / "model.json").write_text(json.dumps(found))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("color", ["RGB", "BGR", "GRAY"])
@pytest.mark.parametrize("dtype", list(DTYPES))
@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
def test_a_frame_becomes_the_tensor_that_was_judged(tmp_path, layout, color, dtype, resize):
    """By the adapter that reads frames for the evaluation, from a file of the same frame."""
    scale = 1.0 if dtype == "uint8" else 0.25
    spec = replace(SPEC, layout=layout, color=color, dtype=dtype, resize=resize, scale=scale)
    if dtype != "uint8":
        spec = replace(spec, mean=(1.0, 2.0, 3.0), std=(2.0, 4.0, 8.0))
    cv2.imwrite(str(tmp_path / "f.png"), FRAME)
    judged = to_tensor(OpencvFrames().read(str(tmp_path / "f.png"), spec), spec)
    with Release(write_release(tmp_path / "r", echo(tmp_path / "m.onnx", spec), spec)) as release:
        assert (release.tensor([FRAME]) == judged).all()
        found = release(FRAME)["y"]
        assert (found.dtype, found.shape) == (judged.dtype, judged.shape)
        assert (found == judged).all()
        assert (release.run(judged)["y"] == judged).all()


@pytest.mark.parametrize("shape", [(24, 40), (24, 40, 1)])
def test_a_grey_frame_is_one_of_three_equal_channels(release, shape):
    grey = FRAME[..., 0].reshape(shape)
    with Release(release) as opened:
        three = np.repeat(grey.reshape(24, 40, 1), 3, axis=2)
        assert (opened(grey)["y"] == opened(three)["y"]).all()


def test_each_frame_of_a_batch_has_its_own_result(tmp_path):
    model = echo(tmp_path / "m.onnx", batch=4)
    frames = [np.full((24, 40, 3), level, np.uint8) for level in (10, 20, 30)]
    with Release(write_release(tmp_path / "r", model, SPEC, Task(kind="generic"), 4)) as release:
        found = release(frames)
        assert [one["y"].max() for one in found] == [10, 20, 30]
        assert [one["y"].shape for one in found] == [(1, 3, 12, 16)] * 3
        assert release(frames[1])["y"].max() == 20
        for several in (frames * 2, []):
            with pytest.raises(ReleaseError, match=r"frames: this engine takes 1 to 4"):
                release(several)


def test_boxes_are_those_of_the_frame(tmp_path):
    rows = np.array([[[4, 3, 8, 6, 0.9, 1]]], np.float32)
    nodes = [helper.make_node("Constant", [], ["rows"], value=onnx.numpy_helper.from_array(rows)),
             helper.make_node("ReduceMean", ["x"], ["m"], keepdims=0),
             helper.make_node("Add", ["rows", "zero"], ["y"]),
             helper.make_node("Mul", ["m", "zero"], ["unused"])]  # fmt: skip
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 12, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 6])],
        [helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0])],
    )  # fmt: skip
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "m.onnx")
    task = Task(kind="detection", decoding=Decoding(kind="nms"), names=("cat", "dog"))
    with Release(write_release(tmp_path / "r", tmp_path / "m.onnx", SPEC, task)) as release:
        found = release(FRAME)
    assert isinstance(found, Objects)
    assert found.names == ("dog",)
    assert found.boxes.tolist() == [[10, 6, 20, 12]]


@pytest.mark.parametrize(
    ("frame", "seen"),
    [
        (FRAME.astype(np.float32), r"float32 \[24, 40, 3\]"),
        (FRAME[:0], r"uint8 \[0, 40, 3\]"),
        (np.zeros((24, 40, 4), np.uint8), r"uint8 \[24, 40, 4\]"),
    ],
)
def test_what_is_no_frame_is_refused(release, frame, seen):
    with Release(release) as opened, pytest.raises(ReleaseError, match=seen) as caught:
        opened(frame)
    assert caught.value.code == "wrong_input"


def test_a_tensor_of_another_shape_or_dtype_is_refused(release):
    tensor = np.zeros((1, 3, 12, 16), np.float32)
    with Release(release) as opened:
        for wrong in (tensor[0], tensor.astype(np.float64), np.moveaxis(tensor, 1, 3)):
            with pytest.raises(ReleaseError, match=r"takes float32 \[1, 3, 12, 16\]") as caught:
                opened.run(wrong)
            assert caught.value.code == "wrong_input"


def test_a_closed_release_is_no_crash(release):
    opened = Release(release)
    with pytest.raises(ReleaseError, match="not loaded"):
        opened(FRAME)
    with opened:
        assert opened.name == "r1"
    with pytest.raises(ReleaseError, match="not loaded"):
        opened.reload_if_changed()


@pytest.mark.parametrize(
    ("damage", "code", "words"),
    [
        (lambda r: (r / "model.onnx").write_bytes(b"x"), "bad_release", "model.onnx is damaged"),
        (lambda r: (r / "model.onnx").unlink(), "no_release", "no release"),
        (lambda r: (r / "model.json").write_bytes(b"{"), "bad_release", "model.json is damaged"),
        (lambda r: (r / "model.json").write_bytes(b"[]"), "bad_release", "model.json is damaged"),
        (lambda r: again(r, runtime={"providers": ["RocketExecutionProvider"]}), "no_runtime",
         "runs on RocketExecutionProvider"),
        (lambda r: again(r, preprocess={"width": 1, "tilt": 3}), "other_schema", "does not know"),
        (lambda r: again(r, schema=1), "other_schema", "schema 1, this client reads 2"),
        (lambda r: again(r, schema=3), "other_schema", "schema 3, this client reads 2"),
        (lambda r: shutil.rmtree(r), "no_release", "no release"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_the_reason(release, damage, code, words):
    damage(release)
    error = refused(release)
    assert (error.code, error.message) == (code, error.message)
    assert words in error.message
    assert error.hint


def test_a_value_that_changed_on_the_disk_is_not_fed(release):
    file = release / "model.json"
    file.write_text(file.read_text().replace('"scale": 1.0', '"scale": 1.5'))
    assert "not as quantd wrote it" in refused(release).message


def test_the_storage_folder_instead_of_its_link_gets_a_hint(release, tmp_path):
    (tmp_path / "current").symlink_to(release)
    error = refused(tmp_path)
    assert (error.code, error.hint) == ("no_release", f"open {tmp_path / 'current'}")


def test_an_engine_that_does_not_load_is_no_traceback_of_its_own(tmp_path, release):
    (release / "model.onnx").write_bytes(b"no graph")
    found = json.loads((release / "model.json").read_bytes())
    found["engine"]["sha256"] = hashlib.sha256(b"no graph").hexdigest()
    found["identity"] = identity_of(found)
    (release / "model.json").write_text(json.dumps(found))
    error = refused(release)
    assert error.code == "runtime"
    assert error.message.startswith("ONNX Runtime: ")
