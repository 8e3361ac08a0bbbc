"""What a Jetson needs besides: its board, JetPack, TensorRT from this Python, groups, clocks."""

from __future__ import annotations

import grp
import os
import pwd
import re
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from agent.config import Config
from agent.doctor.findings import Finding, Look, Machine, told
from agent.wiring.boards import board_of

_HERE = Machine()
_OLDEST_L4T = 36  # JetPack 6: the first with Python 3.10 and TensorRT 10
_GROUPS = {"video": "dev", "render": "dev/dri", "jtop": "run/jtop.sock"}  # and what each opens


def board(config: Config, machine: Machine = _HERE) -> Finding | None:
    """Look whether the board is one that quantd knows."""
    known = board_of(config)
    if known:
        return Finding(level="ok", what="board", seen=f"{known.name} ({known.id})")
    if not machine.jetson:
        return None
    model = machine.text("proc/device-tree/model") or "a board without a name"
    return Finding(
        level="warning",
        what="board",
        seen=f"{model}: no board file fits",
        cure='power rails are named without what they leave out; set device.board to "orin-nano" '
        "or another of configs/boards, or to a file of your own",
    )


def jetpack(_config: Config, machine: Machine = _HERE) -> Finding | None:
    """Look which Jetson Linux it is."""
    if not machine.jetson:
        return None
    text = machine.text("etc/nv_tegra_release")
    found = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", text)
    if not found:
        return Finding(
            level="warning", what="JetPack", seen=f"/etc/nv_tegra_release says {text[:60]!r}",
            cure="`cat /etc/nv_tegra_release`; `dpkg -l nvidia-l4t-core`",
        )  # fmt: skip
    seen = f"Jetson Linux {found.group(1)}.{found.group(2)}"
    if int(found.group(1)) < _OLDEST_L4T:
        cure = "JetPack 6 or newer: quantd needs Python 3.10 and TensorRT 10"
        return Finding(level="problem", what="JetPack", seen=seen, cure=cure)
    return Finding(level="ok", what="JetPack", seen=seen)


def tensorrt(config: Config, machine: Machine = _HERE) -> Finding | None:
    """Look whether this very Python can import TensorRT and PyCUDA."""
    if not machine.jetson or config.runtime.kind == "onnxruntime":
        return None
    if find_spec("tensorrt") is None:
        return _no_tensorrt(machine)
    if find_spec("pycuda") is None:
        return Finding(
            level="problem", what="TensorRT", seen="TensorRT is there, but PyCUDA is not",
            cure=f"`PATH=$PATH:/usr/local/cuda/bin {sys.prefix}/bin/pip install pycuda`",
        )  # fmt: skip
    return Finding(level="ok", what="TensorRT", seen=f"TensorRT {_version('tensorrt')} and PyCUDA")


def _no_tensorrt(machine: Machine) -> Finding:
    """Say which of the two usual reasons it is: not installed, or not seen from here."""
    this = f"{sys.version_info.major}.{sys.version_info.minor}"
    installed = machine.found("usr/lib/python3*/dist-packages/tensorrt")
    if not installed:
        return Finding(
            level="problem", what="TensorRT", seen="it is not installed for Python",
            cure="`sudo apt install python3-libnvinfer`",
        )  # fmt: skip
    where = "/" + str(installed[0].relative_to(machine.root))
    theirs = re.search(r"python(3\.\d+)", where)
    if theirs and theirs.group(1) != this:
        cure = f"install quantd with python{theirs.group(1)}, which TensorRT is for"
    else:
        cure = f"`python3 -m venv --system-site-packages {sys.prefix}`: this one hides {where}"
    return Finding(
        level="problem", what="TensorRT", cure=cure,
        seen=f"{where} is not seen by Python {this} in {sys.prefix}",
    )  # fmt: skip


def groups(_config: Config, machine: Machine = _HERE) -> Finding | None:
    """Look whether this user may open cameras, the GPU and the jtop service."""
    if not machine.jetson or os.geteuid() == 0:
        return None
    mine = {grp.getgrgid(number).gr_name for number in os.getgroups()}
    missing = [n for n, opens in _GROUPS.items() if n not in mine and machine.has(opens)]
    user = pwd.getpwuid(os.geteuid()).pw_name
    if not missing:
        return Finding(level="ok", what="groups", seen=f"{user} is in {', '.join(_GROUPS)}")
    return Finding(
        level="warning",
        what="groups",
        seen=f"{user} is not in {', '.join(missing)}",
        cure=f"`sudo usermod -aG {','.join(missing)} {user}`, then log in again",
    )


def jtop(config: Config, machine: Machine = _HERE) -> Finding | None:
    """Look whether the jtop service runs; the line of the power sensor says whether it answers."""
    if not machine.jetson or config.measure.power not in {"auto", "jtop"}:
        return None
    client = _version("jetson-stats")
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
    return Finding(level="ok", what="jtop", seen=f"client {client}, service at /run/jtop.sock")


def clocks(_config: Config, machine: Machine = _HERE) -> Finding | None:
    """Look in which power mode and how free the clocks are: what latencies hold for."""
    if not machine.jetson:
        return None
    mode = re.search(r"NV Power Mode: *(\S+)", told("nvpmodel", "-q"))
    governor = machine.text("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or "unknown"
    gpu = next(iter(machine.found("sys/class/devfreq/*.g*")), None)
    span = ""
    if gpu is not None:
        low, high = ((gpu / name).read_text().strip() for name in ("min_freq", "max_freq"))
        span = ", GPU clock locked" if low == high else ", GPU clock free"
    seen = f"power mode {mode.group(1) if mode else 'unknown'}, CPU governor {governor}{span}"
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


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


LOOKS: Mapping[str, Look] = {
    "board": board,
    "JetPack": jetpack,
    "TensorRT": tensorrt,
    "groups": groups,
    "jtop": jtop,
    "clocks": clocks,
}
