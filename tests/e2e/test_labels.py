"""True classes given for a folder of pictures, through the whole job."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.quant_graphs import classifier
from tests.support.scene import quantd, write_config

pytestmark = pytest.mark.slow


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
