"""Choose the power sensor: the board's, else that of what executes the engines."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING

from agent.config import Config
from agent.core.errors import PowerError
from agent.core.measurement.power_sensors import POWER_SENSORS
from agent.core.records import Engine, Measurements, Power
from agent.wiring.boards import board_of, excluded

if TYPE_CHECKING:
    from agent.ports import PowerMeter

_ON_CPU = "CPUExecutionProvider"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensor:
    """What was found to measure power with.

    Attributes:
        meter: Entered; None if there is none.
        reason: Why there is none, else "".
        passed_over: Why those before it in order were not used; "" if it is the first.
    """

    meter: PowerMeter | None
    reason: str = ""
    passed_over: str = ""


def on_gpu(engines: Iterable[Engine]) -> bool:
    """Return whether any part of the engines executes on a GPU."""
    return any(
        one.runtime == "tensorrt" or set(one.layers.providers) - {_ON_CPU} for one in engines
    )


def opened(config: Config, *, gpu: bool, stack: ExitStack) -> Sensor:
    """Return the sensor, entered.

    Args:
        config: Names it, or leaves it to us.
        gpu: Whether engines execute on a GPU: its own sensor sees nothing of a CPU, nor does
            that of a CPU see anything of a GPU.
        stack: Leaves it.

    Raises:
        PowerError: if the one that was named can't be used.
    """
    wanted = config.measure.power
    if wanted == "none":
        return Sensor(meter=None, reason='not measured: measure.power is "none"')
    if wanted != "auto":
        return Sensor(meter=stack.enter_context(_meter(config, wanted)))
    tried: list[str] = []
    suitable = {"board", "gpu" if gpu else "cpu"}
    for name in (name for name, one in POWER_SENSORS.items() if one.measures in suitable):
        try:
            meter = stack.enter_context(_meter(config, name))
        except PowerError as error:
            tried.append(f"{name}: {error.message}")
        else:
            return Sensor(meter=meter, passed_over="; ".join(tried))
    return Sensor(meter=None, reason=f"no power sensor on this machine ({'; '.join(tried)})")


def checks(config: Config, meter: PowerMeter, stack: ExitStack) -> list[PowerMeter]:
    """Return the sensor itself, entered, beside the service that reads the same rail of it."""
    if meter.source != "jtop":
        return []
    try:
        other = _meter(config, "ina3221")
        return [stack.enter_context(other)] if other.rail == meter.rail else []
    except PowerError:
        return []  # there is no second way, which takes nothing from the first


def with_scope(found: Measurements, config: Config, passed_over: str) -> Measurements:
    """Add to each power what it leaves out, and which sensors were not used for it."""

    def scoped(power: Power | None) -> Power | None:
        if power is None:
            return None
        left_out = _left_out(config, power.source, power.rail)
        return replace(power, excludes=left_out, passed_over=passed_over)

    return replace(
        found,
        measured={
            name: replace(
                one,
                power_w=scoped(one.power_w),
                at_rate=replace(one.at_rate, power_w=scoped(one.at_rate.power_w))
                if one.at_rate
                else None,
            )
            for name, one in found.measured.items()
        },
    )


def power_source(config: Config) -> tuple[str, str]:
    """Return the power sensors that would be used, in words, or "" and why there is none."""
    found = {}
    for gpu in (False, True):
        with ExitStack() as stack:
            sensor = opened(config, gpu=gpu, stack=stack)
            if sensor.meter is None:
                reason = sensor.reason
                continue
            meter = sensor.meter
            left_out = _left_out(config, meter.source, meter.rail)
            seen = f"{meter.source}, rail {meter.rail}"
            found[gpu] = seen + (f" (not in it: {left_out})" if left_out else "")
            if config.measure.power != "auto" or POWER_SENSORS[meter.source].measures == "board":
                return found[gpu], ""
    where = {False: "on the CPU", True: "on a GPU"}
    return "; ".join(f"{where[gpu]}: {seen}" for gpu, seen in found.items()), (
        "" if found else reason
    )


def _left_out(config: Config, source: str, rail: str) -> str:
    known = POWER_SENSORS.get(source)
    return (known and known.excludes) or excluded(config, rail)


def _meter(config: Config, name: str) -> PowerMeter:
    module, _, adapter = POWER_SENSORS[name].adapter.partition(":")
    kind = getattr(import_module(f"agent.adapters.power.{module}"), adapter)
    known = board_of(config) if POWER_SENSORS[name].measures == "board" else None
    meter: PowerMeter = kind(totals=(known.power.total_rail,)) if known else kind()
    if known and known.power.maximum_w:
        meter.most_w = known.power.maximum_w
    return meter
