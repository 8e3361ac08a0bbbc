"""What every power meter must do, over boards made of files and, where there is one, a GPU."""

from __future__ import annotations

import contextlib
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from agent.adapters.power.ina3221 import Ina3221PowerMeter
from agent.adapters.power.jtop import JtopPowerMeter
from agent.adapters.power.nvml import NvmlPowerMeter
from agent.adapters.power.rapl import RaplPowerMeter
from agent.core.errors import PowerError
from agent.core.measurement.power import mean_power
from agent.core.measurement.power_sensors import POWER_SENSORS
from agent.ports import PowerMeter
from tests.fakes.power import FakePowerMeter
from tests.fakes.runners import FakeClock
from tests.support import rapl
from tests.support.fakejetson import boards
from tests.support.fakejetson.service import FakeJetson, require_namespace
from tests.support.parts import missing_part

PERIOD_S = 0.004  # of meters over files: no bus to wait for


@dataclass(frozen=True)
class Case:
    """A meter to be entered, its clock, and how its sensor vanishes; None where it can't."""

    meter: PowerMeter
    source: str
    rail: str
    vanish: Callable[[], None] | None
    now_ns: Callable[[], int] = time.monotonic_ns
    sleep: Callable[[float], None] = time.sleep
    clock_error_s: float = 0.0


FAST = ["fake", "orin-nano", "agx-orin", "thor", "rapl"]
SLOW = [pytest.param("jtop", marks=pytest.mark.slow), pytest.param("nvml", marks=pytest.mark.gpu)]


@pytest.fixture
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    kind = request.param
    with contextlib.ExitStack() as stack:
        if kind == "fake":
            clock = FakeClock(10**12)
            meter = FakePowerMeter(clock)
            vanish = lambda: setattr(meter, "gone_ns", clock.now_ns)  # noqa: E731
            yield Case(meter, "fake", "VDD_IN", vanish, clock.monotonic_ns, clock.sleep)
        elif kind == "rapl":
            counters = rapl.Counters(tmp_path, "package-0")
            yield Case(
                RaplPowerMeter(str(tmp_path), PERIOD_S), "rapl", "package-0", counters.vanish
            )
        elif kind == "jtop":
            require_namespace()
            jetson = stack.enter_context(FakeJetson(tmp_path, "orin-nano"))
            meter = JtopPowerMeter(0.1, jetson.socket)
            # /proc/uptime, the service's clock, has steps of 10 ms
            yield Case(meter, "jtop", "VDD_IN", jetson.kill, clock_error_s=0.02)
        elif kind == "nvml":
            with contextlib.suppress(PowerError):
                yield Case(NvmlPowerMeter(), "nvml", "GPU board", None)
                return
            missing_part("nvml", "no NVIDIA GPU that reports its power")
        else:
            rails = boards.build(tmp_path, kind)
            total = boards.BOARDS[kind].total or "sum:VDDQ_VDD2_1V8AO+VDD_CPU_CV+VDD_GPU_SOC"
            vanish = rails[boards.BOARDS[kind].total or "VDD_CPU_CV"].vanish
            meter = Ina3221PowerMeter(str(tmp_path), period_s=PERIOD_S)
            yield Case(meter, "ina3221", total, vanish)


every = pytest.mark.parametrize("case", [*FAST, *SLOW], indirect=True)


def wait_for(case: Case, count: int) -> None:
    """Let time pass until the meter has so many samples."""
    deadline_ns = case.now_ns() + 15 * 10**9
    while len(case.meter.samples()) < count:
        assert case.now_ns() < deadline_ns
        case.sleep(case.meter.period_s / 4)


@every
def test_samples_are_finite_watts_in_the_order_of_their_times(case: Case) -> None:
    begin_ns = case.now_ns()
    with case.meter as meter:
        wait_for(case, 3)
        early = list(meter.samples())
        wait_for(case, len(early) + 3)
        late = list(meter.samples())
        end_ns = case.now_ns()
    assert late[: len(early)] == early
    assert all(before.t_ns < after.t_ns for before, after in pairwise(late))
    assert all(math.isfinite(sample.power_w) for sample in late)
    assert all(type(sample.t_ns) is int for sample in late)
    slack_ns = (meter.period_s + case.clock_error_s) * 1e9  # the newest before entering may count
    assert begin_ns - slack_ns <= late[0].t_ns
    assert late[-1].t_ns <= end_ns + slack_ns


@every
def test_what_is_measured_and_by_what_is_named(case: Case) -> None:
    with case.meter as meter:
        assert meter.source == case.source
        assert meter.rail.startswith(case.rail)
        assert 0 < meter.period_s < math.inf


@every
def test_sensor_that_vanishes_is_a_gap_that_is_reported(case: Case) -> None:
    if case.vanish is None:
        pytest.skip("this sensor can't be taken away")
    with case.meter as meter:
        wait_for(case, 4)
        since_ns = case.now_ns()
        case.vanish()
        case.sleep(12 * meter.period_s)
        until_ns = case.now_ns()
        with contextlib.suppress(PowerError):  # an error says it, too
            power = mean_power(meter.samples(), [(since_ns, until_ns)], meter.period_s)
            assert power.coverage < 0.5


@every
def test_leaving_ends_sampling_and_leaves_no_thread_and_no_process(case: Case) -> None:
    children = set(psutil.Process().children(recursive=True))
    threads = set(threading.enumerate())
    with case.meter as meter:
        wait_for(case, 2)
    samples = list(meter.samples())
    assert not set(threading.enumerate()) - threads
    assert not set(psutil.Process().children(recursive=True)) - children
    case.sleep(3 * meter.period_s)
    assert list(meter.samples()) == samples


@every
def test_leaving_after_an_error_is_as_clean(case: Case) -> None:
    threads = set(threading.enumerate())
    with pytest.raises(KeyError), case.meter:
        raise KeyError
    assert not set(threading.enumerate()) - threads


def test_every_sensor_of_the_table_is_tried_here() -> None:
    tried = {RaplPowerMeter, JtopPowerMeter, NvmlPowerMeter, Ina3221PowerMeter}
    found = {kind.adapter.partition(":")[::2] for kind in POWER_SENSORS.values()}
    assert {
        getattr(import_module(f"agent.adapters.power.{module}"), name) for module, name in found
    } == tried


def absent_fake(folder: Path) -> PowerMeter:
    return FakePowerMeter(FakeClock(), absent="no sensor here")


def absent_nvml(folder: Path) -> PowerMeter:
    return NvmlPowerMeter()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (absent_fake, "no sensor here"),
        (lambda folder: Ina3221PowerMeter(str(folder)), "no INA3221 or INA238"),
        (lambda folder: RaplPowerMeter(str(folder)), "no RAPL counter"),
        (absent_nvml, "nvidia-ml-py is not installed"),
        (lambda folder: JtopPowerMeter(), "jetson-stats is not installed"),
        pytest.param(
            lambda folder: JtopPowerMeter(0.1, str(folder / "no.sock")),
            "not active",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_sensor_that_is_not_there_is_reported(
    make: Callable[[Path], PowerMeter],
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if "not installed" in reason:
        monkeypatch.setitem(sys.modules, "pynvml", None)
        monkeypatch.setitem(sys.modules, "jtop", None)
    threads = set(threading.enumerate())
    with pytest.raises(PowerError, match=reason) as caught, make(tmp_path):
        pass
    assert caught.value.code == "no_sensor"
    assert not set(threading.enumerate()) - threads
