"""Labels of held-out frames: found by name, mapped into the model's input, refused if they differ."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from agent import config as configuration
from agent.core.errors import ConfigError
from agent.core.records import CalibrationSet, CleanModel, Digest, Rejected, TensorSpec
from agent.jobs import labels

WIDTH, HEIGHT = 200, 100
BOX = [50, 20, 100, 50]
MODEL = CleanModel(
    digest=Digest("m"), name="m", sha256="ab", opset=17, outputs=(), macs=1, weight_bytes=1,
    inputs=(TensorSpec(name="x", dtype="float32", shape=(1, 3, 64, 64)),), activation_bytes=1,
    changes=(),
)  # fmt: skip
CATEGORIES = [{"id": 1, "name": "car"}, {"id": 5, "name": "person"}]


def coco(**image) -> str:
    return json.dumps(
        {
            "images": [{"id": 1, "file_name": "a.jpg", **image}],
            "annotations": [{"image_id": 1, "category_id": 5, "bbox": BOX}],
            "categories": CATEGORIES,
        }
    )


@pytest.fixture
def held_out(tmp_path: Path) -> tuple[CalibrationSet, Path]:
    """Two frames of 200x100, one of them with a name."""
    (tmp_path / "frames").mkdir()
    for name in ("1.png", "2.png"):
        cv2.imwrite(str(tmp_path / "frames" / name), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    frames = CalibrationSet(
        digest=Digest("c"), source="images:///x", synthetic=False, width=WIDTH, height=HEIGHT,
        frames=(), holdout=("1.png", "2.png"), seen=2, lost=0, rejected=Rejected(),
        origins={"1.png": "a.jpg"},
    )  # fmt: skip
    return frames, tmp_path


def config(folder: Path, content: str | bytes, **task):
    file = folder / "labels"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    decode = {"kind": "yolo", "overlap": 1.0}
    task = {"kind": "detection", "labels": str(file), "decode": decode} | task
    resize = task.pop("resize", "stretch")
    return configuration.from_dump({"model": {"task": task, "input": {"resize": resize}}})


def yolo(left, top, right, bottom, label=1):
    head = np.zeros((1, 12, 6), np.float32)
    head[0, 0, :4] = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
    head[0, 0, 4 + label] = 0.9
    return {"y": head}


@pytest.mark.parametrize(
    ("resize", "box"),
    [("stretch", (16, 12.8, 48, 44.8)), ("letterbox", (16, 22.4, 48, 38.4))],
)
def test_true_boxes_lie_where_the_model_sees_the_object(held_out, resize, box):
    frames, folder = held_out
    accuracy = labels.accuracy(
        config(folder, coco(width=WIDTH, height=HEIGHT), resize=resize), MODEL, frames, folder
    )
    for _ in range(2):
        accuracy.add(yolo(*box), yolo(*(np.array(box) + 3)))
    assert accuracy.frames == 1  # the other frame has no name
    assert accuracy.metrics()["baseline_accuracy_ap50_95"] == pytest.approx(1)
    assert 0 < accuracy.metrics()["accuracy_ap50_95"] < 1


@pytest.mark.parametrize(("categories", "label"), [("order", 1), ("id", 5)])
def test_a_category_is_a_class_by_its_place_or_by_its_id(held_out, categories, label):
    frames, folder = held_out
    decode = {"kind": "boxes", "boxes": "b", "scores": "s", "labels": "c", "overlap": 1.0}
    accuracy = labels.accuracy(
        config(folder, coco(), categories=categories, decode=decode), MODEL, frames, folder
    )
    box = np.array([[[16, 12.8, 48, 44.8]]])
    outputs = {"b": box, "s": np.array([[0.9]]), "c": np.array([[label]])}
    accuracy.add(outputs, outputs)
    assert accuracy.metrics()["accuracy"] == 1


def test_labels_of_another_size_of_the_picture_are_refused(held_out):
    frames, folder = held_out
    with pytest.raises(
        ConfigError, match=r"a\.jpg has 100x200 px there, but the frame has 200x100"
    ):
        labels.check(config(folder, coco(width=HEIGHT, height=WIDTH)), frames, folder)


def test_labels_of_other_frames_are_refused_with_both_names(held_out):
    frames, folder = held_out
    with pytest.raises(ConfigError, match=r"none of the 2 .*\(a.jpg\).*\(val/b.jpg\)"):
        labels.check(config(folder, coco(file_name="val/b.jpg")), frames, folder)


def test_classes_are_read_from_a_csv(held_out):
    frames, folder = held_out
    chosen = config(folder, "\ufeffframe,label\na.jpg,2\n", kind="classification", decode={})
    labels.check(chosen, frames, folder)
    accuracy = labels.accuracy(chosen, MODEL, frames, folder)
    accuracy.add({"y": np.eye(3)[[2]]}, {"y": np.eye(3)[[1]]})
    assert accuracy.metrics() == {"accuracy": 0, "baseline_accuracy": 1}


def test_without_labels_there_is_no_accuracy(held_out):
    frames, folder = held_out
    none = config(folder, b"", labels="")
    labels.check(none, frames, folder)
    assert labels.accuracy(none, MODEL, frames, folder) is None


def test_a_file_that_can_not_be_read_is_named(held_out, monkeypatch):
    frames, folder = held_out
    chosen = config(folder, b"\xff", kind="classification", decode={})
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        labels.check(chosen, frames, folder)
    monkeypatch.setattr(labels, "_MOST_BYTES", 2**20)
    with pytest.raises(ConfigError, match="is larger than 1 MB"):
        labels.check(config(folder, b" " * (2**20 + 1)), frames, folder)
    os.mkfifo(folder / "pipe")
    for file, said in (
        ("pipe", "not a regular file"),
        ("none", "No such file"),
        ("", "not a regular file"),
    ):
        with pytest.raises(ConfigError, match=said) as caught:
            labels.check(config(folder, b"", labels=str(folder / file)), frames, folder)
        assert caught.value.code == "bad_labels"
