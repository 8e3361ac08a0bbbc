"""Files of a fixed batch, brought to batch 1 only if that gives the same outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from agent.core.errors import ModelError
from agent.engines.errors import ONNXRUNTIME_ERRORS, one_line
from agent.graphs.sessions import session

_TOLERANCE = 1e-3  # of the largest value: float32 noise of other kernels
_HINT = "export the model with batch 1, or with a free batch"


def check_pictures(several: onnx.ModelProto, single: onnx.ModelProto, dtype: str) -> None:
    """Check that a graph of batch 1 gives the outputs of a file of a larger batch, by a run.

    Args:
        several: The file's graph, with a fixed batch.
        single: The graph of batch 1.
        dtype: Of the input.

    Raises:
        ModelError: "fixed_batch", naming the batch and the first output that differs.
    """
    image = several.graph.input[0]
    shape = [side.dim_value for side in image.type.tensor_type.shape.dim]
    noise = np.random.default_rng(0)
    integers = np.dtype(dtype).kind in "iu"
    drawn = noise.integers(0, 127, shape) if integers else noise.standard_normal(shape)
    pictures = drawn.astype(dtype)
    names = [value.name for value in several.graph.output]
    try:
        expected = session(several, 0).run(names, {image.name: pictures})
        opened = session(single, 0)
        found = [opened.run(names, {image.name: picture[None]}) for picture in pictures]
    except ONNXRUNTIME_ERRORS as e:
        raise _refusal(shape[0], one_line(e)) from e
    for name, whole, each in zip(names, expected, zip(*found, strict=True), strict=True):
        if not _is_same(whole, each):
            shapes = f"{list(whole.shape)}, at batch 1 {list(each[0].shape)}"
            raise _refusal(shape[0], f"output {name} is {shapes}, and its values differ")


def _is_same(whole: NDArray[Any], each: Sequence[NDArray[Any]]) -> bool:
    """Return True if the pictures' outputs make up that of the batch, or don't depend on it."""
    if whole.shape == each[0].shape:
        return all(_is_close(whole, one) for one in each)
    if not whole.ndim or whole.shape[1:] != each[0].shape[1:]:
        return False
    joined = np.concatenate(each)
    return joined.shape == whole.shape and _is_close(whole, joined)


def _is_close(first: NDArray[Any], second: NDArray[Any]) -> bool:
    if first.dtype.kind != "f":
        return bool(np.array_equal(first, second))
    largest = float(np.abs(first[np.isfinite(first)]).max(initial=0))
    return bool(np.allclose(first, second, rtol=0, atol=_TOLERANCE * largest, equal_nan=True))


def _refusal(batch: int, seen: str) -> ModelError:
    return ModelError(
        f"the model has a fixed batch of {batch} and can't be brought to 1: {seen}",
        code="fixed_batch",
        hint=_HINT,
    )
