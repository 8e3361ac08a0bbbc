"""Engines built by TensorRT-RTX on a machine without a GPU, from the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest

from agent.core.errors import ConfigError
from agent.demo.material import car_video, face_detector
from tests.support.engine_builds import CAPABILITY, require_tensorrt
from tests.support.parts import missing_part
from tests.support.scene import quantd, write_config

pytestmark = pytest.mark.slow
_CONFIGS = Path(__file__).parents[2] / "configs"
_FOR = ("--runtime", "tensorrt", "--compute-capability", CAPABILITY)
_COMPUTE = {"CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY"}


@pytest.fixture(scope="module", autouse=True)
def _tensorrt() -> None:
    require_tensorrt()


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the configuration of CenterFace on a real video, small enough to be quick."""
    folder = tmp_path_factory.mktemp("faces")
    try:
        video, model = car_video(), face_detector()
    except ConfigError as e:
        missing_part("the demo's material", e.message)
    return write_config(
        folder,
        camera={"uri": f"file://{video}", "fps": 60.0},
        model={
            "name": "faces",
            "path": str(model),
            "card": str(_CONFIGS / "models" / "centerface.toml"),
        },
        model_input={"width": 320, "height": 256, "pixels": "0..255"},
        model_task={"kind": "detection"},
        calibration={"frames": 8, "holdout": 4, "window_s": 2.0},
        search={"calibrators": ["percentile"]},
        limits={"sqnr_db": 20.0},
    )


def layers(config: Path, candidate: dict) -> dict[str, str]:
    """Return the precision of every layer that computes, by the file beside the engine."""
    where = config.parent / "state" / "artifacts" / candidate["engine"]["digest"]
    layers = json.loads((where / "layers.json").read_bytes())
    assert layers["engine"] is None
    assert layers["engine_reason"]
    return {x["name"]: x["precision"] for x in layers["network"] if x["type"] in _COMPUTE}


def crossed(config: Path, *more: str) -> dict[str, dict]:
    """Return what `quantd build` made for a GPU that is not here, by candidate."""
    done = quantd("build", "-c", config, *_FOR, "--json", *more, timeout_s=280)
    assert done.returncode == 0, done.stderr
    built = {one["id"]: one for one in json.loads(done.stdout)}
    for one in built.values():
        assert one["failure"] == ""
        assert one["engine"]["runnable"] is False
        assert one["engine"]["device"] == f"compute capability {CAPABILITY}"
        assert one["engine"]["runtime_version"].startswith("RTX ")
        assert one["engine"]["size_bytes"] > 1_000_000
    return built


def test_a_real_detector_builds_in_fp16_for_a_gpu_that_is_not_here(faces: Path) -> None:
    text = faces.read_text()
    config = faces.with_name("fp16.toml")
    config.write_text(text.replace("[search]", '[search]\nprecisions = ["fp32", "fp16"]'))
    built = crossed(config)
    assert set(built) == {"fp32", "fp16"}
    assert set(layers(faces, built["fp32"]).values()) == {"FLOAT"}
    assert set(layers(faces, built["fp16"]).values()) == {"HALF"}
    again = quantd("build", "-c", config, *_FOR)  # all of it found again
    assert again.returncode == 0, again.stderr
    assert f"cross-built for compute capability {CAPABILITY} by TensorRT RTX" in again.stdout
    assert "not executed here" in again.stdout


@pytest.mark.faults  # minutes of trials and of the search for int8-mixed
def test_int8_of_a_real_detector_builds_for_a_gpu_that_is_not_here(faces: Path) -> None:
    built = crossed(faces)
    members = [name for name in built if name.startswith("int8-mixed-")]
    assert set(built) == {"fp32", "fp16", "int8-percentile", *members}
    assert set(layers(faces, built["int8-percentile"]).values()) == {"INT8"}
    assert 1 <= len(members) <= 4
    for name in members:
        mixed = layers(faces, built[name])
        kept = {layer for layer, precision in mixed.items() if precision != "INT8"}
        assert kept == set(built[name]["quantized"]["kept_float"])
        assert len(kept) < len(mixed)
        assert "another device" in built[name]["quantized"]["weighed_by"]


def test_what_was_not_measured_is_never_offered(tmp_path: Path) -> None:
    config = write_config(
        tmp_path,
        search={"precisions": ["fp32"]},
        runtime={"kind": "tensorrt", "compute_capability": CAPABILITY},
    )
    done = quantd("optimize", "-c", config, "--json")
    assert done.returncode == 3, done.stderr
    report = json.loads(done.stdout)
    jsonschema.validate(report, json.loads((_CONFIGS / "schema" / "report.json").read_bytes()))
    assert len(report["candidates"]) == 1
    for one in report["candidates"]:
        assert one["verdict"] == "rejected"
        assert "cross-built" in one["reasons"][0]
        assert one["measured"] is None
        assert one["engine"]["bytes"] > 0
    assert report["choice"]["infeasible"]
    assert report["activation"]["state"] == "not_attempted"
    assert not (tmp_path / "state" / "current").exists()
    # the very same file, where the runtime is what is here
    found = quantd("optimize", "-c", config, "--runtime", "auto", "--json")
    assert found.returncode == 0, found.stderr
    chosen = json.loads(found.stdout)["choice"]["candidate"]
    facts = json.loads((tmp_path / "state" / "current" / "model.json").read_bytes())
    assert (facts["candidate"], facts["runtime"]["kind"]) == (chosen, "onnxruntime")


@pytest.mark.parametrize(
    ("options", "seen", "advice"),
    [
        (("--compute-capability", "8.7"), "8.7", "supported: 7.5, "),
        ((), "TensorRT can't be used: ", "runtime.compute_capability"),
        (("--compute-capability", "SM86"), "SM86", "major.minor"),
    ],
)
def test_what_can_not_be_built_for_is_an_error_before_the_camera_is_opened(
    tmp_path: Path, options: tuple[str, ...], seen: str, advice: str
) -> None:
    config = write_config(tmp_path)
    done = quantd("build", "-c", config, "--runtime", "tensorrt", *options)
    assert done.returncode in {1, 2}
    assert seen in done.stderr
    assert advice in re.sub(r"\s+", " ", done.stderr)
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("state/artifacts/*"))
