"""Bad input: a clear error, the right exit code, and what was active stays active."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.support.scene import quantd, write_config

pytestmark = pytest.mark.slow


def refused(config: Path, *more: object) -> tuple[int, dict[str, Any]]:
    done = quantd("optimize", "-c", config, "--json", *more)
    assert "Traceback" not in done.stderr, done.stderr
    assert not list(config.parent.glob("state/artifacts/.work-*"))
    assert not (config.parent / "state" / "current").exists()
    return done.returncode, json.loads(done.stdout)["error"]


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({"camera": {"fpz": 15}}, "camera.fpz"),
        ({"measure": {"duration_s": "30 s"}}, "duration_s"),
        ({"limits": {"latency_p99_s": 0.03}}, "latency_p99_s"),
        ({"search": {"precisions": ["int4"]}}, "int4"),
        ({"camera": {"uri": "gopher://x"}}, "gopher"),
        ({"camera": {"uri": ""}}, "camera.uri"),
        ({"model": {"path": ""}}, "model.path"),
        ({"calibration": {"frames": 0}}, "out of range"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_configuration_is_usage(tmp_path: Path, tables: dict, words: str) -> None:
    code, error = refused(write_config(tmp_path, **tables))
    assert code == 2
    assert words in error["message"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not an ONNX model"),
        (b"hello, this is not a model\n" * 40, "not an ONNX model"),
        (None, "No such file"),
    ],
    ids=["empty", "text", "missing"],
)
def test_a_bad_model_is_named(tmp_path: Path, body: bytes | None, words: str) -> None:
    model = tmp_path / "bad.onnx"
    if body is not None:
        model.write_bytes(body)
    code, error = refused(write_config(tmp_path), "--model", model)
    assert code == 1
    assert words in error["message"]
    assert error["hint"]


def test_a_truncated_model_is_named(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    whole = (tmp_path / "small.onnx").read_bytes()
    (tmp_path / "half.onnx").write_bytes(whole[: len(whole) // 2])
    code, error = refused(config, "--model", tmp_path / "half.onnx")
    assert code == 1
    assert "half.onnx" in error["message"]


@pytest.mark.parametrize(
    "uri",
    ["file:///nowhere.mp4", "images:///nowhere", "http://127.0.0.1:9/cam.mjpg", "csi://0",
     "v4l2:///dev/video97", "rtsp://user:secret@127.0.0.1:9/1"],
)  # fmt: skip
def test_a_missing_camera_is_an_error_without_its_password(tmp_path: Path, uri: str) -> None:
    code, error = refused(write_config(tmp_path), "--camera", uri)
    assert code == 1
    assert error["hint"]
    assert "secret" not in json.dumps(error)


def test_too_few_good_frames_are_an_error_with_what_was_seen(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    for picture in (tmp_path / "pictures").iterdir():
        cv2.imwrite(str(picture), np.zeros((120, 160, 3), np.uint8))
    code, error = refused(config)
    assert (code, error["code"]) == (1, "too_few_frames")
    assert "exposure" in error["message"] + error["hint"]


def test_ctrl_c_cleans_up(tmp_path: Path) -> None:
    config = write_config(tmp_path, calibration={"window_s": 30.0})
    child = subprocess.Popen(
        [sys.executable, "-m", "agent", "optimize", "-c", str(config)],
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob("state/artifacts/.work-*/frames/*.png")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    _, stderr = child.communicate(timeout=15)
    assert child.returncode == 130
    assert "interrupted" in stderr
    assert "Traceback" not in stderr
    assert not list(tmp_path.glob("state/artifacts/.work-*"))


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
def test_a_full_disk_is_reported_and_the_old_release_stays(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(state)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    try:
        config = write_config(tmp_path)
        done = quantd("optimize", "-c", config, "--json")
        error = json.loads(done.stdout)["error"]
        assert done.returncode == 1
        assert error["code"] == "disk_full", error
        assert "free" in error["message"]
        assert not (state / "current").exists()
    finally:
        subprocess.run(["umount", str(state)], check=True)


def test_a_missing_library_of_the_system_is_an_error_with_its_package(tmp_path):
    (tmp_path / "site/cv2").mkdir(parents=True)
    broken = "raise ImportError('libGL.so.1: cannot open shared object file')\n"
    (tmp_path / "site/cv2/__init__.py").write_text(broken)
    config = write_config(tmp_path)
    done = quantd("optimize", "-c", config, "--json", PYTHONPATH=tmp_path / "site")
    assert "Traceback" not in done.stderr, done.stderr
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["code"]) == (1, "missing_part")
    assert "libGL.so.1" in error["message"]
    assert error["hint"] == "`sudo apt install libgl1`"


def test_another_model_than_the_decoding_is_for_is_refused_before_the_camera(
    tmp_path: Path,
) -> None:
    decode = {"kind": "centers", "scores": "537", "sizes": "538", "offsets": "539"}
    config = write_config(tmp_path, model_task={"kind": "detection"}, model_task_decode=decode)
    code, error = refused(
        config, "--model", tmp_path / "small.onnx", "--camera", "images:///nowhere"
    )
    assert (code, error["code"]) == (2, "decode")
    assert "the model's outputs: mask 1x1x32x32" in error["hint"]


def test_a_baseline_that_finds_nothing_is_shown_before_the_search_and_in_the_report(
    tmp_path: Path,
) -> None:
    """A scale that leaves no picture: every pixel of the mask is 0.5."""
    config = write_config(
        tmp_path, model_input={"scale": 1e-9}, search={"precisions": ["fp32"]},
        limits={"agreement": 0},
    )  # fmt: skip
    done = quantd("optimize", "-c", config, "--json")
    shown = done.stderr.splitlines()
    hardly, nothing = json.loads(done.stdout)["warnings"]
    assert "black and white hardly differ" in hardly
    assert "FP32 finds nothing in 8 frames (a mask)" in nothing
    assert "is the input right? It is fed 64x64 RGB NCHW float32" in nothing
    first = next(number for number, line in enumerate(shown) if line.startswith("quantize"))
    for words in (hardly, nothing):
        assert f"warning: {words}" in shown[:first]


def test_a_metric_that_can_not_be_loaded_is_refused_before_anything_is_built(
    tmp_path: Path,
) -> None:
    config = write_config(tmp_path, model_task={"kind": "nowhere:metric"})
    code, error = refused(config)
    assert code == 2
    assert "No module named 'nowhere'" in error["message"]
    assert len(list(tmp_path.glob("state/artifacts/*/model.onnx"))) == 1  # the clean graph
