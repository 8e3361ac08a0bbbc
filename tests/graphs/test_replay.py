"""A graph run piece by piece: whatever is kept in between, its values are those of the whole."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from agent.core.errors import CalibrationError
from agent.graphs.edits import copy_of, sort_topologically
from agent.graphs.qdq import load_inferred, quantized_tensors, with_qdq
from agent.graphs.refit import with_layers
from agent.graphs.replay import Replay
from agent.graphs.sessions import session
from tests.support import quant_graphs
from tests.support.onnx_runs import random_inputs

MAKERS = (quant_graphs.inverted, quant_graphs.detector, quant_graphs.classifier)


def placed(tmp_path, make, scheme="S8S8"):
    clean = load_inferred(make(tmp_path / "m.onnx"))
    ranges = dict.fromkeys(quantized_tensors(clean, scheme), (-6.0, 6.0))
    model = with_qdq(clean, scheme, ranges)
    sort_topologically(model.graph)
    return clean, model


def inputs_of_layers(model):
    return {n.name: n.input[0] for n in model.graph.node if n.op_type in ("Conv", "Gemm")}


def whole_run(model, tensor, frames):
    trial = copy_of(model)
    trial.graph.output.append(onnx.ValueInfoProto(name=tensor))
    opened = session(trial, 1, as_written=True)
    return [opened.run([tensor], frame)[0] for frame in frames]


@pytest.mark.parametrize("most_bytes", [0, 20_000, 10**9])
@pytest.mark.parametrize("make", MAKERS)
def test_values_are_those_of_the_whole_graph(tmp_path, make, most_bytes):
    clean, model = placed(tmp_path, make)
    frames = [random_inputs(clean, seed) for seed in range(3)]
    tensors = list(inputs_of_layers(model).values())
    replay = Replay(model, frames, 1, most_bytes)
    for index, tensor in enumerate(tensors):
        found = list(replay.values(tensor, tensors[index + 1 :], {}))
        expected = whole_run(model, tensor, frames)
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("most_bytes", [0, 10**9])
def test_changed_layers_count_from_then_on(tmp_path, most_bytes):
    clean, model = placed(tmp_path, quant_graphs.inverted)
    frames = [random_inputs(clean, seed) for seed in range(2)]
    inputs = inputs_of_layers(model)
    (first, _), *_, (last, tensor) = inputs.items()
    values = {t.name: onnx.numpy_helper.to_array(t) for t in clean.graph.initializer}
    weight = values[next(n.input[1] for n in clean.graph.node if n.name == first)]
    change = {first: (-weight, np.ones(len(weight), np.float32))}
    replay = Replay(model, frames, 1, most_bytes)
    list(replay.values(inputs[first], [tensor], {}))
    found = list(replay.values(tensor, [], change))
    whole = with_layers(model, change)
    expected = whole_run(whole, tensor, frames)
    assert last != first
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_codes_are_kept_rather_than_values(tmp_path):
    clean, model = placed(tmp_path, quant_graphs.inverted)
    frames = [random_inputs(clean)]
    tensors = list(inputs_of_layers(model).values())
    replay = Replay(model, frames, 1, 10**9)
    (value,) = replay.values(tensors[2], tensors[3:], {})
    kept = replay._kept[0]
    assert value.dtype == np.float32
    assert np.dtype(np.int8) in {one.dtype for one in kept.values()}
    assert sum(one.nbytes for one in kept.values()) < value.nbytes


def test_a_frame_that_does_not_fit_is_reported(tmp_path):
    clean, model = placed(tmp_path, quant_graphs.inverted)
    good = random_inputs(clean)
    replay = Replay(model, [good, {name: np.zeros((1, 2), np.float32) for name in good}], 1, 0)
    tensors = list(inputs_of_layers(model).values())
    with pytest.raises(CalibrationError, match="does not run on a calibration frame"):
        list(replay.values(tensors[1], tensors[2:], {}))
