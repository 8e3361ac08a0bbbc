"""The parts of a Jetson's /sys that power meters read, as a folder of ordinary files.

Layout and names are those of the mainline Linux drivers (Documentation/hwmon/ina3221.rst and
ina238.rst) under NVIDIA's device trees: labels name the rails, mV and mA are read apart.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_DIGITS = 8  # numbers are rewritten in place, so that no reader ever sees half of one


@dataclass(frozen=True)
class Channel:
    """One channel of an INA3221; a label of "NC" is one that is not connected."""

    label: str
    volt_mv: int
    idle_w: float


@dataclass(frozen=True)
class Board:
    """The chips of a board by I2C address, and the rail that carries everything, if any."""

    ina3221: Mapping[str, tuple[Channel, ...]]
    ina238: Mapping[str, Channel]
    total: str


BOARDS = {
    "orin-nano": Board(
        {
            "1-0040": (
                Channel("VDD_IN", 5000, 5.0),
                Channel("VDD_CPU_GPU_CV", 5000, 1.2),
                Channel("VDD_SOC", 5000, 1.5),
            )
        },
        {},
        "VDD_IN",
    ),
    "agx-orin": Board(
        {
            "1-0040": (
                Channel("VDD_GPU_SOC", 20000, 3.2),
                Channel("VDD_CPU_CV", 20000, 0.8),
                Channel("VIN_SYS_5V0", 5000, 3.5),
            ),
            "1-0041": (
                Channel("NC", 0, 0.0),
                Channel("VDDQ_VDD2_1V8AO", 5000, 0.5),
                Channel("NC", 0, 0.0),
            ),
        },
        {},
        "",
    ),
    "thor": Board(
        {
            "2-0040": (
                Channel("VDD_GPU", 12000, 10.8),
                Channel("VDD_CPU_SOC_MSS", 12000, 8.4),
                Channel("VIN_SYS_5V0", 5000, 4.5),
            )
        },
        {"2-0044": Channel("VIN", 20000, 30.0)},
        "VIN",
    ),
}


class Rail:
    """The files of one rail, open for writing in place."""

    def __init__(self, folder: Path, number: int, volt_mv: int, watts_file: str = "") -> None:
        self.folder = folder
        self.number = number
        self._volt_mv = volt_mv
        self._amps = folder / f"curr{number}_input"
        self._watts = folder / watts_file if watts_file else None
        rewrite(folder / f"in{number}_input", volt_mv)

    def set(self, watts: float) -> None:
        """Let the rail carry so much, by its current; exact to 1 mA of the rail's voltage."""
        rewrite(self._amps, round(watts * 1e6 / self._volt_mv) if self._volt_mv else 0)
        if self._watts:
            rewrite(self._watts, round(watts * 1e6))

    def empty(self) -> None:
        """Give no number for once, as a bus does that fails in the middle of a read."""
        self._amps.write_bytes(b"")

    def vanish(self) -> None:
        """Make the sensor's files go, as a driver does that was unbound."""
        for path in (self.folder / f"in{self.number}_input", self._amps, self._watts):
            if path:
                path.rename(path.with_name(path.name + ".gone"))

    def come_back(self) -> None:
        for path in (self.folder / f"in{self.number}_input", self._amps, self._watts):
            if path:
                path.with_name(path.name + ".gone").rename(path)


def build(root: Path, name: str) -> dict[str, Rail]:
    """Write the board's /sys under root; return its connected rails, all at their idle power."""
    board = BOARDS[name]
    rails: dict[str, Rail] = {}
    chips = [(address, "ina3221") for address in board.ina3221]
    chips += [(address, "ina238") for address in board.ina238]
    for index, (address, chip) in enumerate(chips):
        folder = _chip(root, address, chip, index)
        if chip == "ina238":
            rails[board.ina238[address].label] = _ina238(folder, board.ina238[address])
            continue
        for number, channel in enumerate(board.ina3221[address], start=1):
            rail = _ina3221(folder, number, channel)
            if channel.label != "NC":
                rails[channel.label] = rail
        _write(folder / "in7_label", "sum of shunt voltages")
        _write(folder / "in7_input", "0")
        _write(folder / "curr4_input", "0")
    return rails


def attach_ina238(root: Path, address: str, channel: Channel) -> Rail:
    """Add an INA238, as carrier boards have for their input."""
    index = len(list(root.glob("sys/class/hwmon/hwmon*")))
    return _ina238(_chip(root, address, "ina238", index), channel)


def attach_supply(root: Path, name: str, watts: float, **files: str) -> None:
    """Add a battery or a charger of 20 V to /sys/class/power_supply."""
    folder = root / "sys/class/power_supply" / name
    _write(folder / "voltage_now", "20000000")
    _write(folder / "current_now", str(round(watts / 20 * 1e6)))
    for file, text in files.items():
        _write(folder / file, text)


def complete(root: Path) -> None:
    """Add what the jtop service needs of /sys before it starts, besides the power sensors."""
    cpus = os.cpu_count() or 1
    for index in range(cpus):
        folder = root / f"sys/devices/system/cpu/cpu{index}"
        _write(folder / "online", "1")
        for name in ("cpuinfo_min_freq", "scaling_min_freq"):
            _write(folder / "cpufreq" / name, "115200")
        for name in ("cpuinfo_max_freq", "scaling_max_freq", "scaling_cur_freq"):
            _write(folder / "cpufreq" / name, "1728000")
        _write(folder / "cpufreq/cpuinfo_cur_freq", "1728000")
        _write(folder / "cpufreq/scaling_governor", "schedutil")
    _write(root / "sys/devices/system/cpu/online", f"0-{cpus - 1}")
    for index, zone in enumerate(("cpu-thermal", "gpu-thermal", "tj-thermal")):
        _write(root / f"sys/class/thermal/thermal_zone{index}/type", zone)
        _write(root / f"sys/class/thermal/thermal_zone{index}/temp", "47500")
    _write(root / "sys/devices/virtual/dmi/id/product_name", "a folder that stands for a Jetson")
    (root / "sys/class/power_supply").mkdir(parents=True, exist_ok=True)


def rewrite(path: Path, value: int) -> None:
    """Replace a number in its file in one write of the same length."""
    text = f"{value:0{_DIGITS}d}\n".encode()
    if not path.exists():
        path.write_bytes(text)
        return
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(descriptor, text, 0)
    finally:
        os.close(descriptor)


def _chip(root: Path, address: str, chip: str, index: int) -> Path:
    device = root / f"sys/devices/platform/i2c/{address}"
    folder = device / f"hwmon/hwmon{index}"
    _write(device / "name", chip)
    _write(folder / "name", chip)
    for link in (root / "sys/bus/i2c/devices" / address, root / f"sys/class/hwmon/hwmon{index}"):
        link.parent.mkdir(parents=True, exist_ok=True)
        target = device if link.name == address else folder
        link.symlink_to(os.path.relpath(target, link.parent))
    return folder


def _ina3221(folder: Path, number: int, channel: Channel) -> Rail:
    _write(folder / f"in{number}_label", channel.label)
    _write(folder / f"in{number}_enable", "1")
    for name in ("max", "crit"):
        _write(folder / f"curr{number}_{name}", "32760")
    rail = Rail(folder, number, channel.volt_mv)
    rail.set(channel.idle_w)
    return rail


def _ina238(folder: Path, channel: Channel) -> Rail:
    rail = Rail(folder, 1, channel.volt_mv, "power1_input")
    rail.set(channel.idle_w)
    return rail


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")
