"""What board this is, from /sys and /proc: readable by anyone, on any Linux."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

_NVPMODEL_S = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """Facts for reports; None where the machine doesn't say.

    Attributes:
        board: Model of the device tree, e.g. "NVIDIA Jetson Orin Nano Developer Kit".
        l4t: Release of Jetson Linux, e.g. "36.4.3".
        power_mode: As nvpmodel names it.
    """

    board: str | None
    l4t: str | None
    power_mode: str | None
    driver: str | None

    def facts(self) -> dict[str, str | int | float | None]:
        """Return the fields by name."""
        return dict(asdict(self))


def read_board(root: str = "/") -> Board:
    """Look at the machine; `root` is where its file system begins."""
    base = Path(root)
    return Board(
        board=_text(base / "proc/device-tree/model")
        or _text(base / "sys/devices/virtual/dmi/id/product_name"),
        l4t=_l4t(_text(base / "etc/nv_tegra_release")),
        power_mode=_power_mode() if root == "/" else None,
        driver=_text(base / "sys/module/nvidia/version"),
    )


def _l4t(text: str | None) -> str | None:
    """Read "# R36 (release), REVISION: 4.3, ..." as 36.4.3."""
    match = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", text or "")
    return f"{match.group(1)}.{match.group(2)}" if match else None


def _power_mode() -> str | None:
    tool = shutil.which("nvpmodel")
    if tool is None:
        return None
    try:
        done = subprocess.run(
            [tool, "-q"], capture_output=True, text=True, timeout=_NVPMODEL_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"NV Power Mode: *(\S+)", done.stdout)
    return match.group(1) if match else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").replace("\0", "").strip() or None
    except OSError:
        return None
