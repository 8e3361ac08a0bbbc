"""What a Jetson needs besides: its board, JetPack, TensorRT from this Python, groups."""

from __future__ import annotations

import grp
import os
import pwd
import re
import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec

from agent.config import Config
from agent.doctor.findings import Finding, Look, Machine, version_of
from agent.wiring.boards import board_of

_HERE = Machine()
_OLDEST_L4T = 36  # JetPack 6: the first with Python 3.10 and TensorRT 10
_GROUPS = {"video": "dev", "render": "dev/dri"}  # and what each opens
_SERVICE_USER = "quantd"  # as systemd/quantd.sysusers.conf makes it


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
    broken = _broken("tensorrt")
    if broken:
        return Finding(
            level="problem", what="TensorRT", seen=f"it is there but does not load: {broken}",
            cure="`sudo apt install --reinstall tensorrt`, of the JetPack that is installed",
        )  # fmt: skip
    if find_spec("pycuda") is None:
        return Finding(
            level="problem", what="TensorRT", seen="TensorRT is there, but PyCUDA is not",
            cure=f"`{_pip()} install pycuda`",
        )  # fmt: skip
    broken = _broken("pycuda.driver")
    if broken:
        return Finding(
            level="problem", what="TensorRT", seen=f"PyCUDA does not load: {broken}",
            cure=f"`{_pip()} install "
            "--force-reinstall --no-cache-dir --no-binary :all: pycuda`: it was built for another CUDA",
        )  # fmt: skip
    found = version_of("tensorrt") or "of an unknown version"
    return Finding(level="ok", what="TensorRT", seen=f"TensorRT {found} and PyCUDA")


def _pip() -> str:
    """Return the pip of this Python, with nvcc on its path, which sudo would reset."""
    path = "PATH=/usr/local/cuda/bin:$PATH"
    owner = "" if os.access(sys.prefix, os.W_OK) else "sudo env "
    return f"{owner}{path} {sys.prefix}/bin/pip"


def _broken(module: str) -> str:
    """Return why a module that is there can't be imported; empty if it can."""
    try:
        import_module(module)
    except (ImportError, OSError, RuntimeError) as error:  # a library of it, or its driver
        return str(error)
    return ""


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


def groups(config: Config, machine: Machine = _HERE) -> Finding | None:
    """Look whether cameras, the GPU and the jtop service may be opened.

    By this user; run as root, by the user of the installed service.
    """
    user, mine = _member()
    if not machine.jetson or not user:
        return None
    wanted = dict(_GROUPS)
    if config.measure.power == "jtop":  # its protocol trusts every member like root
        wanted["jtop"] = "run/jtop.sock"
    wanted = {name: opens for name, opens in wanted.items() if machine.has(opens)}
    missing = [name for name in wanted if name not in mine]
    if not wanted:
        return None
    if not missing:
        return Finding(level="ok", what="groups", seen=f"{user} is in {', '.join(wanted)}")
    again = "`sudo systemctl restart quantd`" if os.geteuid() == 0 else "log in again"
    return Finding(
        level="warning",
        what="groups",
        seen=f"{user} is not in {', '.join(missing)}",
        cure=f"`sudo usermod -aG {','.join(missing)} {user}`, then {again}",
    )


def _member() -> tuple[str, set[str]]:
    """Return whose groups count and what they are called, nobody's where root alone is here."""
    number = os.geteuid()
    try:
        who = pwd.getpwuid(number) if number else pwd.getpwnam(_SERVICE_USER)
    except KeyError:  # a container's user may have no name
        who = None
    if number:
        numbers = {os.getegid(), *os.getgroups()}
        user = who.pw_name if who else str(number)
    elif who:
        numbers = set(os.getgrouplist(who.pw_name, who.pw_gid))
        user = who.pw_name
    else:
        return "", set()
    return user, {one.gr_name for one in grp.getgrall() if one.gr_gid in numbers}


LOOKS: Mapping[str, Look] = {
    "board": board,
    "JetPack": jetpack,
    "TensorRT": tensorrt,
    "groups": groups,
}
