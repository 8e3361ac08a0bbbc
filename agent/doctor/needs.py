"""Checks of what a run needs: a runtime, a model, a camera, disk space, a power sensor."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from agent.config import Config
from agent.doctor.findings import HERE, Finding, Machine, ok, problem, warning
from agent.jobs import engines, frames, sensors
from agent.packages import installed_version, installer, pip_install, pip_uninstall

_LOW_DISK_MB = 1024
_FRAME_TIMEOUT_S = 10.0
_ONNXRUNTIMES = ("onnxruntime", "onnxruntime-gpu")


def runtime(config: Config, machine: Machine = HERE) -> Finding:
    """Check which runtime would execute; on a Jetson that should be TensorRT."""
    found = engines.platform(config)
    seen = f"{found.runtime} {found.runtime_version} on {found.device}"
    both = [one for one in _ONNXRUNTIMES if installed_version(one)]
    if len(both) > 1:
        return warning(
            f"{seen}; {' and '.join(both)} are both installed and overwrite each other's files",
            f"{pip_uninstall(*both)}, then {pip_install(_onnxruntime(machine))}",
        )
    reason = found.environment.get("tensorrt_reason")
    if config.runtime.kind == "auto" and reason and machine.jetson:
        return warning(
            f"{seen}, without TensorRT: {reason}",
            "see TensorRT above; `sudo usermod -aG video,render $USER` opens the GPU",
        )
    return ok(seen)


def _onnxruntime(machine: Machine) -> str:
    """Return the distribution for this machine: a Jetson's GPU is TensorRT's."""
    return _ONNXRUNTIMES[machine.has("proc/driver/nvidia/version") and not machine.jetson]


def model(config: Config) -> Finding:
    """Check that the model is a file."""
    if not config.model.path:
        return problem(
            "model.path is empty", 'set path = "your.onnx" under [model], or pass --model your.onnx'
        )
    file = Path(config.model.path)
    if not file.is_file():
        return problem(
            f"{file} {'is not a file' if file.exists() else 'does not exist'}",
            "set model.path to an ONNX file, or pass --model your.onnx",
        )
    return ok(f"{file}, {file.stat().st_size / 1e6:.1f} MB")


def camera(config: Config) -> Finding:
    """Check that the camera delivers a frame."""
    if not config.camera.uri:
        return problem(
            "camera.uri is empty",
            'set uri = "v4l2:///dev/video0" under [camera], or pass --camera URI',
        )
    with frames.open_camera(config) as opened:
        height, width = opened.read(_FRAME_TIMEOUT_S).image.shape[:2]
        return ok(f"{opened.source}, {width}x{height}")


def storage(config: Config) -> Finding:
    """Check that the storage folder is writable and has space."""
    folder = Path(config.storage.dir).absolute()
    # the first run creates the folder: check that its nearest existing parent is writable
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    with tempfile.TemporaryDirectory(prefix=".quantd-doctor-", dir=existing):
        free_mb = shutil.disk_usage(existing).free / 1e6
    seen = f"{folder}, {free_mb:.0f} MB free"
    if free_mb < max(_LOW_DISK_MB, config.storage.max_mb / 4):
        return warning(
            seen, f"`df -h {existing}`: free some space, or set storage.dir to a larger disk"
        )
    return ok(seen)


def power(config: Config, machine: Machine = HERE) -> Finding:
    """Check which sensor would measure power."""
    source, reason = sensors.power_source(config)
    if source:
        return ok(source)
    if config.measure.power == "none":
        return warning(reason, 'set measure.power = "auto"')
    cure = "power and energy are null in reports"
    if machine.jetson:
        cure += f"; {pip_install('jetson-stats')}, then `sudo sh {installer()} --jtop`"
    return warning(reason, cure)
