"""Releases as quantd leaves them, made of an ONNX file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx
from onnx import helper

from agent.core.fidelity.task import Task
from agent.core.frames.input_spec import InputSpec
from agent.core.release.identity import identity_of

RUNTIME = {
    "kind": "onnxruntime", "version": "1.0", "device": "cpu", "board": None,
    "compute_capability": None, "driver": None, "l4t": None, "dla_core": -1, "threads": 1,
    "providers": ["CPUExecutionProvider"], "provider_options": {},
}  # fmt: skip
GENERIC = Task(kind="generic")


def described(
    model: Path, spec: InputSpec, task: Task = GENERIC, batch: int = 1, **changed: Any
) -> dict[str, Any]:
    """Return the contents of model.json for an ONNX file.

    Args:
        model: The file, with fixed shapes of that batch.
        spec: Of its input.
        task: Of its outputs.
        batch: Frames of one inference.
        changed: Other fields, as `release` or `launched`; `runtime` is merged.
    """
    graph = onnx.load(model).graph
    body = model.read_bytes()
    found = {
        "schema": 2, "release": "r1", "name": "m", "candidate": "fp32", "precision": "fp32",
        "power_mode": None, "launched": None, "batch": batch,
        "inputs": [_tensor(one) for one in graph.input],
        "outputs": [_tensor(one) for one in graph.output],
        "preprocess": asdict(spec), "task": asdict(task), "lineage": {},
        "engine": {
            "file": "model.onnx", "sha256": hashlib.sha256(body).hexdigest(), "bytes": len(body),
        },
        **changed, "runtime": {**RUNTIME, **changed.get("runtime", {})},
    }  # fmt: skip
    return found | {"identity": identity_of(found)}


def write_release(folder: Path, model: Path, *described_by: Any, **changed: Any) -> Path:
    """Write a release; the arguments are those of `described`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model.read_bytes())
    (folder / "model.json").write_text(json.dumps(described(model, *described_by, **changed)))
    return folder


def _tensor(value: Any) -> dict[str, Any]:
    kind = value.type.tensor_type
    return {
        "name": value.name,
        "shape": [dim.dim_value or None for dim in kind.shape.dim],
        "dtype": helper.tensor_dtype_to_np_dtype(kind.elem_type).name,
    }
