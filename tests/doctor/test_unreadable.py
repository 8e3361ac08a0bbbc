"""Each file of a Jetson that exists and can't be read now costs its own figure and raises nothing."""

from __future__ import annotations

import contextlib
from pathlib import Path

from agent.adapters.host.board import read_board, unknown_board
from agent.adapters.host.conditions import read_conditions
from agent.adapters.power.ina3221 import Ina3221PowerMeter
from agent.adapters.power.nvpmodel import NvpModes
from agent.adapters.power.rapl import RaplPowerMeter
from agent.config import Config
from agent.config.boards import device_tree
from agent.core.errors import PowerError
from agent.doctor import device, measuring, system
from agent.doctor.findings import Machine
from tests.support.fakejetson import boards
from tests.support.nvpmodel import CONF
from tests.support.rapl import Counters
from tests.support.unreadable import not_now

FILES = {
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID",
    "etc/nvpmodel.conf": CONF,
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
    "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005\0nvidia,tegra234\0",
    "proc/meminfo": "MemTotal: 7802000 kB\nMemAvailable: 5000000 kB\n",
    "proc/swaps": "Filename Type Size Used Priority\n/swapfile file 600000 0 5\n",
    "proc/self/mounts": "/dev/nvme0n1p1 / ext4 rw 0 0\n",
    "proc/self/task/1/schedstat": "5 7 9\n",
    "proc/sys/kernel/osrelease": "5.15.148-tegra\n",
    "sys/module/nvidia/version": "540.4.0\n",
    "sys/class/hwmon/hwmon0/oc1_event_cnt": "0\n",
    "sys/class/thermal/cooling_device0/type": "cpufreq-cpu0\n",
    "sys/class/thermal/cooling_device0/cur_state": "0\n",
    "sys/class/devfreq/17000000.gpu/cur_freq": "306000000\n",
    "sys/class/devfreq/17000000.gpu/min_freq": "306000000\n",
    "sys/class/devfreq/17000000.gpu/max_freq": "918000000\n",
    "sys/class/devfreq/17000000.gpu/trans_stat": "  306000000:  0  0  4000\n",
    "sys/devices/system/cpu/cpufreq/policy0/stats/time_in_state": "115200 7\n",
    "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "0\n",
}


def read_all(root: Path, state: Path) -> None:
    """Read whatever telemetry, a measurement, a report and the doctor read."""
    here = str(root)
    read_conditions(here)
    read_board(here)
    unknown_board(here)
    device_tree(root)
    NvpModes(str(state), root=here).modes()
    for check in (device.board, device.jetpack, measuring.jtop, measuring.clocks):
        check(Config(), Machine(root))
    for check in (system.memory, system.swap):
        check(Config(), Machine(root))
    for meter in (Ina3221PowerMeter, RaplPowerMeter):
        with contextlib.suppress(PowerError), meter(here, period_s=0.001):
            pass


def test_no_file_that_can_not_be_read_now_raises_anything(tmp_path: Path) -> None:
    root = tmp_path / "root"
    boards.build(root, "thor")
    boards.complete(root)
    Counters(root, "package-0")
    for path, text in FILES.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    read_all(root, tmp_path)
    files = [file for file in sorted(root.rglob("*")) if file.is_file()]
    assert len(files) > len(FILES) + 20
    for file in files:
        with not_now(file):
            read_all(root, tmp_path)
