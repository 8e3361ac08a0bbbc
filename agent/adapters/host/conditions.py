"""The present temperature, throttling, clocks and CPU waiting time, from /sys and /proc."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from agent.core.measurement.power import ClockTotal, Conditions
from agent.disk import text_of

_THROTTLE_COUNTERS = (
    "sys/devices/system/cpu/cpu*/thermal_throttle/*_throttle_count",
    "sys/class/hwmon/hwmon*/oc*_event_cnt",
)
_COOLING = re.compile(r"cpu|gpu|devfreq|processor|powerclamp|throttle", re.IGNORECASE)
"""Types of cooling devices that slow CPU or GPU down; fans, displays and radios do not."""
_NO_TEMPERATURE = "PMIC-Die"
"""This zone of Jetson Nano, TX2 and Xavier always reads 100 deg C."""
_WAITED = "proc/self/task/*/schedstat"
_CPU_CLOCKS = ("sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq",)
GPUS = ("*.gpu", "*.ga10b", "gpu-gpc-*")
"""Of Orin, of Orin before Jetson Linux 36, and of Thor; in /sys/class/devfreq."""
_CPU_TIMES = ("sys/devices/system/cpu/cpufreq/policy*/stats/time_in_state",)
_CPU_TIME = re.compile(r"^([0-9]+) ([0-9]+)$", re.MULTILINE)
_GPU_TIMES = tuple(f"sys/class/devfreq/{name}/trans_stat" for name in GPUS)
_GPU_TIME = re.compile(r"^\*? *([0-9]+):(?: +[0-9]+)* +([0-9]+)$", re.MULTILINE)
_NUMBER = r"-?[0-9]{1,18}"
_GPU_CLOCKS = tuple(f"sys/class/devfreq/{name}/cur_freq" for name in GPUS)


def read_conditions(root: str = "/") -> Conditions:
    """Read the present conditions; `root` is where the file system begins.

    `cpu_mhz` and `gpu_mhz` are those of the fastest core and of the fastest part of the GPU;
    `cpu_clocked` and `gpu_clocked` add up all cores and all parts.
    """
    ran_ns, waited_ns = _scheduled_ns(root)
    return Conditions(
        temp_c=temperature_c(root),
        throttle_events=_throttle_events(root),
        cooling=_cooling(root),
        cpu_clocked=_clocked(root, _CPU_TIMES, _CPU_TIME, mhz=1e-3, seconds=1e-2),
        gpu_clocked=_clocked(root, _GPU_TIMES, _GPU_TIME, mhz=1e-6, seconds=1e-3),
        waited_ns=waited_ns,
        ran_ns=ran_ns,
        cpu_mhz=max((khz / 1e3 for khz in _numbers(root, _CPU_CLOCKS)), default=None),
        gpu_mhz=max((hz / 1e6 for hz in _numbers(root, _GPU_CLOCKS)), default=None),
    )


def temperature_c(root: str = "/") -> float | None:
    """Return the hottest thermal zone in deg C, None if there is none to read."""
    zones = [
        f"sys/class/thermal/{zone.name}/temp"
        for zone in Path(root).glob("sys/class/thermal/thermal_zone*")
        if text_of(zone / "type") != _NO_TEMPERATURE
    ]
    found = _numbers(root, tuple(zones))
    return max((one / 1000 for one in found if one > 0), default=None)  # -256000: switched off


def _throttle_events(root: str) -> int | None:
    """Return how often the machine has throttled since its start, None without counters.

    Source: Linux thermal_throttle of x86 (Documentation/admin-guide/thermal) and NVIDIA's
        soctherm over-current events (Jetson Linux developer guide, "Over-Current Throttling").
    """
    found = [number for number in _numbers(root, _THROTTLE_COUNTERS) if number >= 0]
    return sum(found) if found else None


def _cooling(root: str) -> int | None:
    """Return how many cooling devices slow CPU or GPU down now, None if there are none.

    Source: Linux Documentation/driver-api/thermal/sysfs-api.rst: cur_state 0 is no cooling;
        intel_powerclamp has -1 while it is idle. On a Jetson they are "cpufreq-cpu0",
        "devfreq-17000000.gpu", "gpu-throttle-alert" and the like, beside "pwm-fan".
    """
    found = None
    for device in Path(root).glob("sys/class/thermal/cooling_device*"):
        kind, state = text_of(device / "type"), text_of(device / "cur_state")
        slows = _COOLING.search(kind) and "fan" not in kind.lower()
        if slows and re.fullmatch(_NUMBER, state):
            found = (found or 0) + (int(state) > 0)
    return found


def _clocked(
    root: str, patterns: tuple[str, ...], row: re.Pattern[str], *, mhz: float, seconds: float
) -> ClockTotal | None:
    """Add up tables of clocks and the time at each; None if the total time is 0.

    Source: Linux Documentation/cpu-freq/cpufreq-stats.rst (kHz, 10 ms) and
        Documentation/ABI/testing/sysfs-class-devfreq (trans_stat: Hz, the transitions, ms).
    """
    times = [
        (int(clock) * mhz, int(time) * seconds)
        for pattern in patterns
        for file in Path(root).glob(pattern)
        for clock, time in row.findall(text_of(file))
    ]
    whole_s = sum(time for _, time in times)
    return ClockTotal(whole_s, sum(clock * time for clock, time in times)) if whole_s else None


def _scheduled_ns(root: str) -> tuple[int, int] | tuple[None, None]:
    """Return (run, waited), summed over all threads, None if the kernel does not count them.

    Source: Linux Documentation/scheduler/sched-stats.rst: of the three fields, the first is the
        time spent on a CPU and the second that spent waiting to run, ns.
    """
    times = []
    for file in Path(root).glob(_WAITED):
        fields = text_of(file).split()  # none if the thread ended meanwhile
        if len(fields) == 3 and fields[0].isdigit() and fields[1].isdigit():
            times.append((int(fields[0]), int(fields[1])))
    if not times:
        return None, None
    return sum(ran for ran, _ in times), sum(waited for _, waited in times)


def _numbers(root: str, patterns: tuple[str, ...]) -> Iterator[int]:
    """Yield the numbers in the files that can be read."""
    for pattern in patterns:
        for file in Path(root).glob(pattern):
            text = text_of(file)
            if re.fullmatch(_NUMBER, text):
                yield int(text)
