"""The power sensors by name, and what each measures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerSensor:
    """One kind of sensor.

    Attributes:
        adapter: "module:class" in agent.adapters.power; imported by the job that measures.
        measures: The whole board, or only the CPU or the GPU.
        excludes: What its figure leaves out, in words; "" where the board file has that by rail.
    """

    adapter: str
    measures: Literal["board", "cpu", "gpu"]
    excludes: str = ""


POWER_SENSORS = {
    "jtop": PowerSensor(adapter="jtop:JtopPowerMeter", measures="board"),
    "ina3221": PowerSensor(adapter="ina3221:Ina3221PowerMeter", measures="board"),
    "nvml": PowerSensor(
        adapter="nvml:NvmlPowerMeter",
        measures="gpu",
        excludes="the CPU and the rest of the machine",
    ),
    "rapl": PowerSensor(
        adapter="rapl:RaplPowerMeter",
        measures="cpu",
        excludes="GPUs, storage and the rest of the machine",
    ),
}
"""In the order in which `measure.power = "auto"` tries those that measure what executes."""
