"""A release of a small network, all of whose outputs depend on all pixels of a frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from agent.core.frames.input_spec import InputSpec
from tests.support.releases import write_release

_SCORES = 4


def small_release(
    folder: Path, spec: InputSpec, batch: int = 1, *, seed: int = 0, **changed: Any
) -> Path:
    """Write a release that is called as its folder, with the output scores (batch, 4).

    Args:
        folder: Made here; the network is written beside it.
        spec: How the network wants a frame.
        batch: Frames of one inference.
        seed: Of the weights.
        changed: Further arguments of `write_release`.
    """
    channels = 1 if spec.color == "GRAY" else 3
    sides = (spec.height, spec.width)
    shape = (*sides, channels) if spec.layout == "NHWC" else (channels, *sides)
    model = folder.with_suffix(".onnx")
    onnx.save(_network((batch, *shape), spec, channels, seed), model)
    return write_release(folder, model, spec, batch=batch, release=folder.name, **changed)


def switch(current: Path, folder: Path) -> None:
    """Have `current` lead to another release, as quantd does."""
    new = current.with_name("current.new")
    new.symlink_to(folder)
    new.replace(current)


def _network(shape: tuple[int, ...], spec: InputSpec, channels: int, seed: int) -> onnx.ModelProto:
    source = np.random.default_rng(seed)
    weights = source.standard_normal((_SCORES, channels, 3, 3)).astype(np.float32)
    nodes = [helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT)]
    if spec.layout == "NHWC":
        nodes += [helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2])]
    else:
        nodes += [helper.make_node("Identity", ["float"], ["planes"])]
    nodes += [
        helper.make_node("Conv", ["planes", "weights"], ["maps"], strides=[2, 2]),
        helper.make_node("Softplus", ["maps"], ["soft"]),
        helper.make_node("GlobalAveragePool", ["soft"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["scores"]),
    ]
    dtype = helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", dtype, shape)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [shape[0], _SCORES])],
        [numpy_helper.from_array(weights, "weights")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
