"""The conditions of the machine around a measurement, and readings that are not valid."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.adapters.host.conditions import read_conditions
from agent.core.measurement.power import Conditions
from tests.support.unreadable import not_now

CPU, GPU = "sys/devices/system/cpu", "sys/class/devfreq"


def written(root: Path, files: dict[str, str]) -> Conditions:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(f"{text}\n")
    return read_conditions(str(root))


def test_a_machine_without_any_such_file_is_unknown(tmp_path: Path) -> None:
    assert read_conditions(str(tmp_path)) == Conditions()


def test_every_counter_of_throttling_is_added_and_what_is_no_number_left_out(
    tmp_path: Path,
) -> None:
    files = {
        f"{CPU}/cpu0/thermal_throttle/core_throttle_count": "3",
        f"{CPU}/cpu1/thermal_throttle/package_throttle_count": "4",
        "sys/class/hwmon/hwmon2/oc1_event_cnt": "5",
        "sys/class/hwmon/hwmon2/oc3_event_cnt": "not a number",
        "sys/class/hwmon/hwmon2/oc4_event_cnt": "9" * 5000,
    }
    assert written(tmp_path, files) == Conditions(throttle_events=12)


def test_the_hottest_zone_and_the_fastest_core_are_returned(tmp_path: Path) -> None:
    files = {
        "sys/class/thermal/thermal_zone0/temp": "41500",
        "sys/class/thermal/thermal_zone1/temp": "52250",
        "sys/class/thermal/thermal_zone2/temp": "-256000",
        f"{CPU}/cpu0/cpufreq/scaling_cur_freq": "729600",
        f"{CPU}/cpu1/cpufreq/scaling_cur_freq": "1510400",
    }
    assert written(tmp_path, files) == Conditions(temp_c=52.25, cpu_mhz=1510.4)


def test_a_zone_that_is_always_100_degrees_is_no_temperature(tmp_path: Path) -> None:
    files = {
        "sys/class/thermal/thermal_zone0/type": "PMIC-Die",
        "sys/class/thermal/thermal_zone0/temp": "100000",
        "sys/class/thermal/thermal_zone1/type": "CPU-therm",
        "sys/class/thermal/thermal_zone1/temp": "41500",
    }
    assert written(tmp_path, files).temp_c == 41.5
    (tmp_path / "sys/class/thermal/thermal_zone1/temp").unlink()
    assert read_conditions(str(tmp_path)).temp_c is None


THERMAL = "sys/class/thermal/cooling_device"


def cooling(devices: dict[str, str]) -> dict[str, str]:
    found = {}
    for number, (kind, state) in enumerate(devices.items()):
        found |= {f"{THERMAL}{number}/type": kind, f"{THERMAL}{number}/cur_state": state}
    return found


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        ({"pwm-fan": "3", "LCD": "7", "iwlwifi": "1"}, None),
        ({"pwm-fan": "3", "cpufreq-cpu0": "0", "gpu-throttle-alert": "0"}, 0),
        ({"cpufreq-cpu0": "2", "devfreq-17000000.gpu": "1", "cpu-throttle-alert": "0"}, 2),
        ({"Processor": "1", "Fan": "1", "intel_powerclamp": "-1"}, 1),
        ({"cpufreq-cpu0": "nothing"}, None),
    ],
    ids=["no device that slows", "none slows", "two slow", "x86", "unreadable"],
)
def test_cooling_devices_that_slow_computing_are_counted(
    tmp_path: Path, devices: dict[str, str], expected: int | None
) -> None:
    assert written(tmp_path, cooling(devices)) == Conditions(cooling=expected)


TRANSITIONS = """\
     From  :   To
           : 306000000 612000000 918000000   time(ms)
  306000000:         0         3         1      4000
* 612000000:         2         0         7      1000
  918000000:         2         6         0      5000
Total transition : 21
"""


def test_clocks_are_added_over_the_time_that_was_spent_at_each(tmp_path: Path) -> None:
    policy = f"{CPU}/cpufreq/policy"
    files = {
        f"{policy}0/stats/time_in_state": "729600 1000\n1510400 500",
        f"{policy}4/stats/time_in_state": "729600 0\n1510400 1500",
        f"{GPU}/17000000.gpu/trans_stat": TRANSITIONS,
        f"{GPU}/15340000.vic/trans_stat": TRANSITIONS,
    }
    found = written(tmp_path, files)
    assert found.cpu_clocked is not None
    assert found.cpu_clocked.seconds == pytest.approx(30.0)
    assert found.cpu_clocked.mhz_s == pytest.approx(729.6 * 10 + 1510.4 * 20)
    assert found.gpu_clocked is not None
    assert found.gpu_clocked.seconds == pytest.approx(10.0)
    assert found.gpu_clocked.mhz_s == pytest.approx(306 * 4 + 612 * 1 + 918 * 5)


@pytest.mark.parametrize("text", ["Not Supported.", "", "918000000:", "x: 1 2 3"])
def test_a_table_of_clocks_without_time_is_none(tmp_path: Path, text: str) -> None:
    assert written(tmp_path, {f"{GPU}/17000000.gpu/trans_stat": text}) == Conditions()


def test_running_and_waiting_for_a_cpu_are_added_over_the_threads(tmp_path: Path) -> None:
    files = {
        "proc/self/task/10/schedstat": "900 40 3",
        "proc/self/task/11/schedstat": "5 2 1",
        "proc/self/task/12/schedstat": "odd",
    }
    assert written(tmp_path, files) == Conditions(waited_ns=42, ran_ns=905)


def test_this_machine_counts_waiting_upward() -> None:
    before, after = read_conditions(), read_conditions()
    if before.waited_ns is None or after.waited_ns is None:
        pytest.skip("a kernel without schedstat")
    assert after.waited_ns >= before.waited_ns >= 0
    assert after.ran_ns >= before.ran_ns > 0


@pytest.mark.parametrize("name", ["17000000.gpu", "17000000.ga10b", "gpu-gpc-0"])
def test_the_clock_of_the_gpu_is_found_on_every_jetson(tmp_path: Path, name: str) -> None:
    files = {f"{GPU}/{name}/cur_freq": "918000000", f"{GPU}/15340000.vic/cur_freq": "1"}
    assert written(tmp_path, files) == Conditions(gpu_mhz=918.0)


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "path",
    [
        "sys/class/thermal/thermal_zone0/temp",
        "sys/class/thermal/cooling_device0/cur_state",
        f"{CPU}/cpu0/cpufreq/scaling_cur_freq",
        f"{CPU}/cpufreq/policy0/stats/time_in_state",
        f"{GPU}/17000000.gpu/cur_freq",
        "proc/self/task/1/schedstat",
    ],
)
def test_a_file_that_can_not_be_read_now_costs_its_figure_only(tmp_path: Path, path: str) -> None:
    """The zones of absent units answer EAGAIN on every Orin Nano (node_exporter issue 3071)."""
    with not_now(tmp_path / path):
        found = written(tmp_path, {"sys/class/thermal/thermal_zone1/temp": "41500"})
    assert found == Conditions(temp_c=41.5)
