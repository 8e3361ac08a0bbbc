"""The one image input of a model: checked against the configuration, its shape fixed."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from agent.core.errors import ModelError
from agent.core.frames.input_spec import InputSpec

_SIDES = 4
_COLORS = {1: "GRAY", 3: "RGB"}


def fix_input(model: onnx.ModelProto, spec: InputSpec, changes: list[str]) -> None:
    """Set the shape of the one image input: a free batch to 1, and the size of the spec.

    Args:
        model: Changed in place.
        spec: Of the image.
        changes: A change of the shape is appended.

    Raises:
        ModelError: naming the input that is not such an image.
    """
    graph = model.graph
    if len(graph.input) != 1:
        names = ", ".join(one.name for one in graph.input) or "none"
        raise ModelError(
            f"the model has {len(graph.input)} inputs ({names}); quantd feeds one image",
            code="several_inputs",
            hint="export a model with a single image input",
        )
    tensor = graph.input[0].type.tensor_type
    _check_dtype(graph.input[0].name, tensor.elem_type, spec)
    before = [max(dim.dim_value, 0) for dim in tensor.shape.dim]  # exporters write -1 as well
    after = _fixed_shape(graph.input[0].name, before, spec)
    if before == after:
        return
    changes.append(f"input shape {before} to {after} (0 was free)")
    for dim, value in zip(tensor.shape.dim, after, strict=True):
        dim.dim_value = value
    del graph.value_info[:]
    for output in graph.output:
        output.type.tensor_type.ClearField("shape")


def _check_dtype(name: str, element: int, spec: InputSpec) -> None:
    seen = np.dtype(helper.tensor_dtype_to_np_dtype(element)).name
    if seen != spec.dtype:
        raise ModelError(
            f"input {name} takes {seen}, model.input.dtype is {spec.dtype}",
            code="wrong_dtype",
            hint=f'set dtype = "{seen}" under [model.input]',
        )


def _fixed_shape(name: str, shape: list[int], spec: InputSpec) -> list[int]:
    if len(shape) != _SIDES:
        seen = f"{len(shape)} dimensions {shape}" if shape else "no shape"
        raise ModelError(
            f"input {name} has {seen}; an image has 4 dimensions",
            code="wrong_shape",
            hint="export the model with an input of N, C, H, W or N, H, W, C",
        )
    channels = 1 if spec.color == "GRAY" else 3
    place = 3 if spec.layout == "NHWC" else 1
    other = "NCHW" if spec.layout == "NHWC" else "NHWC"
    if shape[place] not in {0, channels}:
        if shape[1 if place == 3 else 3] == channels:
            hint = f'set layout = "{other}" under [model.input]'
        elif shape[place] in _COLORS:
            hint = f'set color = "{_COLORS[shape[place]]}" under [model.input]'
        else:
            hint = f"quantd feeds 3 channels, or 1 of gray; export a model without {shape[place]}"
        raise ModelError(
            f"input {name} is {shape}: dimension {place} should be {channels} channels "
            f"in {spec.layout} with color {spec.color}",
            code="wrong_shape",
            hint=hint,
        )
    first = 1 if place == 3 else 2
    height, width = spec.height or shape[first], spec.width or shape[first + 1]
    if not height or not width:
        raise ModelError(
            f"input {name} leaves its size open: {shape}",
            code="open_size",
            hint="set width and height under [model.input]",
        )
    batch = shape[0] or 1
    return [batch, height, width, channels] if place == 3 else [batch, channels, height, width]
