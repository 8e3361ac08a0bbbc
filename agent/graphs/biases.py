"""Bias correction: biases that cancel the mean error of rounded weights.

Rounding the weights of a layer shifts the mean of each output channel by (W' - W) E[x], computed
from the weights and the mean input over the calibration frames. Padding zeros count as means.

Source: Nagel et al. 2019, arXiv:1906.04721, section 4.2 (bias correction).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from agent.graphs.edits import copy_of, drop_unused_initializers, group_of, set_inputs

Rounded = Mapping[str, NDArray[np.float32]]
"""Weights after rounding to INT8 and back, by layer."""


def layers_with_bias(graph: onnx.GraphProto) -> tuple[onnx.NodeProto, ...]:
    """Return the layers whose bias can be corrected: Conv with constant weights."""
    constants = {tensor.name for tensor in graph.initializer}
    return tuple(
        node
        for node in graph.node
        if node.op_type == "Conv" and all(name in constants for name in node.input[1:] if name)
    )


def bias_shifts(
    graph: onnx.GraphProto, rounded: Rounded, means: Mapping[str, NDArray[np.float32]]
) -> dict[str, NDArray[np.float32]]:
    """Return what to add to the bias of each layer, shape (out channels,).

    Args:
        graph: Of the clean model.
        rounded: Weights after rounding; other layers are skipped.
        means: Mean per channel of the layers' inputs, by tensor.
    """
    weights = {t.name: t for t in graph.initializer}
    found = {}
    for node in layers_with_bias(graph):
        if node.name in rounded and node.input[0] in means:
            before = numpy_helper.to_array(weights[node.input[1]]).astype(np.float64)
            lost = (before - rounded[node.name]).reshape(*before.shape[:2], -1).sum(axis=2)
            group = group_of(node)
            mean = means[node.input[0]].astype(np.float64).reshape(group, 1, -1)
            per_group = lost.reshape(group, -1, lost.shape[1])
            found[node.name] = (per_group * mean).sum(axis=2).reshape(-1).astype(np.float32)
    return found


def with_shifted_biases(
    model: onnx.ModelProto, shift: Mapping[str, NDArray[np.float32]], layers: Collection[str]
) -> onnx.ModelProto:
    """Return a copy of the clean model with the biases of some layers shifted."""
    whole = copy_of(model)
    biases = {t.name: t for t in whole.graph.initializer}
    changes = []
    for node in whole.graph.node:
        if node.name not in layers or node.name not in shift:
            continue
        values: Any = shift[node.name]
        if len(node.input) > 2 and node.input[2]:
            values = values + numpy_helper.to_array(biases[node.input[2]])
        changes.append((node, values))
    set_inputs(whole.graph, changes, 2, "corrected")
    drop_unused_initializers(whole.graph)
    return whole
