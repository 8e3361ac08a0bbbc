"""Power from the board's INA3221 or INA238 sensors through hwmon, without a service or group."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import isfinite
from pathlib import Path

from agent.adapters.power.sampling import SampledMeter
from agent.core.errors import PowerError
from agent.disk import read_now, text_of

_CHIPS = {"ina3221", "ina238"}
TOTALS = ("VDD_IN", "VIN", "POM_5V_IN")
"""Rails with all of a module's power, on boards without a board file."""
_PERIOD_S = 0.1

Reader = Callable[[], float]


class Ina3221PowerMeter(SampledMeter):
    """Implements `ports.PowerMeter` on /sys/class/hwmon.

    If the board has no rail for the total (AGX Orin), all rails but those of `TOTALS` are summed and
    the rail's name lists them: "sum:VDD_CPU_CV+VDD_GPU_SOC".

    Args:
        root: Root of the file system.
        rail: A rail by name; empty for the total.
        period_s: Time between reads.
        totals: Names of rails for the total; the first one on this board is used.

    Raises:
        PowerError: "no_sensor" if there is no such sensor or rail.
    """

    def __init__(
        self,
        root: str = "/",
        rail: str = "",
        period_s: float = _PERIOD_S,
        totals: Sequence[str] = TOTALS,
    ) -> None:
        rails = find_rails(root)
        if not rails:
            raise _no_rail(root)
        if rail and rail not in rails:
            raise PowerError(
                f"no rail {rail}", code="no_sensor", hint="rails here: " + ", ".join(rails)
            )
        name, parts = (rail, [rail]) if rail else total(rails, totals)
        if not parts:
            raise PowerError(
                f"no rail {' or '.join(totals)} or part of it: {', '.join(rails)}", code="no_sensor"
            )
        readers = [rails[part] for part in parts]
        super().__init__("ina3221", name, period_s, lambda: sum(read() for read in readers))


def total(names: Iterable[str], totals: Sequence[str]) -> tuple[str, list[str]]:
    """Return the name of the total and the rails that make it up: one of `totals`, else a sum.

    A rail of `TOTALS` that is not this board's total is no part of the sum: it contains the others.
    """
    found = set(names)
    for name in totals:
        if name in found:
            return name, [name]
    parts = sorted(found - set(TOTALS))
    return "sum:" + "+".join(parts), parts


def find_rails(root: str = "/") -> dict[str, Reader]:
    """Return a reader in W for each connected rail of the board's power sensors.

    Source: Linux Documentation/hwmon/ina3221.rst and ina238.rst for the files and their units;
    "NC" is the label of a channel that is not connected in NVIDIA's device trees.
    """
    rails: dict[str, Reader] = {}
    for device, _ in _chips(root):
        for name, reader in _readers(device):
            rails[f"{name} ({device.name})" if name in rails else name] = reader
    return rails


def _chips(root: str) -> list[tuple[Path, str]]:
    """Return the folders and names of the sensors' chips, those of the module first.

    They are probed before those of a carrier board and have the lower numbers.
    """
    devices = sorted(
        Path(root, "sys/class/hwmon").glob("hwmon*"), key=lambda one: (len(one.name), one.name)
    )
    return [(device, chip) for device in devices if (chip := text_of(device / "name")) in _CHIPS]


def _no_rail(root: str) -> PowerError:
    found = ", ".join(f"{chip} ({device.name})" for device, chip in _chips(root))
    if not found:
        return PowerError("no INA3221 or INA238 in /sys/class/hwmon", code="no_sensor")
    return PowerError(
        f"{found}: no channel is named and switched on",
        code="no_sensor",
        hint="the labels are in the device tree of NVIDIA's Jetson Linux: a custom one must name "
        "the rails, too",
    )


def _readers(device: Path) -> Iterator[tuple[str, Reader]]:
    if (device / "power1_input").exists():  # an INA238 computes power itself, in uW
        name = text_of(device / "power1_label") or text_of(device / "in1_label") or "VIN"
        yield name, lambda: _number(device / "power1_input") / 1e6
        return
    for label in sorted(device.glob("in*_label")):
        name, number = text_of(label), label.name.removesuffix("_label").removeprefix("in")
        off = text_of(device / f"in{number}_enable") == "0"
        if name not in {"", "NC"} and not off and (device / f"curr{number}_input").exists():
            yield name, _volts_times_amps(device, number)


def _volts_times_amps(device: Path, number: str) -> Reader:
    volts, amps = device / f"in{number}_input", device / f"curr{number}_input"
    return lambda: _number(volts) * _number(amps) / 1e6  # mV x mA


def _number(path: Path) -> float:
    try:
        number = float(read_now(path))
    except (OSError, ValueError) as e:
        raise PowerError(f"{path}: {e}", code="gone") from e
    if not isfinite(number):
        raise PowerError(f"{path}: {number}", code="gone")
    return number
