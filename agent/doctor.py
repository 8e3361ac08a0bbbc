"""What a machine needs for quantd, looked at one by one, each with what mends it."""

from __future__ import annotations

import shlex
import shutil
import socket
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.config import Config
from agent.core.errors import QuantdError
from agent.wiring import heavy

_LOW_DISK_MB = 1024
_PATIENCE_S = 10.0
_CURES = {
    "runtime": "`pip install 'quantd[cpu]'`; on a Jetson `apt install python3-libnvinfer`",
    "model": "set model.path to an ONNX file, or pass --model your.onnx",
    "camera": "check camera.uri, or pass --camera URI",
    "storage": "set storage.dir to a folder you may write",
    "power sensor": 'set measure.power = "auto"',
    "broker": "check mqtt.host, mqtt.port and the network",
}  # where the error itself has no hint


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line: level ok, warning or problem; what was looked at, seen, and what mends it."""

    level: str
    what: str
    seen: str
    cure: str = ""


def examine(
    config: Config, looks: Mapping[str, Callable[[Config], Finding]] | None = None
) -> list[Finding]:
    """Look at everything; nothing is changed and a failed look is a finding, not an error.

    Args:
        config: What the machine is to be used for.
        looks: What to look at; everything if not given.
    """
    return [_look(config, what, look) for what, look in (LOOKS if looks is None else looks).items()]


def _look(config: Config, what: str, look: Callable[[Config], Finding]) -> Finding:
    try:
        return look(config)
    except QuantdError as error:
        seen, cure = error.message, error.hint
    except ImportError as error:
        seen, cure = f"a library is missing: {error}", "`pip install 'quantd[cpu]'`"
    except OSError as error:
        seen, cure = str(error), ""
    return Finding(level="problem", what=what, seen=seen, cure=cure or _CURES[what])


def _runtime(config: Config) -> Finding:
    found = heavy.platform(config)
    return Finding(
        level="ok",
        what="runtime",
        seen=f"{found.runtime} {found.runtime_version} on {found.device}",
    )


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
    with heavy.open_camera(config) as camera:
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
    source, reason = heavy.power_source(config)
    if source:
        return Finding(level="ok", what="power sensor", seen=source)
    cure = (
        'set measure.power = "auto"'
        if config.measure.power == "none"
        else "power and energy are null in reports; on a Jetson: `pip install jetson-stats`, "
        "then `systemctl restart jtop`"
    )
    return Finding(level="warning", what="power sensor", seen=reason, cure=cure)


def _broker(config: Config) -> Finding:
    host, port = config.mqtt.host, config.mqtt.port
    if not host:
        return Finding(
            level="warning",
            what="broker",
            seen="mqtt.host is empty",
            cure='no reports over MQTT; set host = "your.broker" under [mqtt]',
        )
    try:
        with socket.create_connection((host, port), timeout=_PATIENCE_S):
            return Finding(level="ok", what="broker", seen=f"{host}:{port} takes connections")
    except (OSError, UnicodeError) as e:  # a name that can't be one is a UnicodeError
        return Finding(
            level="problem",
            what="broker",
            seen=f"{host}:{port}: {e}",
            cure=f"`nc -vz {shlex.quote(host)} {port}` must succeed: "
            "check mqtt.host, mqtt.port and the network",
        )


LOOKS: Mapping[str, Callable[[Config], Finding]] = {
    "runtime": _runtime,
    "model": _model,
    "camera": _camera,
    "storage": _storage,
    "power sensor": _power,
    "broker": _broker,
}
"""What is looked at, in the order in which it is told."""
