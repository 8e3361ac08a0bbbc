"""What a machine needs for quantd, looked at one by one, each with what mends it."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.config import Config
from agent.core.errors import QuantdError
from agent.wiring import heavy, places

_LOW_DISK_MB = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line: level ok, warning or problem; what was looked at, seen, and what mends it."""

    level: str
    what: str
    seen: str
    cure: str = ""


def examine(config: Config) -> list[Finding]:
    """Look at everything; nothing is changed and a failed look is a finding, not an error."""
    looks: dict[str, Callable[[Config], Finding]] = {
        "runtime": _runtime,
        "model": _model,
        "camera": _camera,
        "storage": _storage,
        "power sensor": _power,
        "broker": _broker,
    }
    findings = []
    for what, look in looks.items():
        try:
            findings.append(look(config))
        except QuantdError as error:
            findings.append(
                Finding(level="problem", what=what, seen=error.message, cure=error.hint)
            )
    return findings


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
            level="problem", what="model", seen="model.path is empty", cure="set it, or --model"
        )
    size_mb = (
        Path(config.model.path).stat().st_size / 1e6 if Path(config.model.path).is_file() else None
    )
    if size_mb is None:
        return Finding(
            level="problem",
            what="model",
            seen=f"{config.model.path} is not there",
            cure="check model.path",
        )
    return Finding(level="ok", what="model", seen=f"{config.model.path}, {size_mb:.1f} MB")


def _camera(config: Config) -> Finding:
    if not config.camera.uri:
        return Finding(
            level="problem", what="camera", seen="camera.uri is empty", cure="set it, or --camera"
        )
    with heavy.open_camera(config) as camera:
        height, width = camera.read(10.0).image.shape[:2]
        return Finding(level="ok", what="camera", seen=f"{camera.source}, {width}x{height}")


def _storage(config: Config) -> Finding:
    places.store(config)  # raises where the folder can't be made
    free_mb = shutil.disk_usage(config.storage.dir).free / 1e6
    seen = f"{config.storage.dir}, {free_mb:.0f} MB free"
    if free_mb < max(_LOW_DISK_MB, config.storage.max_mb / 4):
        cure = "free some space, or set storage.dir to a larger disk"
        return Finding(level="warning", what="storage", seen=seen, cure=cure)
    return Finding(level="ok", what="storage", seen=seen)


def _power(config: Config) -> Finding:
    source, reason = heavy.power_source(config)
    if source:
        return Finding(level="ok", what="power sensor", seen=source)
    return Finding(
        level="warning",
        what="power sensor",
        seen=reason,
        cure="power and energy will be null in reports",
    )


def _broker(config: Config) -> Finding:
    if not config.mqtt.host:
        return Finding(
            level="warning",
            what="broker",
            seen="mqtt.host is empty",
            cure="no reports over MQTT; set mqtt.host",
        )
    address = (config.mqtt.host, config.mqtt.port)
    try:
        with socket.create_connection(address, timeout=5):
            return Finding(level="ok", what="broker", seen=f"{address[0]}:{address[1]} answers")
    except OSError as e:
        return Finding(
            level="problem",
            what="broker",
            seen=f"{address[0]}:{address[1]}: {e}",
            cure="check mqtt.host, mqtt.port and the network",
        )
