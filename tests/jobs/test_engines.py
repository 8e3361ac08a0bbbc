"""What the composition root decides by itself: which engines may be loaded on this machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from agent import config as configuration
from agent.config import Config
from agent.core.records import Platform
from agent.core.release.upgrade import conditions
from agent.jobs import engines, evaluating
from tests.fakes import cuda_graphs, gpu
from tests.support import quant_graphs
from tests.support.onnx_runs import random_inputs

ORIN = Platform(
    runtime="tensorrt", runtime_version="10.3", scheme="S8S8-FP16", fp16_reason="", device="Orin",
    environment={"board": "Nano", "compute_capability": "8.7", "driver": "1", "l4t": "36.4"},
)  # fmt: skip


@pytest.fixture
def asked(monkeypatch):
    """The only GPU of this test is one that answers what it is."""
    kinds = []

    def platform(config):
        kinds.append((config.runtime.kind, config.runtime.compute_capability))
        return ORIN

    monkeypatch.setattr(evaluating, "platform", platform)
    return kinds


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        ({}, ""),
        ({"version": "8.6"}, ""),  # TensorRT itself says whether it loads another version's
        ({"l4t": "35.1"}, ""),
        ({"compute_capability": "11.0"}, "compute capability 11.0, now 8.7"),
        ({"device": "Thor"}, "device Thor, now Orin"),
        ({"board": "AGX"}, "board AGX, now Nano"),
    ],
)
def test_a_plan_of_another_device_is_refused(asked, change, refused):
    assert evaluating._refusal(Config(), {**conditions(ORIN), **change}) == refused
    assert asked == [("tensorrt", "")]


def test_an_onnx_file_is_portable_and_nothing_is_looked_up(asked):
    made_for = {"kind": "onnxruntime", "device": "another CPU", "board": "another board"}
    assert evaluating._refusal(Config(), made_for) == ""
    assert asked == []


@pytest.mark.parametrize(
    ("gpu_memory", "configured", "expected"),
    [("shared", 0, 1234), ("its own", 0, 0), (None, 0, 0), ("shared", 700, 700)],
)
def test_a_builder_that_shares_the_memory_gets_a_limit_where_none_is_set(
    monkeypatch, gpu_memory, configured, expected
):
    monkeypatch.setattr(engines, "scratch_mb", lambda _reserve: 1234)
    config = configuration.from_dump({"runtime": {"workspace_mb": configured}})
    found = replace(ORIN, environment={**ORIN.environment, "gpu_memory": gpu_memory})
    assert engines._workspace_mb(config, found) == expected


@pytest.mark.parametrize(("allowed", "timed"), [(True, True), (False, True), (True, False)])
def test_a_graph_is_looked_for_only_where_that_is_allowed_and_time_counts(
    monkeypatch, tmp_path, allowed, timed
):
    cuda_graphs.install(monkeypatch, gpu.install(monkeypatch))
    config = configuration.from_dump({"runtime": {"cuda_graphs": allowed}})
    model = quant_graphs.classifier(tmp_path / "m.onnx")
    with engines.runner(config, "tensorrt", Path(model), timed=timed) as runner:
        runner.bind(random_inputs(onnx.load(model), 0))
        runner.run()
        found = runner.launches()
        assert (found.reason == "no CUDA graph was asked for") is not (allowed and timed)


def test_what_tensorrts_provider_builds_is_kept_for_this_driver_only(monkeypatch, tmp_path):
    def cache(providers, driver):
        monkeypatch.setattr(engines, "environment", lambda _config: {"driver": driver})
        storage = {"dir": str(tmp_path)}
        return engines._cache(
            configuration.from_dump({"runtime": {"providers": providers}, "storage": storage})
        )

    tensorrt = ["TensorrtExecutionProvider"]
    assert cache([], "1") == ""
    assert cache(tensorrt, "1") == cache(tensorrt, "1") != cache(tensorrt, "2")
    assert cache(tensorrt, "1").startswith(str(tmp_path))
