"""What is read of a model file before anything is done with it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from agent.adapters.graphs.looking import look_into
from agent.core.errors import ModelError
from agent.core.setup.setup import set_up
from tests.support.detector_heads import HEADS, detector
from tests.support.exported_graphs import Exported


def with_metadata(path: str, **metadata: str) -> Path:
    model = onnx.load(path)
    helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return Path(path)


ULTRALYTICS = {"stride": "32", "imgsz": "[96, 96]", "names": "{0: 'a', 1: 'b', 2: 'c'}"}
TASKS = {
    "yolo": {"task": "detect"},
    "yolo with objectness": {},
    "segment": {"task": "segment"},
    "pose": {"task": "pose", "kpt_shape": "[2, 3]", "names": "{0: 'person'}"},
    "obb": {"task": "obb"},
    "end to end": {"task": "detect", "end2end": "True"},
    "tensorflow": None,
    "nms inside": None,
}


@pytest.mark.parametrize("name", TASKS)
def test_the_decoding_of_each_head_is_found(tmp_path: Path, name: str) -> None:
    path = Path(detector(name, tmp_path))
    if TASKS[name] is not None:
        with_metadata(str(path), **ULTRALYTICS | TASKS[name])
    found = set_up(look_into(path), {})
    how = HEADS[name][1]
    values = found.values
    assert values["model.task.kind"] == "detection"
    for key in ("kind", "scores", "labels", "count", "masks", "keypoints", "rotated", "format",
                "objectness", "overlap"):  # fmt: skip
        assert values.get(f"model.task.decode.{key}", getattr(type(how)(kind=""), key)) == getattr(
            how, key
        )


def network(folder: Path, *steps: tuple[str, object], first: bool = True) -> Path:
    """Write a convolution behind arithmetic with constants."""
    g = Exported(17)
    x = "image"
    for operator, value in steps:
        constant = g.constant(np.asarray(value, np.float32))
        x = g.node(operator, *((x, constant) if first else (constant, x)))
    y = g.conv(x, 3, 8)
    return Path(g.save(folder / "m.onnx", (1, 3, 32, 32), {y: 4}))


def test_the_arithmetic_that_a_graph_begins_with_is_one_scale_and_shift(tmp_path: Path) -> None:
    mean, std = np.float32([0.1, 0.2, 0.3]), np.float32([0.5, 0.25, 0.2])
    shape = (1, 3, 1, 1)
    begins = look_into(
        network(tmp_path, ("Div", 255.0), ("Sub", mean.reshape(shape)), ("Div", std.reshape(shape)))
    ).begins
    assert begins is not None
    np.testing.assert_allclose(begins.scale, 1 / 255 / std, rtol=1e-5)
    np.testing.assert_allclose(begins.shift, -mean / std, rtol=1e-5)


@pytest.mark.parametrize("step", [("Div", 0.0), ("Pow", 2.0), ("Mul", np.ones(32))])
def test_other_arithmetic_is_no_normalization(tmp_path: Path, step) -> None:
    assert look_into(network(tmp_path, step)).begins is None
    assert look_into(network(tmp_path, ("Div", 255.0), first=False)).begins is None
    assert look_into(network(tmp_path)).begins is None


def test_an_image_that_is_read_twice_is_not_normalized(tmp_path: Path) -> None:
    g = Exported(17)
    x = g.node("Mul", "image", g.constant(np.float32(1 / 255)))
    y = g.node("Add", g.conv(x, 3, 3), "image")
    assert look_into(Path(g.save(tmp_path / "m.onnx", (1, 3, 32, 32), {y: 4}))).begins is None


def test_bytes_are_0_to_255_whatever_the_graph_does_with_them(tmp_path: Path) -> None:
    g = Exported(17)
    x = g.node("Cast", "image", to=TensorProto.FLOAT)
    x = g.node("Div", x, g.constant(np.float32(255)))
    y = g.conv(g.node("Transpose", x, perm=[0, 3, 1, 2]), 3, 8)
    path = g.save(tmp_path / "m.onnx", ("n", 32, 32, 3), {y: 4}, TensorProto.UINT8)
    facts = look_into(Path(path))
    assert facts.inputs[0].shape == (0, 32, 32, 3)
    assert facts.outputs[0].shape == (0, 8, 32, 32)
    assert set_up(facts, {}).values["model.input.pixels"] == "0..255"


def test_only_metadata_of_a_bounded_size_is_read(tmp_path: Path) -> None:
    path = with_metadata(
        str(network(tmp_path)), task="detect", names="x" * (1 << 20) + "x", other="y"
    )
    assert look_into(path).metadata == {"task": "detect"}


def test_files_beside_the_model_and_above_its_folder_onnx_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "onnx"
    folder.mkdir()
    text = json.dumps({"image_mean": [0.5], "image_std": [0.5]})
    (tmp_path / "preprocessor_config.json").write_text(text)
    (folder / "config.json").write_bytes(b"\xff")
    path = network(folder)
    assert look_into(path).beside == {"preprocessor_config.json": text, "config.json": "\ufffd"}
    (folder / "config.json").write_bytes(b" " * (2 << 20))
    assert list(look_into(path).beside) == ["preprocessor_config.json"]


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"not a model")
    with pytest.raises(ModelError):
        look_into(tmp_path / "m.onnx")
