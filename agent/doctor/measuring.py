"""The conditions under which a Jetson measures: the jtop service, the power mode, the clocks."""

from __future__ import annotations

import re

from agent.adapters.host.board import power_mode
from agent.adapters.host.commands import command_output
from agent.adapters.host.conditions import GPUS
from agent.config import Config
from agent.doctor.findings import HERE, Finding, Machine, ok, warning
from agent.packages import installed_version, installer, pip_install


def jtop(config: Config, machine: Machine = HERE) -> Finding | None:
    """Check that the jtop service runs, in the version of the client."""
    if not machine.jetson or config.measure.power not in {"auto", "jtop"}:
        return None
    client = installed_version("jetson-stats")
    if client is None:
        return warning(
            "jetson-stats is not installed here",
            f"{pip_install('jetson-stats')}; without it power is read from the sensor itself",
        )
    program = machine.started_by("jtop.service")
    if program and not machine.has(program.lstrip("/")):
        return warning(
            f"client {client}, but jtop.service starts {program}, which does not exist",
            f"`sudo sh {installer()} --jtop`",
        )
    if not machine.has("run/jtop.sock"):
        start = "systemctl enable --now jtop" if program else f"sh {installer()} --jtop"
        return warning(
            f"client {client}, but no service",
            f"`sudo {start}`; in a container `-v /run/jtop.sock:/run/jtop.sock`",
        )
    shown = command_output(program, "--version") if program else ""
    found = re.search(r"\d+\.\d+[.\d]*", shown)
    service = found.group() if found else ""
    seen = f"client {client}, service {service or 'of an unknown version'}"
    if service and service.split(".")[:2] != client.split(".")[:2]:  # jtop itself refuses these
        cure = f"{pip_install(f'jetson-stats=={service}')}: both must be of one version"
        return warning(seen, cure)
    return ok(seen)


def clocks(_config: Config, machine: Machine = HERE) -> Finding | None:
    """Check the power mode and whether the clocks are free: latencies depend on both."""
    if not machine.jetson:
        return None
    mode = power_mode()
    governor = machine.text("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or "unknown"
    seen = f"power mode {mode or 'unknown'}, CPU governor {governor}{_gpu_clock(machine)}"
    if mode is None:
        return warning(
            seen,
            "`sudo nvpmodel -q` must name the mode: numbers without it can't be compared; in a "
            "container mount /usr/sbin/nvpmodel, /etc/nvpmodel.conf and /var/lib/nvpmodel",
        )
    if governor == "powersave":
        return warning(
            seen, "`sudo jetson_clocks`, or another governor: powersave keeps the lowest clock"
        )
    return ok(seen)


def _gpu_clock(machine: Machine) -> str:
    found = [gpu for kind in GPUS for gpu in machine.found(f"sys/class/devfreq/{kind}")]
    if not found:
        return ""
    folder = found[0].relative_to(machine.root)
    low, high = (machine.text(f"{folder}/{name}") for name in ("min_freq", "max_freq"))
    if not (low.isdigit() and high.isdigit()):
        return ", GPU clock unknown"
    return ", GPU clock locked" if low == high else ", GPU clock free"
