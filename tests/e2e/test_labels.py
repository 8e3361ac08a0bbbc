"""True classes and boxes given for a folder of pictures, through the whole job."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.quant_graphs import classifier
from tests.support.scene import quantd, write_config

pytestmark = pytest.mark.slow
MODELS = Path(__file__).parents[1] / "fixtures" / "models"


def labelled(folder: Path, lines: list[str]) -> Path:
    """Return the configuration of a job on a classifier with labels for its pictures."""
    (folder / "labels.csv").write_text("\n".join(["frame,label", *lines]) + "\n")
    return write_config(
        folder,
        model={"path": classifier(folder / "classifier.onnx")},
        model_task={"kind": "classification", "labels": "labels.csv"},
        search={"precisions": ["fp32"]},
        calibration={"holdout": 8},
    )


def test_accuracy_is_reported_beside_the_agreement(tmp_path: Path) -> None:
    config = labelled(tmp_path, [f"{number:03d}.png,{number % 10}" for number in range(24)])
    done = quantd("optimize", "-c", config, "--output", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    (one,) = json.loads(done.stdout)["candidates"]
    fidelity = one["fidelity"]
    assert fidelity["task"]["accuracy"] == fidelity["task"]["baseline_accuracy"]
    assert fidelity["labelled"] == fidelity["frames"]
    assert fidelity["agreement"] == fidelity["task"]["top1"] == 1.0


def test_labels_of_other_pictures_end_the_run(tmp_path: Path) -> None:
    done = quantd("optimize", "-c", labelled(tmp_path, ["other.png,1"]))
    assert done.returncode == 2
    assert "held-out frames" in done.stderr
    assert "other.png" in done.stderr


def boxed(folder: Path, *, classes: int = 3, height: int = 120) -> Path:
    """Return the configuration of a job on a detector of 3 classes with labels for its pictures."""
    names = [f"{number:03d}.png" for number in range(24)]
    coco = {
        "images": [
            {"id": number, "file_name": f"train/{name}", "width": 160, "height": height}
            for number, name in enumerate(names)
        ],
        "annotations": [
            {"id": number, "image_id": number, "category_id": 10, "bbox": [40, 30, 80, 60]}
            for number in range(24)
        ],
        "categories": [{"id": 10 * one, "name": f"kind {one}"} for one in range(classes)],
    }
    (folder / "coco.json").write_text(json.dumps(coco))
    return write_config(
        folder,
        model={"path": str(MODELS / "yolo_head.onnx")},
        model_task={"kind": "detection", "labels": "coco.json"},
        model_task_decode={"kind": "yolo"},
        search={"precisions": ["fp32"]},
        calibration={"holdout": 8},
    )


def test_the_average_precision_of_true_boxes_is_reported(tmp_path: Path) -> None:
    done = quantd("optimize", "-c", boxed(tmp_path), "--output", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    (one,) = json.loads(done.stdout)["candidates"]
    task = one["fidelity"]["task"]
    assert task["accuracy"] == task["baseline_accuracy"]
    assert task["accuracy_ap50_95"] <= task["accuracy"]
    assert one["fidelity"]["labelled"] == one["fidelity"]["frames"]
    assert "accuracy" in (tmp_path / "out" / "report.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"height": 90}, "has 160x90 px there, but the frame has 160x120"),
        ({"classes": 2}, "2 categories (0 kind 0, 1 kind 1), but the model has 3 classes"),
    ],
    ids=["size", "classes"],
)
def test_boxes_that_do_not_fit_end_the_run(tmp_path: Path, changes: dict, said: str) -> None:
    done = quantd("optimize", "-c", boxed(tmp_path, **changes))
    assert done.returncode == 2
    assert said in done.stderr
