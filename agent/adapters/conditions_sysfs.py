"""How the machine is at this moment, from /sys: readable by anyone, on any Linux."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from agent.core.energy import Conditions

_THROTTLE_COUNTERS = (
    "sys/devices/system/cpu/cpu*/thermal_throttle/*_throttle_count",
    "sys/class/hwmon/hwmon*/oc*_event_cnt",
)
_CPU_CLOCKS = ("sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq",)
GPUS = ("*.gpu", "*.ga10b", "gpu-gpc-*")
"""Of Orin, of Orin before Jetson Linux 36, and of Thor; in /sys/class/devfreq."""
_GPU_CLOCKS = tuple(f"sys/class/devfreq/{name}/cur_freq" for name in GPUS)


def read_conditions(root: str = "/") -> Conditions:
    """Look at the machine; `root` is where its file system begins.

    Clocks are those of the fastest core and of the fastest part of the GPU.
    """
    return Conditions(
        temp_c=temperature_c(root),
        throttle_events=_throttle_events(root),
        cpu_mhz=max((khz / 1e3 for khz in _numbers(root, _CPU_CLOCKS)), default=None),
        gpu_mhz=max((hz / 1e6 for hz in _numbers(root, _GPU_CLOCKS)), default=None),
    )


def temperature_c(root: str = "/") -> float | None:
    """Return the hottest thermal zone in deg C, None if there is none to read."""
    zones = _numbers(root, ("sys/class/thermal/thermal_zone*/temp",))
    return max((one / 1000 for one in zones if one > 0), default=None)  # -256000: switched off


def _throttle_events(root: str) -> int | None:
    """Return how often the machine has slowed itself since its start, None if nothing counts.

    Source: Linux thermal_throttle of x86 (Documentation/admin-guide/thermal) and NVIDIA's
        soctherm over-current events (Jetson Linux developer guide, "Over-Current Throttling").
    """
    found = [number for number in _numbers(root, _THROTTLE_COUNTERS) if number >= 0]
    return sum(found) if found else None


def _numbers(root: str, patterns: tuple[str, ...]) -> Iterator[int]:
    """Yield the numbers in the files that can be read."""
    for pattern in patterns:
        for file in Path(root).glob(pattern):
            try:
                text = file.read_text(errors="replace").strip()
            except OSError:
                continue
            if re.fullmatch(r"-?[0-9]{1,18}", text):
                yield int(text)
