"""Power meters over the kernel's own files: rails, chips, counters, and what may be wrong there."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.adapters.power.ina3221 import Ina3221PowerMeter, find_rails
from agent.adapters.power.rapl import RaplPowerMeter
from agent.core.errors import PowerError
from agent.core.measurement.power import mean_power
from tests.support.fakejetson import boards
from tests.support.fakejetson.waves import Player, square
from tests.support.rapl import Counters
from tests.support.unreadable import not_now

PERIOD_S = 0.004


def now_w(meter: Ina3221PowerMeter) -> float:
    with meter:
        return meter.samples()[0].power_w


@pytest.mark.parametrize("name", boards.BOARDS)
def test_total_rail_is_chosen_where_the_board_has_one(tmp_path: Path, name: str) -> None:
    rails = boards.build(tmp_path, name)
    for number, rail in enumerate(rails.values(), start=1):
        rail.set(float(number))
    meter = Ina3221PowerMeter(str(tmp_path))
    total = boards.BOARDS[name].total
    assert meter.rail == (total or "sum:" + "+".join(sorted(rails)))
    expected = float(list(rails).index(total) + 1) if total else 1.0 + 2.0 + 3.0 + 4.0
    assert now_w(meter) == pytest.approx(expected, abs=0.01)


def test_channels_that_are_not_connected_or_off_are_no_rails(tmp_path: Path) -> None:
    rails = boards.build(tmp_path, "agx-orin")
    off = rails["VDD_CPU_CV"]
    (off.folder / f"in{off.number}_enable").write_text("0\n")
    assert sorted(find_rails(str(tmp_path))) == ["VDDQ_VDD2_1V8AO", "VDD_GPU_SOC", "VIN_SYS_5V0"]


def test_one_rail_can_be_asked_for(tmp_path: Path) -> None:
    boards.build(tmp_path, "orin-nano")
    meter = Ina3221PowerMeter(str(tmp_path), rail="VDD_SOC")
    assert meter.rail == "VDD_SOC"
    assert now_w(meter) == pytest.approx(1.5)


def test_unknown_rail_is_refused_with_the_rails_there_are(tmp_path: Path) -> None:
    boards.build(tmp_path, "orin-nano")
    with pytest.raises(PowerError, match="no rail VDD_XX") as caught:
        Ina3221PowerMeter(str(tmp_path), rail="VDD_XX")
    assert "VDD_IN" in caught.value.hint


def test_rails_of_the_same_name_are_both_kept(tmp_path: Path) -> None:
    rails = boards.build(tmp_path, "agx-orin")
    twin = rails["VDDQ_VDD2_1V8AO"]
    (twin.folder / f"in{twin.number}_label").write_text("VDD_CPU_CV\n")
    meter = Ina3221PowerMeter(str(tmp_path))
    assert now_w(meter) == pytest.approx(3.2 + 0.8 + 3.5 + 0.5)


def test_of_two_rails_with_one_name_that_of_the_first_chip_keeps_it(tmp_path: Path) -> None:
    """The module's chip is probed before the carrier's; as text, hwmon10 comes before hwmon2."""
    rails = boards.build(tmp_path, "orin-nano")
    rails["VDD_IN"].set(7.0)
    hwmon = tmp_path / "sys/class/hwmon"
    (hwmon / "hwmon0").rename(hwmon / "hwmon2")
    carrier = tmp_path / "carrier"
    boards.build(carrier, "orin-nano")
    (hwmon / "hwmon10").symlink_to(carrier / "sys/class/hwmon/hwmon0")
    assert {"VDD_IN", "VDD_IN (hwmon10)"} <= set(find_rails(str(tmp_path)))
    assert now_w(Ina3221PowerMeter(str(tmp_path))) == pytest.approx(7.0)


def test_a_chip_without_labels_is_named_in_the_reason(tmp_path: Path) -> None:
    boards.build(tmp_path, "orin-nano")
    for label in tmp_path.glob("sys/class/hwmon/*/in*_label"):
        label.unlink()
    with pytest.raises(PowerError, match="no channel is named") as caught:
        Ina3221PowerMeter(str(tmp_path))
    assert caught.value.code == "no_sensor"
    assert "ina3221 (hwmon0)" in caught.value.message
    assert "device tree" in caught.value.hint


def test_a_total_is_not_added_to_its_parts(tmp_path: Path) -> None:
    """On a board whose file says that rails are summed, though its carrier has an INA238."""
    rails = boards.build(tmp_path, "thor")
    meter = Ina3221PowerMeter(str(tmp_path), totals=("",))
    assert meter.rail == "sum:" + "+".join(sorted(set(rails) - {"VIN"}))
    assert now_w(meter) == pytest.approx(10.8 + 8.4 + 4.5)


def test_a_total_that_is_not_this_boards_is_no_sensor_alone(tmp_path: Path) -> None:
    boards.build(tmp_path, "thor")
    for label in tmp_path.glob("sys/class/hwmon/*/in*_label"):
        label.unlink()
    assert Ina3221PowerMeter(str(tmp_path)).rail == "VIN"
    with pytest.raises(PowerError, match="no rail VDD_IN") as caught:
        Ina3221PowerMeter(str(tmp_path), totals=("VDD_IN",))
    assert caught.value.code == "no_sensor"


def test_power_below_zero_is_returned_as_read(tmp_path: Path) -> None:
    """A Thor at rest reads a little below 0 W on VDD_GPU."""
    rail = boards.build(tmp_path, "thor")["VDD_GPU"]
    (rail.folder / f"curr{rail.number}_input").write_text("-33\n")
    assert now_w(Ina3221PowerMeter(str(tmp_path), rail="VDD_GPU")) == pytest.approx(-0.396)


@pytest.mark.parametrize("text", ["", "\n", "much\n", "nan\n", "inf\n", "\xff"])
def test_sensor_that_gives_no_number_is_reported(tmp_path: Path, text: str) -> None:
    rail = boards.build(tmp_path, "orin-nano")["VDD_IN"]
    meter = Ina3221PowerMeter(str(tmp_path))
    (rail.folder / f"curr{rail.number}_input").write_bytes(text.encode("latin1"))
    with pytest.raises(PowerError, match="curr1_input") as caught, meter:
        pass
    assert caught.value.code == "gone"


@pytest.mark.slow
def test_mean_power_of_a_wave_is_the_truth(tmp_path: Path) -> None:
    rails = boards.build(tmp_path, "orin-nano")
    with Ina3221PowerMeter(str(tmp_path), period_s=0.02) as meter:  # noqa: SIM117
        with Player(square(5.0, 9.0, 0.33), rails["VDD_IN"].set) as player:
            begin_ns = time.monotonic_ns()
            time.sleep(1.5)
            end_ns = meter.samples()[-1].t_ns
    power = mean_power(meter.samples(), [(begin_ns, end_ns)], meter.period_s)
    assert power.mean_w == pytest.approx(player.mean_w(begin_ns, end_ns), abs=0.2)


def test_only_cpu_packages_are_added(tmp_path: Path) -> None:
    """The zone "psys" of laptops holds the packages: with them it would count them twice."""
    counters = Counters(tmp_path, "package-0", "psys", "package-1")
    assert RaplPowerMeter(str(tmp_path), period_s=PERIOD_S).rail == "package-0+package-1"
    (counters.zones[0] / "name").write_text("psys\n")
    (counters.zones[2] / "name").write_text("psys\n")
    with pytest.raises(PowerError, match="package") as caught:
        RaplPowerMeter(str(tmp_path), period_s=PERIOD_S)
    assert caught.value.code == "no_sensor"


def test_counter_that_wraps_around_loses_nothing(tmp_path: Path) -> None:
    counters = Counters(tmp_path, "package-0")
    counters.spend(counters.range_uj - 1000)
    with RaplPowerMeter(str(tmp_path), period_s=PERIOD_S) as meter:
        begin_ns = meter.samples()[-1].t_ns
        counters.spend(51_000)  # 0.051 J, 1 mJ of it before the counter begins anew
        while not any(sample.power_w for sample in meter.samples()):
            assert time.monotonic_ns() < begin_ns + 10 * 10**9
        longest_s = (time.monotonic_ns() - begin_ns) / 1e9
        highest_w = max(sample.power_w for sample in meter.samples())
    assert 0.051 / (longest_s + 2 * PERIOD_S) <= highest_w < 0.051 / 1e-5


def readings(meter: RaplPowerMeter, *energies_uj: int, zone: Path) -> list[float | None]:
    """Return what is read after each value of the counter, W; None is a gap."""
    found: list[float | None] = []
    for energy_uj in energies_uj:
        (zone / "energy_uj").write_text(f"{energy_uj}\n")
        time.sleep(0.002)
        try:
            found.append(meter._watts())
        except PowerError:
            found.append(None)
    return found


@pytest.mark.parametrize(
    ("begin_uj", "step_uj", "gap"),
    [
        (10**9, -1, True),
        (10**9, -(10**9), True),
        (10**9, 10**11, True),
        (10**9, 1000, False),
        (Counters.range_uj - 100, 200 - Counters.range_uj, False),
        (Counters.range_uj // 2, -Counters.range_uj // 2, True),
    ],
    ids=["back", "to zero", "far ahead", "on", "wrap", "back from half of the range"],
)
def test_a_step_that_no_package_can_spend_is_a_gap(
    tmp_path: Path, begin_uj: int, step_uj: int, gap: bool
) -> None:
    (zone,) = Counters(tmp_path, "package-0").zones
    (zone / "energy_uj").write_text(f"{begin_uj}\n")
    meter = RaplPowerMeter(str(tmp_path), PERIOD_S)
    found, after = readings(meter, begin_uj + step_uj, begin_uj + step_uj + 5000, zone=zone)
    assert (found is None) == gap
    assert after is not None
    assert 0 < after < 2.5  # 5 mJ in at least 2 ms


def test_a_step_of_the_counter_between_two_early_readings_is_no_jump(tmp_path: Path) -> None:
    """It counts about once in a ms: 0.5 J just before a reading are no 50 kW."""
    (zone,) = Counters(tmp_path, "package-0").zones
    meter = RaplPowerMeter(str(tmp_path), PERIOD_S)
    for _ in range(20):
        meter._watts()
        energy_uj = int((zone / "energy_uj").read_text()) + 500_000
        (zone / "energy_uj").write_text(f"{energy_uj}\n")
        meter._watts()
    assert meter._jumps == 0


def test_a_counter_that_jumps_again_and_again_is_no_sensor(tmp_path: Path) -> None:
    """As of a virtual machine whose counter is now of one, now of another CPU."""
    (zone,) = Counters(tmp_path, "package-0").zones
    meter = RaplPowerMeter(str(tmp_path), PERIOD_S)
    with meter:
        pass
    assert readings(meter, 10**11, 1000, zone=zone) == [None, None]
    assert meter.samples()
    readings(meter, *[10**11, 1000] * 3, zone=zone)
    with pytest.raises(PowerError, match="package-0 jumped 8 times") as caught:
        meter.samples()
    assert caught.value.code == "jumped"


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Have no more rights than any user, also where the tests run as root."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_counter_for_root_only_is_reported_as_such() -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own may be entered by us only
        counters = Counters(Path(folder), "package-0")
        Path(folder).chmod(0o755)
        (counters.zones[0] / "energy_uj").chmod(0)
        with pytest.raises(PowerError, match="root only") as caught, as_nobody():
            RaplPowerMeter(folder)
    assert caught.value.code == "not_allowed"
    assert caught.value.hint


@pytest.mark.timeout(10)
@pytest.mark.parametrize("kind", ["ina3221", "rapl"])
def test_a_sensor_that_can_not_be_read_for_a_moment_leaves_a_gap_and_goes_on(
    tmp_path: Path, kind: str
) -> None:
    meter: Ina3221PowerMeter | RaplPowerMeter
    if kind == "ina3221":
        rail = boards.build(tmp_path, "orin-nano")["VDD_IN"]
        meter = Ina3221PowerMeter(str(tmp_path), period_s=PERIOD_S)
        file = rail.folder / f"curr{rail.number}_input"
    else:
        Counters(tmp_path, "package-0")
        meter = RaplPowerMeter(str(tmp_path), PERIOD_S)
        (file,) = tmp_path.glob("sys/class/powercap/*/energy_uj")
    with meter:
        with not_now(file):
            time.sleep(5 * PERIOD_S)
            seen = len(meter.samples())
            time.sleep(5 * PERIOD_S)
            assert len(meter.samples()) == seen
        time.sleep(20 * PERIOD_S)
        assert len(meter.samples()) > seen
