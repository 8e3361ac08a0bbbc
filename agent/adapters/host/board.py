"""Identify the board from /sys and /proc, which any user may read."""

from __future__ import annotations

import re
from pathlib import Path

from agent.adapters.host.commands import command_output
from agent.disk import text_of

_NVPMODEL_S = 4.0


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
        "l4t": l4t_release(text_of(base / "etc/nv_tegra_release")),
        "power_mode": power_mode() if root == "/" else None,
        "driver": text_of(base / "sys/module/nvidia/version") or None,
    }


def l4t_release(text: str) -> str | None:
    """Return "36.4.3" for the text "# R36 (release), REVISION: 4.3, ..." of nv_tegra_release."""
    match = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", text)
    return f"{match.group(1)}.{match.group(2)}" if match else None


def power_mode() -> str | None:
    """Return the present power mode as nvpmodel names it, None if it is missing or fails."""
    shown = command_output("nvpmodel", "-q", timeout_s=_NVPMODEL_S)
    match = re.search(r"NV Power Mode: *(\S.*\S|\S)", shown)
    return match.group(1) if match else None
