"""What a user's model file states of itself."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper, shape_inference

from agent.adapters.graphs.model_file import load_model
from agent.core.setup.facts import BESIDE, METADATA, Beginning, ModelFacts, TensorFacts

_MOST_CHARACTERS = 1 << 20  # of one entry of the metadata, and of one file
_PASSING = ("Cast", "Identity", "Transpose", "Unsqueeze", "Squeeze")
_CHANNELS = (1, 3)


def look_into(path: Path, *, inferred: bool = True) -> ModelFacts:
    """Return what the file and those beside it state.

    Args:
        path: The model file.
        inferred: Whether shapes of outputs that the file leaves out are inferred.

    Raises:
        ModelError: if it is no valid ONNX model.
    """
    model = load_model(path, [])
    graph = (_with_shapes(model) if inferred else model).graph
    weights = {tensor.name for tensor in graph.initializer}
    makers = {name: node.op_type for node in graph.node for name in node.output}
    inputs = [one for one in graph.input if one.name not in weights]
    return ModelFacts(
        inputs=tuple(_tensor(one) for one in inputs),
        outputs=tuple(_tensor(one, makers.get(one.name, "")) for one in graph.output),
        metadata={
            one.key: one.value
            for one in model.metadata_props
            if one.key in METADATA and len(one.value) <= _MOST_CHARACTERS
        },
        beside=_beside(path),
        begins=_beginning(graph, inputs[0].name) if len(inputs) == 1 else None,
    )


def _with_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with the shapes of its outputs, as far as they can be inferred."""
    try:
        return shape_inference.infer_shapes(model)
    except (ValueError, RuntimeError, shape_inference.InferenceError):
        return model  # the intake runs it, and names what is wrong


def _tensor(value: onnx.ValueInfoProto, made_by: str = "") -> TensorFacts:
    tensor = value.type.tensor_type
    dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type).name if tensor.elem_type else ""
    return TensorFacts(
        name=value.name,
        shape=tuple(max(dim.dim_value, 0) for dim in tensor.shape.dim),
        dtype=dtype,
        made_by=made_by,
    )


def _beside(path: Path) -> dict[str, str]:
    """Return the text of the files that describe the model; a repository has them above `onnx`."""
    folders = [path.absolute().parent]
    if folders[0].name == "onnx":
        folders.append(folders[0].parent)
    found: dict[str, str] = {}
    for name in BESIDE:
        files = (one / name for one in folders)
        file = next((one for one in files if one.is_file() and os.access(one, os.R_OK)), None)
        if file is not None and file.stat().st_size <= _MOST_CHARACTERS:
            found[name] = file.read_text(encoding="utf-8", errors="replace")
    return found


def _beginning(graph: onnx.GraphProto, image: str) -> Beginning | None:
    """Return the Mul, Div, Add and Sub with constants that the image passes first."""
    constants = _constants(graph)
    scale, shift, found = np.ones(1), np.zeros(1), False
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    while True:
        reading = [node for node in readers.get(image, []) if node.op_type != "Shape"]
        if len(reading) != 1:
            break
        (node,) = reading
        if node.op_type not in _PASSING:
            step = _step(node, image, constants)
            if step is None:
                break
            scale, shift, found = scale * step[0], shift * step[0] + step[1], True
        image = node.output[0]
    if not found or not (np.isfinite(scale).all() and np.isfinite(shift).all()):
        return None
    scale, shift = np.broadcast_arrays(scale, shift)
    return Beginning(scale=tuple(scale.tolist()), shift=tuple(shift.tolist()))


def _step(
    node: onnx.NodeProto, image: str, constants: Mapping[str, NDArray[np.float64]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return scale and shift of one node; None if it is not such arithmetic."""
    if node.op_type not in {"Mul", "Div", "Add", "Sub"}:
        return None
    first = node.input[0] == image
    value = constants.get(node.input[1 if first else 0])
    if value is None:
        return None
    one, zero = np.ones(1), np.zeros(1)
    if node.op_type == "Mul":
        return value, zero
    if node.op_type == "Add":
        return one, value
    if node.op_type == "Sub":
        return (one, -value) if first else (-one, value)
    return (one / value, zero) if first and value.all() else None


def _constants(graph: onnx.GraphProto) -> dict[str, NDArray[np.float64]]:
    """Return the constants of one number, or of one per channel."""
    tensors = [(tensor.name, tensor) for tensor in graph.initializer]
    tensors += [
        (node.output[0], attribute.t)
        for node in graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    ]
    return {
        name: numpy_helper.to_array(tensor).astype(np.float64).reshape(-1)
        for name, tensor in tensors
        if int(np.prod(tensor.dims)) in _CHANNELS and tensor.data_type != onnx.TensorProto.STRING
    }
