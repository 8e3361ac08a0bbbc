"""Checks of any machine: memory, swap, clock, the installed service, keys for commands."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from agent.adapters.host.clock import SystemClock
from agent.adapters.host.commands import command_output
from agent.adapters.mqtt.keys import read_key
from agent.config import Config
from agent.core.errors import CommandError
from agent.doctor.device import SERVICE_USER
from agent.doctor.findings import HERE, Finding, Machine, ok, problem, warning
from agent.packages import installer

_LEAST_MB = 1500
"""Quantizing CenterFace takes 0.5 GB beside the running application; TensorRT's builder more."""
_SMALL_MB = 9000  # an 8 GB board, whose memory the GPU shares


def memory(config: Config, machine: Machine = HERE) -> Finding | None:
    """Check how much memory is free for a job."""
    amounts = _memory_mb(machine)
    if "MemAvailable" not in amounts:
        return None
    free, total = amounts["MemAvailable"], amounts.get("MemTotal", 0.0)
    seen = f"{free:.0f} of {total:.0f} MB free"
    if free < config.runtime.workspace_mb:
        return warning(
            seen,
            f"runtime.workspace_mb = {config.runtime.workspace_mb} is more than that: lower it",
        )
    if free < _LEAST_MB:
        return warning(
            seen,
            "`ps aux --sort=-rss | head`: a job may be killed for lack of memory; the report "
            "gives that as the candidate's reason",
        )
    return ok(seen)


def _memory_mb(machine: Machine) -> dict[str, float]:
    rows = re.findall(r"(\w+): +(\d+) kB", machine.text("proc/meminfo"))
    return {key: int(kib) * 1.024 / 1e3 for key, kib in rows}


def swap(_config: Config, machine: Machine = HERE) -> Finding | None:
    """Check the swap: a board with little memory needs some, but not on an SD card or eMMC."""
    areas = [line.split() for line in machine.text("proc/swaps").splitlines()[1:]]
    used = [_unescaped(area[0]) for area in areas if area]
    on_card = [path for path in used if "mmcblk" in _device(machine, path)]
    if on_card:
        return warning(
            f"{on_card[0]} is on an SD card or eMMC",
            f"`sudo swapoff {shlex.quote(on_card[0])}`, and remove it from /etc/fstab: it wears "
            "the card out; use zram or a file on NVMe instead",
        )
    small = 0 < _memory_mb(machine).get("MemTotal", 0.0) < _SMALL_MB
    if not used and small and machine.jetson:
        return warning(
            "none, on a board whose memory the GPU shares",
            "`sudo systemctl enable --now nvzramconfig`, or a swap file on NVMe",
        )
    return ok(", ".join(used) or "none")


def _device(machine: Machine, path: str) -> str:
    """Return the device that a path is, or that is mounted there; the last mount counts."""
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
    r"""Return the path in a file of /proc: the kernel writes a space as \040."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found.group(1), 8)), path)


def time(config: Config) -> Finding | None:
    """Check that the wall clock is synchronised: certificates and commands need it."""
    if SystemClock().synchronized():
        return ok("synchronised")
    effect = ": certificates and signed commands may be refused" if config.mqtt.host else ""
    return warning(
        f"the clock is not synchronised (NTP or PTP){effect}",
        "`sudo timedatectl set-ntp true`, then `timedatectl`",
    )


def service(_config: Config, machine: Machine = HERE) -> Finding | None:
    """Check that the installed service runs, and that it starts at the next boot."""
    if not machine.has("etc/systemd/system/quantd.service"):
        return None
    program = machine.started_by("quantd.service")
    if program and not machine.has(program.lstrip("/")):
        seen = f"quantd.service starts {program}, which does not exist"
        return problem(seen, f"`sudo sh {installer()}`")
    state = command_output("systemctl", "is-active", "quantd") or "unknown"
    seen = f"quantd.service is {state}"
    if state in {"active", "activating"}:
        if command_output("systemctl", "is-enabled", "quantd") == "disabled":
            return warning(f"{seen}, until the next boot", "`sudo systemctl enable quantd`")
        return ok(seen)
    bad = problem if state == "failed" else warning
    return bad(seen, "`journalctl -u quantd -n 50`, then `sudo systemctl enable --now quantd`")


def commands(config: Config) -> Finding | None:
    """Check the keys for commands over MQTT; run as root, whether the service may read them."""
    if not config.mqtt.host:
        return None
    if not config.commands.require_signature:
        return warning(
            "any client of the broker can send them",
            "set commands.require_signature = true and put public keys into keys_dir",
        )
    folder = Path(config.commands.keys_dir)
    good, bad, paths = [], [], sorted(folder.glob("*.pem"))
    with _service_user():
        for path in paths:
            try:
                read_key(folder, path.stem)
                good.append(path.stem)
            except CommandError as error:
                bad.append(error.message)
    if not good and not bad:
        return warning(
            f"{folder} contains no key: all commands are rejected",
            f"`openssl pkey -in ops.key -pubout -out {folder}/ops.pem`",
        )
    signed = f"signed by {', '.join(good)}" if good else "all are rejected"
    if not bad:
        return ok(signed)
    level = warning if good else problem
    return level(
        f"{signed}; not accepted: {'; '.join(bad)}",
        "each key is a regular file with a public Ed25519 key that only its owner can write, like "
        "the folders above it",
    )


@contextlib.contextmanager
def _service_user() -> Iterator[None]:
    """Have the rights of the installed service's user, if this is root."""
    user, group = os.geteuid(), os.getegid()
    try:
        service = pwd.getpwnam(SERVICE_USER)
    except KeyError:
        service = None
    if user or service is None:
        yield
        return
    groups = os.getgroups()
    os.setgroups(os.getgrouplist(service.pw_name, service.pw_gid))
    os.setegid(service.pw_gid)
    os.seteuid(service.pw_uid)
    try:
        yield
    finally:
        os.seteuid(user)
        os.setegid(group)
        os.setgroups(groups)
