"""Files of a fixed batch, brought to batch 1 only if that gives the same outputs."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import shape_inference

from agent.core.errors import ModelError
from agent.core.fidelity.sameness import TOLERANCE, difference
from agent.engines.errors import ONNXRUNTIME_ERRORS, one_line
from agent.graphs.ranked import ranked_outputs
from agent.graphs.sessions import session

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
    ranked = ranked_outputs(shape_inference.infer_shapes(single, data_prop=True))
    try:
        expected = session(several, 0).run(names, {image.name: pictures})
        opened = session(single, 0)
        found = [opened.run(names, {image.name: picture[None]}) for picture in pictures]
    except ONNXRUNTIME_ERRORS as e:
        raise _refusal(shape[0], one_line(e)) from e
    for index, outputs in enumerate(found):
        one = dict(zip(names, outputs, strict=True))
        wanted = {
            name: whole if whole.shape == one[name].shape else whole[index : index + 1]
            for name, whole in zip(names, expected, strict=True)
        }
        seen = difference(wanted, one, ranked)
        if seen.relative > TOLERANCE:
            words = seen.words or f"differs by {seen.relative:.2g} of its magnitude"
            raise _refusal(shape[0], f"output {seen.output} {words}")


def _refusal(batch: int, seen: str) -> ModelError:
    return ModelError(
        f"the model has a fixed batch of {batch} and can't be brought to 1: {seen}",
        code="fixed_batch",
        hint=_HINT,
    )
