"""A whole small job for end-to-end tests: a model, a scene of real pictures, a configuration."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_SIDE = 64


def write_model(path: Path, *, batch: str | int = "N") -> Path:
    """Write an untrained but real segmentation network: 4 convolutions, sigmoid, opset 13."""
    source = np.random.default_rng(7)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        values = source.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        return numpy_helper.from_array(values.astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["a"], pads=[1] * 4, strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["c"], pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Conv", ["d", "w3"], ["e"], pads=[1] * 4),
        helper.make_node("Add", ["e", "b"], ["f"]),
        helper.make_node("Conv", ["f", "w4"], ["g"]),
        helper.make_node("Sigmoid", ["g"], ["mask"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, _SIDE, _SIDE])],
        [helper.make_tensor_value_info("mask", TensorProto.FLOAT, [batch, 1, 32, 32])],
        [
            weight("w1", 16, 3, 3, 3),
            weight("w2", 16, 16, 3, 3),
            weight("w3", 16, 16, 3, 3),
            weight("w4", 1, 16, 1, 1),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(path))
    return path


def write_pictures(directory: Path, count: int = 24) -> Path:
    """Write pictures of a changing scene: textured ground, moving things, changing light."""
    directory.mkdir(parents=True, exist_ok=True)
    source = np.random.default_rng(3)
    ground = cv2.resize(
        source.integers(40, 200, (24, 32, 3), np.uint8), (160, 120), interpolation=cv2.INTER_CUBIC
    )
    for number in range(count):
        image = np.clip(ground * (0.6 + 0.5 * np.sin(number / 3) ** 2), 0, 255).astype(np.uint8)
        place = (10 + 5 * number % 140, 20 + 37 * number % 80)
        color = tuple(int(v) for v in source.integers(0, 255, 3))
        cv2.circle(image, place, 8 + number % 9, color, -1)
        cv2.rectangle(image, (150 - place[0], 5), (158 - place[0], 60), color, -1)
        cv2.imwrite(str(directory / f"{number:03d}.png"), image)
    return directory


def write_config(folder: Path, **tables: dict[str, Any]) -> Path:
    """Write quantd.toml for the small job; `tables` replace keys of single tables."""
    wanted: dict[str, dict[str, Any]] = {
        "device": {"id": "cam-1"},
        "camera": {"uri": f"images://{write_pictures(folder / 'pictures')}", "fps": 100.0},
        "model": {"name": "small", "path": str(write_model(folder / "small.onnx"))},
        "model.input": {"scale": 1 / 255},
        "model.task": {"kind": "segmentation"},
        "calibration": {"frames": 8, "holdout": 4, "window_s": 0.5},
        "search": {"calibrators": ["minmax", "entropy"]},
        "measure": {"warmup_s": 0.1, "duration_s": 0.3, "rounds": 3, "idle_s": 0.0},
        "storage": {"dir": str(folder / "state")},
    }
    for name, keys in tables.items():
        wanted.setdefault(name.replace("_", "."), {}).update(keys)
    if "pixels" in wanted["model.input"]:
        del wanted["model.input"]["scale"]
    path = folder / "quantd.toml"
    lines = []
    for name, keys in wanted.items():
        lines.append(f"[{name}]")
        lines += [f"{key} = {_toml(value)}" for key, value in keys.items()]
    path.write_text("\n".join(lines) + "\n")
    return path


def quantd(
    *arguments: object, timeout_s: float = 120, **environment: object
) -> subprocess.CompletedProcess[str]:
    """Run the command line as a person would, with further environment variables."""
    return subprocess.run(
        [sys.executable, "-m", "agent", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        env={**os.environ, **{name: str(value) for name, value in environment.items()}},
    )


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value)
