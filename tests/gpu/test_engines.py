"""Every recipe as an engine on a real GPU: built, run, compared, counted and timed.

`pytest -m gpu tests/gpu` prints at its end what belongs into RESULTS.md.
"""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from agent.adapters.engines.builder_tensorrt import FILE, BuilderSettings, TensorrtBuilder
from agent.adapters.engines.profiler_tensorrt import TensorrtProfiler
from agent.adapters.engines.runner_tensorrt import TensorrtRunner
from agent.adapters.graphs.intake import OnnxIntake
from agent.adapters.host.platform import find_platform
from agent.core.errors import BuildError, ConfigError
from agent.core.frames.input_spec import InputSpec
from agent.core.records import Platform
from agent.demo.material import face_detector
from tests.support import quant_graphs
from tests.support.onnx_runs import run, sqnr_db
from tests.support.parts import missing_part
from tests.support.recipes import RECIPES, frames, quantized

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(1800)]
_RUNS = 200
_LEAST_DB = {"fp32": 60.0, "fp16": 30.0}
"""Against the same graph on ONNX Runtime. FP32 is FP32 and not TF32, which has 50 dB less; INT8
rounds a value between two steps as it likes."""
_LEAST_INT8_DB = 15.0


@pytest.fixture(scope="module")
def gpu() -> Platform:
    try:
        return find_platform("tensorrt", {})
    except BuildError as e:
        missing_part("an NVIDIA GPU with TensorRT and PyCUDA", e.message)


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest, gpu: Platform) -> Iterator[list[str]]:
    """Collect the rows of RESULTS.md and print them when all have been made."""
    rows: list[str] = []
    yield rows
    facts = gpu.environment
    lines = (
        "",
        f"{gpu.device}, compute capability {facts['compute_capability']}, "
        f"TensorRT {gpu.runtime_version}, ONNX Runtime {facts['onnxruntime']}, "
        f"Python {platform.python_version()} on {facts['machine']}, kernel {facts['kernel']}",
        "",
        "| model | recipe | p50 wall, ms | p50 GPU, ms | SQNR against ONNX Runtime, dB "
        "| INT8 / FP16 / FP32 layers | GPU memory, MB | build, s | launched by |",
        "|---|---|---|---|---|---|---|---|---|",
        *sorted(rows),
    )
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        sys.stdout.write("\n".join(lines) + "\n")


@pytest.fixture(scope="module", params=["detector", "centerface"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "detector":
        return Path(quant_graphs.detector(folder / "model.onnx"))
    try:
        raw = str(face_detector())
    except ConfigError as e:
        missing_part("the demo's material", e.message)
    OnnxIntake().clean(raw, "faces", InputSpec(width=640, height=480), str(folder))
    return folder / "model.onnx"


def timed(runner: TensorrtRunner) -> tuple[float, float]:
    """Return the median of the wall time and of the GPU's own, ms."""
    wall, device = [], []
    for _ in range(_RUNS):
        begin = time.monotonic_ns()
        runner.run()
        wall.append((time.monotonic_ns() - begin) / 1e6)
        device.append(runner.device_ms() or 0.0)
    return float(np.median(wall)), float(np.median(device))


@pytest.mark.parametrize("recipe", RECIPES)
def test_an_engine_computes_what_its_graph_does(gpu, table, model, tmp_path, recipe):
    graph, layers, floating = quantized(recipe, str(model), tmp_path)
    begin = time.monotonic()
    settings = BuilderSettings(device=gpu.device)
    _, found = TensorrtBuilder(settings).build(graph, 1, str(tmp_path), lambda *_: None)
    build_s = time.monotonic() - begin
    inputs = frames(str(model), 1)[0]
    with TensorrtRunner(str(tmp_path / FILE), graphs=True) as runner:
        runner.bind(inputs)
        for _ in range(20):
            runner.run()
        outputs = list(runner.outputs().values())
        memory_mb = (runner.device_bytes() or 0) / 1e6
        wall_ms, device_ms = timed(runner)
        launches = runner.launches()
    profile = TensorrtProfiler(graph).profile(str(tmp_path / FILE), [inputs])
    worst_db = min(map(sqnr_db, run(graph, inputs, plain=True), outputs))
    table.append(
        f"| {model.parent.name.rstrip('0123456789')} | {recipe} | {wall_ms:.3f} | {device_ms:.3f} "
        f"| {worst_db:.1f} | {found.int8} / {found.fp16} / {found.fp32} | {memory_mb:.0f} "
        f"| {build_s:.0f} | {launches.by}: {launches.reason} |"
    )
    assert worst_db > _LEAST_DB.get(recipe, _LEAST_INT8_DB)
    assert 0 < device_ms < wall_ms
    assert "cuda-bindings" not in launches.reason  # pip install 'cuda-bindings<13'
    assert found.told_by == "TensorRT's engine inspector"
    layers_us = sum(one.time_us for one in profile.kernels)
    assert sum(one.time_us for one in profile.kernels if one.tensor) > layers_us / 2 > 0
    if recipe in _LEAST_DB:
        assert found.int8 == 0
    else:  # several layers may be one kernel, none of those that were left in float is among them
        assert 0 < found.int8 <= len(layers - floating)
