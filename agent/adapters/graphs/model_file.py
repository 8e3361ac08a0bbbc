"""Reading of a user's model file, of which every byte may be wrong."""

from __future__ import annotations

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import external_data_helper, shape_inference

from agent.core.errors import ModelError
from agent.graphs.edits import sort_unordered
from agent.graphs.foreign import HEAD_BYTES, foreign_format

_MOST_BYTES = 2 << 30  # a protobuf can't be larger


def load_model(path: Path, changes: list[str]) -> onnx.ModelProto:
    """Return the model of a user's file, with its external data and its nodes in order.

    Runtimes sort the nodes themselves, so converters leave some in no order; the checker refuses
    that.

    Args:
        path: Of the file.
        changes: What was changed is added in words.

    Raises:
        ModelError: if it is no valid ONNX model, or too large for one protobuf.
    """
    if path.stat().st_size > _MOST_BYTES:
        raise ModelError(
            f"{path} is over 2 GB", hint="export the weights as external data beside the model"
        )
    body = path.read_bytes()
    try:
        model = onnx.load_model_from_string(body)
    except DecodeError as e:
        raise _not_onnx(path, body, f"or is damaged ({len(body)} bytes)") from e
    if not model.graph.node or not model.opset_import:
        raise _not_onnx(path, body, "since it has no graph")
    try:
        external_data_helper.load_external_data_for_model(model, str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as e:
        raise ModelError(
            f"{path}: {first_line(e)}",
            hint="export it again, with its external data files beside it",
        ) from e
    weights = {tensor.name for tensor in model.graph.initializer}
    for one in model.graph.input:
        if one.name not in weights and not one.type.tensor_type.HasField("shape"):
            raise ModelError(
                f"input {one.name} has no shape",
                code="wrong_shape",
                hint="export the model with an input of N, C, H, W or N, H, W, C",
            )
    if any(not one.type.tensor_type.HasField("shape") for one in model.graph.output):
        model = shape_inference.infer_shapes(model)  # runtimes don't need it, the checker does
    if sort_unordered(model.graph):
        changes.append("put the nodes in the order in which they are computed")
    try:
        onnx.checker.check_model(model)
    except (ValueError, onnx.checker.ValidationError) as e:
        raise ModelError(
            f"{path}: {first_line(e)}", hint="export it again; the ONNX checker refuses the file"
        ) from e
    return model


def _not_onnx(path: Path, body: bytes, otherwise: str) -> ModelError:
    if foreign := foreign_format(path, body[:HEAD_BYTES]):
        words, cure = foreign
        return ModelError(f"{path} is not an ONNX model but {words}", code="not_onnx", hint=cure)
    return ModelError(
        f"{path} is not an ONNX model {otherwise}",
        code="not_onnx",
        hint="export it again, with torch.onnx.export or tf2onnx",
    )


def first_line(error: Exception) -> str:
    """Return the first line of an error's text."""
    return str(error).strip().splitlines()[0]
