"""Biases that make up for what rounding does to the mean."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper

from agent.graphs.biases import bias_shifts, layers_with_bias, with_shifted_biases
from agent.graphs.channels import channel_means
from agent.graphs.qdq import load_inferred
from agent.graphs.rounding import rounded_weights
from tests.support import quant_graphs
from tests.support.onnx_runs import random_inputs, run


@pytest.mark.parametrize("layer", ["stem", "expand", "depthwise", "project", "head"])
def test_the_mean_of_a_layer_is_what_it_was(tmp_path, layer):
    """Coarse weights shift the mean of a layer's channels; the bias takes it back."""
    model = load_inferred(quant_graphs.inverted(tmp_path / "m.onnx", spread=2))
    graph = model.graph
    (node,) = [n for n in graph.node if n.name == layer]
    rng = np.random.default_rng(3)
    inputs = {"x": (3 + rng.standard_normal((1, 8, 16, 16))).astype(np.float32)}
    values = rounded_weights(model, "S8S8")[layer]
    name = node.input[1]
    coarse = np.round(values * 4) / 4
    means = channel_means(model, [n.input[0] for n in layers_with_bias(graph)], [inputs], 1)
    shift = bias_shifts(graph, {layer: coarse}, means)
    assert set(shift) == {layer}

    def mean_of(trial):
        for tensor in trial.graph.initializer:
            if tensor.name == name:
                tensor.CopyFrom(numpy_helper.from_array(coarse, name))
        return channel_means(trial, [node.output[0]], [inputs], 1)[node.output[0]]

    truth = channel_means(model, [node.output[0]], [inputs], 1)[node.output[0]]
    plain = mean_of(load_inferred(str(tmp_path / "m.onnx")))
    mended = mean_of(with_shifted_biases(model, shift, [layer]))
    error, left = np.abs(plain - truth).max(), np.abs(mended - truth).max()
    # the border of a padded layer sees zeros instead of means
    assert left < (0.35 if layer == "depthwise" else 0.01) * error


def test_layers_that_are_not_named_keep_their_bias(tmp_path):
    model = load_inferred(quant_graphs.inverted(tmp_path / "m.onnx"))
    inputs = random_inputs(model)
    shift = {"expand": np.ones(24, np.float32)}
    same = with_shifted_biases(model, shift, [])
    np.testing.assert_array_equal(run(same, inputs)[0], run(model, inputs)[0])
    assert not np.array_equal(
        run(with_shifted_biases(model, shift, ["expand"]), inputs)[0], run(model, inputs)[0]
    )
