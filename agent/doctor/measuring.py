"""What figures of a Jetson hold for: the jtop service, the power mode and the clocks."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping

from agent.adapters.host.conditions import GPUS
from agent.config import Config
from agent.doctor.findings import Finding, Look, Machine, told, version_of

_HERE = Machine()
_UNIT = "etc/systemd/system/jtop.service"


def jtop(config: Config, machine: Machine = _HERE) -> Finding | None:
    """Look whether the jtop service runs, and in the version of the client that would ask it."""
    if not machine.jetson or config.measure.power not in {"auto", "jtop"}:
        return None
    client = version_of("jetson-stats")
    if client is None:
        return Finding(
            level="warning", what="jtop", seen="jetson-stats is not installed here",
            cure=f"`{sys.prefix}/bin/pip install jetson-stats`, of the service's version; without "
            "it power is read from the sensor itself",
        )  # fmt: skip
    if not machine.has("run/jtop.sock"):
        return Finding(
            level="warning", what="jtop", seen=f"client {client}, but no service",
            cure="`sudo systemctl enable --now jtop`, after `sudo jtop --install-service` if "
            "there is no such unit",
        )  # fmt: skip
    service = _service_version(machine)
    seen = f"client {client}, service {service or 'of an unknown version'}"
    if service and _series(service) != _series(client):  # jtop itself refuses these
        return Finding(
            level="warning", what="jtop", seen=seen,
            cure=f"`{sys.prefix}/bin/pip install jetson-stats=={service}`: they must be of one "
            "version",
        )  # fmt: skip
    return Finding(level="ok", what="jtop", seen=seen)


def _service_version(machine: Machine) -> str:
    """Return the version of the program that the unit starts, "" if nobody tells."""
    program = re.search(r"^ExecStart=(\S+)", machine.text(_UNIT), re.MULTILINE)
    found = re.search(r"\d+\.\d+[.\d]*", told(program.group(1), "--version") if program else "")
    return found.group() if found else ""


def _series(version: str) -> list[str]:
    return version.split(".")[:2]


def clocks(_config: Config, machine: Machine = _HERE) -> Finding | None:
    """Look in which power mode and how free the clocks are: what latencies hold for."""
    if not machine.jetson:
        return None
    mode = re.search(r"NV Power Mode: *(\S+)", told("nvpmodel", "-q"))
    governor = machine.text("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or "unknown"
    name = mode.group(1) if mode else "unknown"
    seen = f"power mode {name}, CPU governor {governor}{_gpu_clock(machine)}"
    if mode is None:
        return Finding(
            level="warning", what="clocks", seen=seen,
            cure="`sudo nvpmodel -q` must name the mode: numbers without it can't be compared",
        )  # fmt: skip
    if governor == "powersave":
        return Finding(
            level="warning", what="clocks", seen=seen,
            cure="`sudo jetson_clocks`, or another governor: powersave keeps the lowest clock",
        )  # fmt: skip
    return Finding(level="ok", what="clocks", seen=seen)


def _gpu_clock(machine: Machine) -> str:
    found = [gpu for kind in GPUS for gpu in machine.found(f"sys/class/devfreq/{kind}")]
    if not found:
        return ""
    folder = found[0].relative_to(machine.root)
    low, high = (machine.text(f"{folder}/{name}") for name in ("min_freq", "max_freq"))
    if not (low.isdigit() and high.isdigit()):
        return ", GPU clock unknown"
    return ", GPU clock locked" if low == high else ", GPU clock free"


LOOKS: Mapping[str, Look] = {"jtop": jtop, "clocks": clocks}
