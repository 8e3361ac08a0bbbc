"""Model files run as they are written: no optimization of ONNX Runtime, no change of quantd's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from agent.core.errors import ModelError
from agent.engines.errors import ONNXRUNTIME_ERRORS, one_line
from agent.graphs.edits import bodies_of
from agent.graphs.integers import integer_operators
from agent.graphs.sessions import session
from agent.graphs.widen import narrow_types

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agent.ports import Tensors


def outputs_as_written(
    path: str, frames: Iterable[Tensors], threads: int
) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield the outputs of a model file for each picture.

    A file of a fixed batch is run on as many pictures at a time, and outputs that begin with the
    batch are divided. If the file's input has another size than the pictures, theirs is used.

    Args:
        path: The file.
        frames: The model's one input, for one picture each.
        threads: 0 takes all cores.

    Raises:
        ModelError: "not_run" if ONNX Runtime does not run the file.
    """
    pictures = (picture for frame in frames for picture in frame.values())
    try:
        group = list(islice(pictures, 1))
        if not group:
            return
        model = onnx.load(path, load_external_data=False)
        depending = _depending(model.graph)
        opened = _opened(path, model, group[0].shape[1:], threads)
        del model
        (image,) = opened.get_inputs()
        batch = image.shape[0] if isinstance(image.shape[0], int) else 1
        group += islice(pictures, batch - 1)
        while group:
            found = _outputs(opened, image.name, group, batch)
            for index in range(len(group)):
                yield {
                    name: values[index : index + 1]
                    if name in depending and values.ndim and len(values) == batch
                    else values
                    for name, values in found.items()
                }
            group = list(islice(pictures, batch))
    except (*ONNXRUNTIME_ERRORS, OSError, DecodeError) as e:
        raise ModelError(f"ONNX Runtime on {path}: {one_line(e)}", code="not_run") from e


def rounds_by_itself(path: str) -> bool:
    """Return True if a file is in half precision or of integers, so that it rounds between layers."""
    model = onnx.load(path, load_external_data=False)
    return bool(narrow_types(model) or integer_operators(model.graph))


def _outputs(
    opened: Any, name: str, pictures: list[NDArray[Any]], batch: int
) -> dict[str, NDArray[Any]]:
    """Run one batch, filled with its last picture."""
    filled = [*pictures, *pictures[-1:] * (batch - len(pictures))]
    names = [one.name for one in opened.get_outputs()]
    return dict(zip(names, opened.run(names, {name: np.concatenate(filled)}), strict=True))


def _depending(graph: onnx.GraphProto) -> set[str]:
    """Return the tensors that depend on the picture; others are the same for a whole batch."""
    weights = {tensor.name for tensor in graph.initializer}
    found = {one.name for one in graph.input} - weights
    before = 0
    while before < len(found):  # the nodes of a file may be in any order
        before = len(found)
        for node in graph.node:
            if not found.isdisjoint(node.input) or any(True for _ in bodies_of(node)):
                found.update(node.output)
    return found


def _opened(path: str, model: onnx.ModelProto, sides: tuple[int, ...], threads: int) -> Any:
    """Return a session of the file, with other sides of its input if need be."""
    if not _fix_sides(model, sides):
        return session(path, threads, optimized=False)
    whole = onnx.load(path)
    _fix_sides(whole, sides)
    return session(whole, threads, optimized=False)


def _fix_sides(model: onnx.ModelProto, sides: tuple[int, ...]) -> bool:
    """Give the one input other sides behind the batch; return True if it had others."""
    weights = {tensor.name for tensor in model.graph.initializer}
    (image,) = (one for one in model.graph.input if one.name not in weights)
    dims = list(image.type.tensor_type.shape.dim)[1:]
    other = any(dim.dim_value not in {0, side} for dim, side in zip(dims, sides, strict=True))
    if other:
        for dim, side in zip(dims, sides, strict=True):
            dim.dim_value = side
        del model.graph.value_info[:]
        for output in model.graph.output:
            output.type.tensor_type.ClearField("shape")
    return other
