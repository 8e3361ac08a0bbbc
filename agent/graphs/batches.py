"""Graphs changed to another batch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import numpy_helper, shape_inference


def with_batch(model: onnx.ModelProto, batch: int) -> onnx.ModelProto:
    """Return the graph, changed in place, for another batch.

    Constant shapes have the batch built in: where a Reshape's first side is the batch it becomes 0
    ("unchanged"), that of a Resize's sizes becomes the new batch. Other constants stay, so check
    the outputs afterwards, for batch 1 with `output_of_fixed_batch`.

    Args:
        model: With fixed shapes and one input.
        batch: At least 1.
    """
    graph = model.graph
    before = graph.input[0].type.tensor_type.shape.dim[0].dim_value
    if batch != before:
        leading = _leading(model)
        constants = {tensor.name: tensor for tensor in graph.initializer} | {
            node.output[0]: attribute.t
            for node in graph.node
            if node.op_type == "Constant"
            for attribute in node.attribute
            if attribute.name == "value"
        }
        for node in graph.node:
            _free_batch(graph, node, constants, leading, before, batch)
    del graph.value_info[:]
    graph.input[0].type.tensor_type.shape.dim[0].dim_value = batch
    for output in graph.output:
        output.type.tensor_type.ClearField("shape")
    return model


def output_of_fixed_batch(found: Mapping[str, tuple[int, ...]], path: str, batch: int) -> str:
    """Describe the first output that doesn't grow with the batch; empty if all do.

    Args:
        found: Output shapes by name, of the graph with this batch; outputs with dimensions that
            depend on values (below 0) are skipped.
        path: The graph of batch 1.
        batch: The batch.
    """
    if batch == 1:
        return ""
    for output in onnx.load(path, load_external_data=False).graph.output:
        dims = output.type.tensor_type.shape.dim
        before = tuple(d.dim_value for d in dims)
        after = found.get(output.name, ())
        if not before or not after or 0 in before or min(after) < 0:
            continue
        if after != (before[0] * batch, *before[1:]):
            return f"output {output.name} becomes {list(after)}, at batch 1 it is {list(before)}"
    return ""


def _leading(model: onnx.ModelProto) -> dict[str, int]:
    """Return the first dimension of every tensor whose shape is known."""
    inferred = shape_inference.infer_shapes(model, data_prop=True).graph
    return {
        value.name: value.type.tensor_type.shape.dim[0].dim_value
        for value in (*inferred.input, *inferred.value_info, *inferred.output)
        if value.type.tensor_type.shape.dim
    }


def _free_batch(
    graph: onnx.GraphProto,
    node: onnx.NodeProto,
    constants: Mapping[str, onnx.TensorProto],
    leading: Mapping[str, int],
    before: int,
    batch: int,
) -> None:
    """Replace the batch in the constant shape of one node."""
    if leading.get(node.input[0] if node.input else "") != before:
        return
    if node.op_type == "Reshape":
        place, first = 1, 0
        if any(a.name == "allowzero" and a.i for a in node.attribute):
            first = batch
    elif node.op_type == "Resize" and len(node.input) == 4:
        place, first = 3, batch
    else:
        return
    shape = constants.get(node.input[place])
    values = numpy_helper.to_array(shape).copy() if shape is not None else np.zeros(0, np.int64)
    if values.size and values[0] == before:
        values[0] = first
        name = f"{node.name or node.output[0]}_batch_shape"
        graph.initializer.append(numpy_helper.from_array(values, name))
        node.input[place] = name
