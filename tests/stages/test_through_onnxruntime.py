"""Evaluate and measure with the real runner, clock and memory counter on small graphs."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest
from onnx import numpy_helper

from agent.adapters.engines.runner_onnxruntime import OnnxruntimeRunner
from agent.adapters.host.clock import SystemClock
from agent.config import Measure
from agent.core.fidelity.comparison import Comparison
from agent.core.measurement.power import Conditions
from agent.core.records import Digest
from agent.stages.evaluate import evaluate
from agent.stages.measuring.measure import measure
from tests.support.candidates import engine
from tests.support.quant_graphs import classifier, detector

pytestmark = pytest.mark.slow


def frames(*shape: int, count: int = 4) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [{"x": rng.random(shape, np.float32)} for _ in range(count)]


def disturbed(source: str, target: Path, share: float) -> str:
    """Save a model with noise in its weights: a worse engine whose error grows with `share`."""
    model = onnx.load(source)
    rng = np.random.default_rng(0)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        noise = (values * share * rng.standard_normal(values.shape)).astype(values.dtype)
        tensor.CopyFrom(numpy_helper.from_array(values + noise, tensor.name))
    onnx.save(model, target)
    return str(target)


def judge(path: str, baseline: str, inputs: list[dict[str, np.ndarray]], kind: str):
    process = psutil.Process()
    return evaluate(
        engine(),
        digest=Digest("d"),
        make_runner=lambda: OnnxruntimeRunner(path, 1),
        make_baseline=lambda: OnnxruntimeRunner(baseline, 1),
        tensors=lambda: iter(inputs),
        comparison=lambda: Comparison(kind),
        memory=lambda: process.memory_info().rss,
        progress=lambda *_: None,
    )


def test_fidelity_through_the_runtime_falls_with_the_damage(tmp_path):
    plain = classifier(tmp_path / "plain.onnx")
    inputs = frames(1, 3, 16, 16)
    same = judge(plain, plain, inputs, "classification")
    assert same.identical
    assert (same.fidelity.sqnr_db, same.fidelity.task) == (None, {"top1": 1.0, "top5": 1.0})
    sqnr_db = [
        judge(
            disturbed(plain, tmp_path / f"{share}.onnx", share), plain, inputs, "classification"
        ).fidelity.sqnr_db
        for share in (0.001, 0.01, 0.1)
    ]
    assert sqnr_db == sorted(sqnr_db, reverse=True)
    assert sqnr_db[0] - sqnr_db[1] == pytest.approx(20, abs=3)


def heavy(source: str, target: Path) -> str:
    """Save a model that adds 0 times the largest of 160 MB of products to its output."""
    model = onnx.load(source)
    model.graph.node[-1].output[0] = "small"
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.ones((10, 4_000_000), np.float32), "big"),
            numpy_helper.from_array(np.zeros(1, np.float32), "zero"),
        ]
    )
    make = onnx.helper.make_node
    model.graph.node.extend(
        [
            make("MatMul", ["small", "big"], ["products"], "products"),
            make("ReduceMax", ["products"], ["most"], "most", keepdims=1),
            make("Mul", ["most", "zero"], ["nothing"], "nothing"),
            make("Add", ["small", "nothing"], ["y"], "sum"),
        ]
    )
    onnx.save(model, target)
    return str(target)


def test_memory_is_that_of_the_engine_and_not_of_the_baseline(tmp_path):
    small = classifier(tmp_path / "small.onnx")
    large = heavy(small, tmp_path / "large.onnx")
    inputs = frames(1, 3, 16, 16)
    assert judge(small, large, inputs, "generic").memory_mb < 60
    assert 150 < judge(large, small, inputs, "generic").memory_mb < 500


def test_candidates_measured_together_keep_their_order_and_their_own_time(tmp_path):
    paths = {
        "detector": (detector(tmp_path / "d.onnx"), (1, 3, 32, 32)),
        "classifier": (classifier(tmp_path / "c.onnx"), (1, 3, 16, 16)),
        "broken": (str(tmp_path / "absent.onnx"), (1, 3, 16, 16)),
    }
    begin = time.monotonic()
    found = measure(
        {name: engine(name=name) for name in paths},
        Measure(warmup_s=0.2, duration_s=0.4, rounds=4, idle_s=0.0),
        make_runner=lambda one: OnnxruntimeRunner(paths[one.digest][0], 1),
        tensors=lambda one: frames(*paths[one.digest][1]),
        power="none here",
        clock=SystemClock(),
        conditions=Conditions,
        seed=0,
        progress=lambda *_: None,
    )
    assert time.monotonic() - begin < 5
    assert list(found.failed) == ["broken"]
    assert "absent.onnx" in found.failed["broken"]
    quick, slow = (found.measured[name].latency_ms for name in ("classifier", "detector"))
    assert 0 < quick.p50 < slow.p50 < 50
    for one in found.measured.values():
        assert one.samples > 50
        quickest_ms, slowest_ms = min(one.sketch_ms), max(one.sketch_ms)
        assert 1e3 / slowest_ms < one.throughput_fps < 1e3 / quickest_ms
