"""What any machine needs: memory, swap in the right place, the right time, a service that runs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from agent.adapters.host.clock import SystemClock
from agent.config import Config
from agent.doctor.findings import Finding, Look, Machine, told

_HERE = Machine()
_LEAST_MB = 1500
"""Quantizing CenterFace takes 0.5 GB and the application keeps running; TensorRT's builder takes
more."""
_SMALL_MB = 9000  # an 8 GB board, whose memory the GPU shares


def memory(config: Config, machine: Machine = _HERE) -> Finding | None:
    """Look how much memory a job would find."""
    amounts = {
        key: int(kb) / 1e3 * 1.024
        for key, kb in re.findall(r"(\w+): +(\d+) kB", machine.text("proc/meminfo"))
    }
    if "MemAvailable" not in amounts:
        return None
    free, total = amounts["MemAvailable"], amounts.get("MemTotal", 0.0)
    seen = f"{free:.0f} of {total:.0f} MB free"
    if free < config.runtime.workspace_mb:
        return Finding(
            level="warning", what="memory", seen=seen,
            cure=f"runtime.workspace_mb = {config.runtime.workspace_mb} is more than that: lower it",
        )  # fmt: skip
    if free < _LEAST_MB:
        return Finding(
            level="warning", what="memory", seen=seen,
            cure="`ps aux --sort=-rss | head`: a job may be ended for memory, which is told as "
            "the candidate's reason",
        )  # fmt: skip
    return Finding(level="ok", what="memory", seen=seen)


def swap(_config: Config, machine: Machine = _HERE) -> Finding | None:
    """Look where memory goes to when it is short: a small board needs some, but not on a card."""
    areas = [line.split() for line in machine.text("proc/swaps").splitlines()[1:]]
    used = [_unescaped(area[0]) for area in areas if area]
    on_card = [path for path in used if "mmcblk" in _device(machine, path)]
    if on_card:
        return Finding(
            level="warning", what="swap", seen=f"{on_card[0]} is on an SD card or eMMC",
            cure=f"`sudo swapoff {shlex.quote(on_card[0])}`, and out of /etc/fstab: it wears the "
            "card out; zram or a file on NVMe instead",
        )  # fmt: skip
    total = re.search(r"MemTotal: +(\d+) kB", machine.text("proc/meminfo"))
    small = bool(total) and int(total.group(1)) / 1e3 * 1.024 < _SMALL_MB if total else False
    if not used and small and machine.jetson:
        return Finding(
            level="warning", what="swap", seen="none, on a board whose memory the GPU shares",
            cure="`sudo systemctl enable --now nvzramconfig`, or a swap file on NVMe",
        )  # fmt: skip
    return Finding(level="ok", what="swap", seen=", ".join(used) or "none")


def _device(machine: Machine, path: str) -> str:
    """Return the device that a path is, or lies on; of mounts on one another the last counts."""
    if path.startswith("/dev/"):
        return path
    mounts = [line.split() for line in machine.text("proc/self/mounts").splitlines()]
    under = [
        (len(point), order, one[0])
        for order, one in enumerate(mounts)
        if len(one) > 1 and Path(path).is_relative_to(point := _unescaped(one[1]))
    ]
    return max(under)[2] if under else ""


def _unescaped(path: str) -> str:
    r"""Return a path of /proc as it is: the kernel writes a space as \040."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found.group(1), 8)), path)


def time(config: Config) -> Finding | None:
    """Look whether the wall clock follows a reference: certificates and commands need it."""
    if SystemClock().synchronized():
        return Finding(level="ok", what="time", seen="follows a reference")
    needed = bool(config.mqtt.host)
    return Finding(
        level="warning",
        what="time",
        seen="the kernel knows of no reference for its clock"
        + (": certificates and signed commands may be refused" if needed else ""),
        cure="`sudo timedatectl set-ntp true`, then `timedatectl`",
    )


def service(_config: Config, machine: Machine = _HERE) -> Finding | None:
    """Look whether the installed service runs, and will after the next boot."""
    if not machine.has("etc/systemd/system/quantd.service"):
        return None
    state = told("systemctl", "is-active", "quantd") or "unknown"
    at_boot = told("systemctl", "is-enabled", "quantd")
    if state in {"active", "activating"} and at_boot == "disabled":
        return Finding(
            level="warning", what="service", seen=f"quantd.service is {state}, until the next boot",
            cure="`sudo systemctl enable quantd`",
        )  # fmt: skip
    if state in {"active", "activating"}:
        return Finding(level="ok", what="service", seen=f"quantd.service is {state}")
    return Finding(
        level="problem" if state == "failed" else "warning",
        what="service",
        seen=f"quantd.service is {state}",
        cure="`journalctl -u quantd -n 50`, then `sudo systemctl enable --now quantd`",
    )


def commands(config: Config) -> Finding | None:
    """Look whether anybody can give commands over MQTT."""
    if not config.mqtt.host:
        return None
    if not config.commands.require_signature:
        return Finding(
            level="warning", what="commands", seen="anybody on the broker can give them",
            cure="set commands.require_signature = true and put public keys into keys_dir",
        )  # fmt: skip
    folder = Path(config.commands.keys_dir)
    keys = sorted(path.stem for path in folder.glob("*.pem"))
    if not keys:
        return Finding(
            level="warning", what="commands", seen=f"{folder} holds no key: none is accepted",
            cure=f"`openssl pkey -in ops.key -pubout -out {folder}/ops.pem`",
        )  # fmt: skip
    return Finding(level="ok", what="commands", seen=f"signed by {', '.join(keys)}")


LOOKS: Mapping[str, Look] = {
    "memory": memory,
    "swap": swap,
    "time": time,
    "service": service,
    "commands": commands,
}
