"""Identify the board from /sys and /proc, which any user may read."""

from __future__ import annotations

import re
from pathlib import Path

from agent.adapters.host.commands import command_output
from agent.disk import text_of

_NVPMODEL_S = 4.0
_RELEASE = "etc/nv_tegra_release"
_JTOP = "run/jtop.sock"
_RAILS = {"VDD_IN", "VIN_SYS_5V0"}  # each Orin and Thor has one of them


def read_board(root: str = "/") -> dict[str, str | int | float | None]:
    """Return what identifies the board, for reports; None where the machine doesn't report it.

    Args:
        root: Where its file system begins.

    Returns:
        `board`: the model of the device tree, e.g. "NVIDIA Jetson Orin Nano Developer Kit";
        `l4t`: the release of Jetson Linux, e.g. "36.4.3"; `power_mode`: nvpmodel's name;
        `driver`: the version of NVIDIA's kernel module.
    """
    base = Path(root)
    return {
        "board": text_of(base / "proc/device-tree/model")
        or text_of(base / "sys/devices/virtual/dmi/id/product_name")
        or None,
        "l4t": l4t_release(text_of(base / _RELEASE)),
        "power_mode": power_mode() if root == "/" else None,
        "driver": text_of(base / "sys/module/nvidia/version") or None,
    }


def jetson_sign(root: str = "/") -> str:
    """Return what shows that this is a Jetson, in words; empty if nothing does.

    A container has none of its files unless they are mounted, and container runtimes hide the
    device tree (moby issue 43419), but not the kernel's release and the power sensors.
    """
    base = Path(root)
    if (base / _RELEASE).exists():
        return f"/{_RELEASE}"
    kernel = text_of(base / "proc/sys/kernel/osrelease")
    if "tegra" in kernel:
        return f"kernel {kernel}"
    for device in base.glob("sys/class/hwmon/hwmon*"):
        if text_of(device / "name") == "ina3221":
            for label in device.glob("in*_label"):
                if (rail := text_of(label)) in _RAILS:
                    return f"rail {rail}"
    return f"/{_JTOP}" if (base / _JTOP).exists() else ""


def unknown_board(root: str = "/") -> str:
    """Return why the board of a Jetson may not be recognized; empty on another machine."""
    sign = jetson_sign(root)
    if not sign:
        return ""
    model = text_of(Path(root, "proc/device-tree/model"))
    if model:
        return f"{model}: no board file matches"
    return f"this is a Jetson ({sign}), but its device tree is hidden, as in a container"


def l4t_release(text: str) -> str | None:
    """Return "36.4.3" for the text "# R36 (release), REVISION: 4.3, ..." of nv_tegra_release."""
    match = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", text)
    return f"{match.group(1)}.{match.group(2)}" if match else None


def power_mode() -> str | None:
    """Return the present power mode as nvpmodel names it, None if it is missing or fails."""
    shown = command_output("nvpmodel", "-q", timeout_s=_NVPMODEL_S)
    match = re.search(r"NV Power Mode: *(\S.*\S|\S)", shown)
    return match.group(1) if match else None
