"""What a run needs: a runtime, a model, a camera, space, a power sensor."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from agent.config import Config
from agent.doctor.findings import Finding, Look, Machine
from agent.jobs import engines, frames, sensors

_HERE = Machine()
_LOW_DISK_MB = 1024
_PATIENCE_S = 10.0


def runtime(config: Config, machine: Machine = _HERE) -> Finding:
    """Look what would execute; on a Jetson that should be TensorRT."""
    found = engines.platform(config)
    seen = f"{found.runtime} {found.runtime_version} on {found.device}"
    reason = found.environment.get("tensorrt_reason")
    if config.runtime.kind == "auto" and reason and machine.jetson:
        return Finding(
            level="warning", what="runtime", seen=f"{seen}, without TensorRT: {reason}",
            cure="see TensorRT above; `sudo usermod -aG video,render $USER` opens the GPU",
        )  # fmt: skip
    return Finding(level="ok", what="runtime", seen=seen)


def _model(config: Config) -> Finding:
    if not config.model.path:
        return Finding(
            level="problem",
            what="model",
            seen="model.path is empty",
            cure='set path = "your.onnx" under [model], or pass --model your.onnx',
        )
    file = Path(config.model.path)
    if not file.is_file():
        return Finding(
            level="problem",
            what="model",
            seen=f"{file} is {'not a file' if file.exists() else 'not there'}",
            cure="set model.path to an ONNX file, or pass --model your.onnx",
        )
    return Finding(level="ok", what="model", seen=f"{file}, {file.stat().st_size / 1e6:.1f} MB")


def _camera(config: Config) -> Finding:
    if not config.camera.uri:
        return Finding(
            level="problem",
            what="camera",
            seen="camera.uri is empty",
            cure='set uri = "v4l2:///dev/video0" under [camera], or pass --camera URI',
        )
    with frames.open_camera(config) as camera:
        height, width = camera.read(_PATIENCE_S).image.shape[:2]
        return Finding(level="ok", what="camera", seen=f"{camera.source}, {width}x{height}")


def _storage(config: Config) -> Finding:
    folder = Path(config.storage.dir).absolute()
    # a folder that is not there yet is made by the first run: what counts is whether it can be
    there = next(place for place in (folder, *folder.parents) if place.exists())
    with tempfile.TemporaryDirectory(prefix=".quantd-doctor-", dir=there):
        free_mb = shutil.disk_usage(there).free / 1e6
    seen = f"{folder}, {free_mb:.0f} MB free"
    if free_mb < max(_LOW_DISK_MB, config.storage.max_mb / 4):
        cure = f"`df -h {there}`: free some space, or set storage.dir to a larger disk"
        return Finding(level="warning", what="storage", seen=seen, cure=cure)
    return Finding(level="ok", what="storage", seen=seen)


def _power(config: Config) -> Finding:
    source, reason = sensors.power_source(config)
    if source:
        return Finding(level="ok", what="power sensor", seen=source)
    cure = (
        'set measure.power = "auto"'
        if config.measure.power == "none"
        else "power and energy are null in reports; on a Jetson: `pip install jetson-stats`, "
        "then `systemctl restart jtop`"
    )
    return Finding(level="warning", what="power sensor", seen=reason, cure=cure)


LOOKS: Mapping[str, Look] = {
    "runtime": runtime,
    "model": _model,
    "camera": _camera,
    "storage": _storage,
    "power sensor": _power,
}
