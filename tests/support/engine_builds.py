"""Builds by the real TensorRT-RTX, which needs no GPU: one job, its graph and its store."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from agent import config as configuration
from agent.adapters.storage.store import FileStore
from agent.core.records import Digest, Platform, QuantizedModel, Recipe
from agent.wire.jobs import BuildEngine
from tests.support.parts import missing_part

CAPABILITY = "8.6"


def require_tensorrt() -> None:
    """Report a missing TensorRT-RTX."""
    if importlib.util.find_spec("tensorrt_rtx_bindings") is None:
        missing_part("tensorrt-rtx", "pip install tensorrt-rtx-cu12-bindings and -libs")


def platform(**facts: Any) -> Platform:
    """Return the platform of a GPU that is not here."""
    return Platform(
        runtime="tensorrt",
        runtime_version="RTX",
        scheme="S8S8-FP16",
        fp16_reason="",
        device=f"compute capability {CAPABILITY}",
        environment=facts,
    )


def build_job(folder: Path, model: str, batch: int = 1, **runtime: Any) -> BuildEngine:
    """Return the spec of a "build" job for a graph, its parent stored and its folder made."""
    config = configuration.from_dump(
        {
            "camera": {"uri": "file:///x"},
            "model": {"name": "m", "path": "m.onnx"},
            "runtime": {"kind": "tensorrt", "compute_capability": CAPABILITY, **runtime},
            "storage": {"dir": str(folder / "state")},
        }
    )
    digest = Digest("a" * 64)
    store = FileStore(config.storage.dir)
    with store.stage(digest) as work:
        shutil.copyfile(model, Path(work, "model.onnx"))
        record = QuantizedModel(
            digest=digest, model=Digest("m"), statistics=None, recipe=Recipe(precision="fp32")
        )
        store.keep(digest, work, record)
    (folder / "work").mkdir(exist_ok=True)
    return BuildEngine(
        config=config,
        digest=Digest("b" * 64),
        work=str(folder / "work"),
        quantized=digest,
        batch=batch,
        platform=platform(),
        dla_core=-1,
    )


def slow_to_build(path: Path, layers: int = 400) -> str:
    """Save a graph that takes TensorRT many seconds: convolutions that all differ in size."""
    rng = np.random.default_rng(0)
    nodes, weights, width = [], [], 8
    for index in range(layers):
        wider = 8 + (index * 7) % 61
        kernel = rng.standard_normal((wider, width, 3, 3)).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel / 30, f"w{index}"))
        source = "x" if index == 0 else f"t{index - 1}"
        made = "y" if index == layers - 1 else f"t{index}"
        nodes.append(helper.make_node("Conv", [source, f"w{index}"], [made], f"conv{index}"))
        nodes[-1].attribute.append(helper.make_attribute("pads", [1, 1, 1, 1]))
        width = wider
    graph = helper.make_graph(
        nodes,
        "slow",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, 64, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, width, 64, 64])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return str(path)
