"""Probes return exact extremes, an even sample and NaN of a tensor."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from agent.core.quantization.histogram import merge
from agent.graphs.probes import FIRST_ROWS, PARTS, SAMPLE, first_rows, stride_of, with_probes
from agent.graphs.statistics import Collector


def doubled(*shape: int) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"], "twice")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def probe(model: onnx.ModelProto, x: np.ndarray, turn: int) -> dict[str, np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        with_probes(model, ["x", "y"]).SerializeToString(), options
    )
    minimum, maximum, sample = session.run(None, {"x": x, FIRST_ROWS: first_rows(turn)})[
        len(PARTS) :
    ]
    return {"minimum": minimum.min(), "maximum": maximum.max(), "sample": sample}


@given(size=st.integers(1, 3000), seed=st.integers(0, 9))
def test_small_tensors_are_sampled_whole(size, seed):
    x = np.random.default_rng(seed).standard_normal(size).astype(np.float32)
    found = probe(doubled(size), x, seed)
    np.testing.assert_array_equal(found["sample"], 2 * x)
    assert (found["minimum"], found["maximum"]) == (2 * x.min(), 2 * x.max())


@pytest.mark.parametrize(
    ("shape", "stride"),
    [
        ((1, 8, 50, 83), 2),
        ((1, 32, 120, 160), 15),
        ((1, 350, 13, 7), 1),
        ((1, 500, 13, 7), 2),
        ((1, 300_000), 1),
        ((3, 5, 70_001), 15),
    ],
)
def test_large_tensors_are_sampled_evenly_but_their_extremes_are_exact(shape, stride):
    assert stride_of(shape) == stride
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    x.flat[-1] = -7.0
    model = doubled(*shape)
    seen = [probe(model, x, turn) for turn in range(stride)]
    assert all((f["minimum"], f["maximum"]) == (-14.0, 2 * x.flat[-2]) for f in seen)
    sizes = [f["sample"].size for f in seen]
    assert min(sizes) >= SAMPLE * 0.9 or stride == 1
    assert max(sizes) - min(sizes) <= max(sizes) / 5
    # after as many frames as the stride every row was seen once
    whole = np.sort(np.concatenate([f["sample"].reshape(-1) for f in seen]))
    np.testing.assert_array_equal(whole, np.sort(2 * x.reshape(-1)))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, np.nan], (np.nan, np.nan)),
        ([1.0, -np.inf], (-np.inf, 2.0)),
        ([np.inf, -np.inf], (-np.inf, np.inf)),
        ([3.0, -1.0], (-2.0, 6.0)),
    ],
)
def test_not_a_number_is_reported(values, expected):
    x = np.zeros(1000, np.float32)
    x[-2:] = values
    collector = Collector(doubled(x.size), ["y"], 1)
    with collector.counting() as pool:
        collector.add({"x": x}, pool)
    (found,) = collector.histograms(["y"], set())
    np.testing.assert_array_equal((found.minimum, found.maximum), expected)


def test_frames_are_merged_as_they_come():
    rng = np.random.default_rng(0)
    frames = [rng.standard_normal(500).astype(np.float32) * 3**i for i in range(4)]
    model = doubled(500)

    def collected(some):
        collector = Collector(model, ["y"], 1)
        with collector.counting() as pool:
            for frame in some:
                collector.add({"x": frame}, pool)
        return next(collector.histograms(["y"], set()))

    whole = collected(frames)
    parts = merge(collected(frames[:3]), collected(frames[3:]))
    np.testing.assert_array_equal(whole.counts, parts.counts)
    assert (whole.minimum, whole.maximum) == (parts.minimum, parts.maximum)
