"""Constructs that runtimes and quantizers stumble over, written in the usual way."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from agent.graphs.compute import shapes
from agent.graphs.edits import has_subgraphs, unused_name

_PADS, _AXES = 1, 3  # inputs of a Pad


def separate_constant_outputs(graph: onnx.GraphProto) -> int:
    """Put an Identity between constants and outputs, else a cast to float16 would need both names.

    Returns:
        The number of such outputs.
    """
    if has_subgraphs(graph):
        return 0
    constants = {tensor.name: tensor for tensor in graph.initializer}
    found = [value.name for value in graph.output if value.name in constants]
    for name in found:
        source = unused_name(graph, f"{name}:constant")
        constants[name].name = source
        for node in graph.node:
            for index, read in enumerate(node.input):
                if read == name:
                    node.input[index] = source
        graph.node.append(helper.make_node("Identity", [source], [name], f"{name}:identity"))
    return len(found)


def spell_out_pads(graph: onnx.GraphProto) -> int:
    """Write the sides of each Pad for all axes, where they and the rank are known.

    ONNX Runtime (seen in 1.32) moves a quantized Pad to another layout as if it had all axes.

    Returns:
        The number of changed nodes.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    known = shapes(graph)
    changed = 0
    for node in graph.node:
        names = [*node.input, *[""] * (_AXES + 1 - len(node.input))]
        if node.op_type != "Pad" or names[_AXES] not in constants or names[0] not in known:
            continue
        if names[_PADS] not in constants:
            continue
        sides = numpy_helper.to_array(constants[names[_PADS]]).reshape(2, -1)
        axes = numpy_helper.to_array(constants[names[_AXES]])
        rank = len(known[names[0]])
        every = np.zeros((2, rank), np.int64)
        every[:, axes % rank] = sides
        name = unused_name(graph, f"{node.name}:sides")
        graph.initializer.append(numpy_helper.from_array(every.reshape(-1), name))
        node.input[_PADS] = name
        del node.input[_AXES:]
        if not node.input[-1]:
            del node.input[-1]
        changed += 1
    return changed
