"""Checks of a Jetson: its board, JetPack, TensorRT from this Python, groups."""

from __future__ import annotations

import grp
import os
import pwd
import re
import sys
from functools import partial
from importlib import import_module
from importlib.util import find_spec

from agent.adapters.host.board import l4t_release, unknown_board
from agent.config import Config
from agent.doctor.findings import HERE, Finding, Machine, ok, problem, warning
from agent.packages import installed_version, pip_install
from agent.wiring.boards import board_of

_OLDEST_L4T = 36  # JetPack 6: the first with Python 3.10 and TensorRT 10
_GROUPS = {"video": "dev", "render": "dev/dri"}  # and what each opens
SERVICE_USER = "quantd"  # see systemd/quantd.sysusers.conf


def board(config: Config, machine: Machine = HERE) -> Finding | None:
    """Check that quantd knows the board."""
    known = board_of(config)
    if known:
        return ok(f"{known.name} ({known.id})")
    reason = unknown_board(str(machine.root))
    if not reason:
        return None
    cure = (
        "reports can't state what a power rail leaves out; set device.board to "
        '"orin-nano" or another of configs/boards, or to a file of your own'
    )
    if not machine.text("proc/device-tree/model"):
        cure += ", or start the container with `--security-opt systempaths=unconfined`"
    return warning(reason, cure)


def jetpack(_config: Config, machine: Machine = HERE) -> Finding | None:
    """Check the version of Jetson Linux."""
    if not machine.jetson:
        return None
    if not machine.has("etc/nv_tegra_release"):
        return warning(
            "/etc/nv_tegra_release is not here: an upgrade of Jetson Linux can't be noticed",
            "start the container with `-v /etc/nv_tegra_release:/etc/nv_tegra_release:ro`",
        )
    text = machine.text("etc/nv_tegra_release")
    l4t = l4t_release(text)
    if l4t is None:
        return warning(
            f"/etc/nv_tegra_release contains {text[:60]!r}",
            "`cat /etc/nv_tegra_release`; `dpkg -l nvidia-l4t-core`",
        )
    seen = f"Jetson Linux {l4t}"
    if int(l4t.partition(".")[0]) < _OLDEST_L4T:
        cure = "install JetPack 6 or newer: quantd needs Python 3.10 and TensorRT 10"
        return problem(seen, cure)
    return ok(seen)


def tensorrt(config: Config, machine: Machine = HERE) -> Finding | None:
    """Check that this Python can import TensorRT and PyCUDA."""
    if not machine.jetson or config.runtime.kind == "onnxruntime":
        return None
    if find_spec("tensorrt") is None:
        return _no_tensorrt(machine)
    if broken := _import_error("tensorrt"):
        return problem(
            f"TensorRT is installed but does not load: {broken}",
            "`sudo apt install --reinstall tensorrt`, of the JetPack that is installed",
        )
    compiled = partial(pip_install, "pycuda", path="/usr/local/cuda/bin")  # nvcc is there
    if find_spec("pycuda") is None:
        cure = compiled()
        if not machine.has("usr/local/cuda/include/cuda.h"):
            cure = f"`sudo apt install nvidia-jetpack` for CUDA's headers, then {cure}"
        return problem("TensorRT is installed, but PyCUDA is not", cure)
    if broken := _import_error("pycuda.driver"):
        return problem(
            f"PyCUDA does not load: {broken}",
            f"{compiled(options='--force-reinstall --no-cache-dir --no-binary :all:')}: "
            "it was built for another CUDA",
        )
    return ok(f"TensorRT {installed_version('tensorrt') or 'of an unknown version'} and PyCUDA")


def _import_error(module: str) -> str:
    """Return why an installed module can't be imported; empty if it can."""
    try:
        import_module(module)
    except (ImportError, OSError, RuntimeError) as error:  # a library of it, or its driver
        return str(error)
    return ""


def _no_tensorrt(machine: Machine) -> Finding:
    """Distinguish the two usual reasons: not installed, or not visible to this Python."""
    installed = machine.found("usr/lib/python3*/dist-packages/tensorrt")
    if not installed:
        return problem(
            "TensorRT is not installed for Python", "`sudo apt install python3-libnvinfer`"
        )
    this = f"{sys.version_info.major}.{sys.version_info.minor}"
    where = f"/{installed[0].relative_to(machine.root)}"
    theirs = re.search(r"python(3\.\d+)", where)
    if theirs and theirs.group(1) != this:
        cure = f"install quantd with python{theirs.group(1)}, which TensorRT is for"
    else:
        cure = f"`python3 -m venv --system-site-packages {sys.prefix}`: this one hides {where}"
    return problem(f"{where} is not visible to Python {this} in {sys.prefix}", cure)


def groups(config: Config, machine: Machine = HERE) -> Finding | None:
    """Check that this user may open cameras, the GPU and the jtop service.

    Run as root, the user of the installed service is checked.
    """
    user, member_of = _user_and_groups()
    if not machine.jetson or not user:
        return None
    wanted = dict(_GROUPS)
    if config.measure.power == "jtop":  # its protocol trusts every member like root
        wanted["jtop"] = "run/jtop.sock"
    wanted = {name: opens for name, opens in wanted.items() if machine.has(opens)}
    missing = [name for name in wanted if name not in member_of]
    if not wanted:
        return None
    if not missing:
        return ok(f"{user} is in {', '.join(wanted)}")
    then = "`sudo systemctl restart quantd`" if os.geteuid() == 0 else "log in again"
    return warning(
        f"{user} is not in {', '.join(missing)}",
        f"`sudo usermod -aG {','.join(missing)} {user}`, then {then}",
    )


def _user_and_groups() -> tuple[str, set[str]]:
    """Return the user to check and its groups; no name for root without an installed service."""
    number = os.geteuid()
    try:
        entry = pwd.getpwuid(number) if number else pwd.getpwnam(SERVICE_USER)
    except KeyError:  # a container's user may have no name
        entry = None
    if number:
        numbers = {os.getegid(), *os.getgroups()}
        user = entry.pw_name if entry else str(number)
    elif entry:
        numbers = set(os.getgrouplist(entry.pw_name, entry.pw_gid))
        user = entry.pw_name
    else:
        return "", set()
    return user, {one.gr_name for one in grp.getgrall() if one.gr_gid in numbers}
