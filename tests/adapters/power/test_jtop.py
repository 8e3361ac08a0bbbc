"""The power meter over the real jtop service, on boards made of files."""

from __future__ import annotations

import contextlib
import io
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from agent import config as configuration
from agent.adapters.host.clock import SystemClock
from agent.adapters.power.jtop import JtopPowerMeter
from agent.config import Measure
from agent.core.errors import PowerError
from agent.core.measurement.power import Conditions, PowerSample, mean_power
from agent.stages.measuring.measure import measure
from agent.wiring.boards import excluded
from tests.support.candidates import engine
from tests.support.fakejetson import boards
from tests.support.fakejetson.service import FakeJetson, require_namespace
from tests.support.fakejetson.waves import Player, Wave, constant, ramp, sine, square
from tests.support.parts import missing_part

PERIOD_S = 0.1

Boards = Callable[..., FakeJetson]


@pytest.fixture
def release(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let service and clients be of an older jetson-stats, if the test asks for it."""
    wanted: str = getattr(request, "param", "")
    if wanted:
        folder = Path(sys.prefix, f"jetson-stats-{wanted}")
        if not folder.is_dir():
            missing_part(f"jetson-stats {wanted}", "tests/setup_venv puts it into the environment")
        monkeypatch.setenv("PYTHONPATH", str(folder))
    return wanted


both_releases = pytest.mark.parametrize(
    "release", ["", "4.3.2"], indirect=True, ids=["newest", "4.3.2"]
)


@pytest.fixture
def board(tmp_path: Path, release: str) -> Iterator[Boards]:
    require_namespace()
    with contextlib.ExitStack() as stack:
        yield lambda name="orin-nano", version="": stack.enter_context(
            FakeJetson(tmp_path, name, version)
        )


def meter(jetson: FakeJetson, period_s: float = PERIOD_S) -> JtopPowerMeter:
    return JtopPowerMeter(period_s, jetson.socket)


def wait_for(met: Callable[[], bool], patience_s: float = 15.0) -> None:
    deadline = time.monotonic() + patience_s
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def wait_for_more(sampling: JtopPowerMeter, count: int = 3, patience_s: float = 20.0) -> None:
    """Wait for samples taken from now on."""
    since_ns = time.monotonic_ns()
    wait_for(lambda: sum(s.t_ns > since_ns for s in sampling.samples()) >= count, patience_s)


def clients(jetson: FakeJetson) -> list[psutil.Process]:
    """Return the processes that are, or were to be, clients of the board's service."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if jetson.socket in line and "agent.adapters.power.jtop_child" in line:
            found.append(process)
    return found


@both_releases
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "wave", "whole_s"),
    [
        ("orin-nano", constant(7.25), 1.0),
        ("orin-nano", square(5.0, 9.0, 1.37), 2.74),
        ("orin-nano", ramp(4.0, 12.0, 2.0), 2.0),
        ("agx-orin", square(5.0, 9.0, 1.37), 2.74),
        ("thor", square(5.0, 9.0, 1.37), 2.74),
    ],
    ids=["constant", "square", "ramp", "square on agx-orin", "square on thor"],
)
def test_mean_power_is_the_truth_and_each_sample_is_of_its_time(
    board: Boards, name: str, wave: Wave, whole_s: float, release: str
) -> None:
    jetson = board(name)
    moved, others_w = reported_rails(name, release)
    with meter(jetson) as sampling, Player(wave, jetson.rails[moved].set) as player:
        for _ in range(4):  # a loaded machine may let a client of 0.1 s lose its service once
            begin_ns = time.monotonic_ns()
            end_ns = begin_ns + int(2 * whole_s * 1e9)
            wait_for(lambda until=end_ns: sampling.samples()[-1].t_ns > until)
            power = mean_power(sampling.samples(), [(begin_ns, end_ns)], sampling.period_s)
            if power.gaps == 0:
                break
    assert power.gaps == 0
    assert power.mean_w == pytest.approx(player.mean_w(begin_ns, end_ns) + others_w, abs=0.3)
    assert power.coverage > 0.95
    assert sampling.rail == moved or moved in sampling.rail.removeprefix("sum:").split("+")
    inside = [s for s in sampling.samples() if begin_ns <= s.t_ns <= end_ns]

    def is_of_its_time(sample: PowerSample) -> bool:
        possible = player.watts_near(sample.t_ns, slack_s=0.06)
        seen_w = sample.power_w - others_w
        return min(possible) - 0.01 <= seen_w <= max(possible) + 0.01  # a mA at 20 V, rounded

    # the service reads the rail some ms after the time it reports, or more on a loaded machine
    assert sum(map(is_of_its_time, inside)) >= 0.9 * len(inside)


def reported_rails(name: str, release: str) -> tuple[str, float]:
    """Return a rail that jtop's figure holds, and what the others in it carry, W."""
    known = boards.BOARDS[name]
    if known.total and not (name == "thor" and release):  # 4.3.2 reads no INA238
        return known.total, 0.0
    rails = {c.label: c.idle_w for chip in known.ina3221.values() for c in chip if c.label != "NC"}
    moved = next(iter(rails))
    return moved, sum(rails.values()) - rails[moved]


class Sleeper:
    """An engine whose inference takes 5 ms, and that remembers when they were, by what is bound."""

    def __init__(self) -> None:
        self.bound: list[list[tuple[int, int]]] = []

    def __enter__(self) -> Sleeper:
        return self

    def __exit__(self, *_: object) -> None: ...

    def bind(self, _: object) -> None:
        self.bound.append([])

    def run(self) -> None:
        begin_ns = time.monotonic_ns()
        time.sleep(0.005)
        self.bound[-1].append((begin_ns, time.monotonic_ns()))

    def device_ms(self) -> None:
        return None

    def launches(self) -> None:
        return None


@pytest.mark.slow
@pytest.mark.parametrize("name", boards.BOARDS)
def test_energy_of_an_inference_through_the_whole_stage_is_the_truth(
    board: Boards, name: str
) -> None:
    jetson = board(name)
    moved, others_w = reported_rails(name, "")
    rail = jetson.rails[moved]
    with meter(jetson) as sampling, Player(sine(5.0, 9.0, 1.37), rail.set) as player:
        for _ in range(4):  # a loaded machine may lose samples: then its energy is a guess
            runner = Sleeper()
            (one,) = measure(
                {"a": engine(name="a")},
                Measure(warmup_s=1.0, duration_s=8.0, rounds=2, idle_s=0.5),
                make_runner=lambda _, runner=runner: runner,  # type: ignore[misc]
                tensors=lambda _: [{}],
                power=[sampling],
                clock=SystemClock(),
                conditions=Conditions,
                seed=1,
                progress=lambda *_: None,
            ).measured.values()
            if one.power_w and one.power_w.gaps == 0:
                break
    windows = [(runs[2][0], runs[-1][1]) for runs in runner.bound[1:]]  # two fill the caches
    joules = sum(
        (player.mean_w(begin, end) + others_w) * (end - begin) / 1e9 for begin, end in windows
    )
    assert one.power_w is not None
    assert one.power_w.coverage > 0.9
    assert one.energy_j == pytest.approx(joules / one.samples, rel=0.01)


@both_releases
@pytest.mark.slow
def test_service_that_is_killed_and_comes_back_leaves_a_gap_that_is_reported(board: Boards) -> None:
    jetson = board()
    wave = ramp(4.0, 12.0, 8.0)
    with meter(jetson) as sampling, Player(wave, jetson.rails["VDD_IN"].set) as player:
        begin_ns = time.monotonic_ns()
        wait_for_more(sampling, 15)
        jetson.kill()
        time.sleep(1.0)
        jetson.start()
        wait_for_more(sampling, 15)
        samples = sampling.samples()
        away = max(pairwise(samples), key=lambda pair: pair[1].t_ns - pair[0].t_ns)
        read_ns = [(begin_ns, away[0].t_ns), (away[1].t_ns, samples[-1].t_ns)]
        true_j = sum(player.mean_w(*window) * (window[1] - window[0]) for window in read_ns)
    whole = mean_power(samples, [(begin_ns, samples[-1].t_ns)], sampling.period_s)
    read_share = sum(end - begin for begin, end in read_ns) / (samples[-1].t_ns - begin_ns)
    assert whole.gaps == 1
    assert whole.coverage == pytest.approx(read_share, abs=0.05)
    assert whole.coverage < 0.85
    true_w = true_j / sum(end - begin for begin, end in read_ns)
    assert whole.mean_w == pytest.approx(true_w, abs=0.15)  # what wasn't read isn't made up
    assert_ordered(sampling.samples())


@both_releases
@pytest.mark.slow
@pytest.mark.parametrize("hang", [FakeJetson.stop, FakeJetson.stop_reading])
def test_service_that_hangs_leaves_a_gap_and_is_read_again_after_it(
    board: Boards, hang: Callable[[FakeJetson], None]
) -> None:
    jetson = board()
    with meter(jetson) as sampling:
        wait_for_more(sampling)
        begin_ns = sampling.samples()[0].t_ns
        hang(jetson)
        time.sleep(1.5)
        jetson.go_on()
        wait_for_more(sampling, 5)
        end_ns = sampling.samples()[-1].t_ns
    power = mean_power(sampling.samples(), [(begin_ns, end_ns)], sampling.period_s)
    assert power.gaps == 1
    assert power.mean_w == pytest.approx(5.0)
    assert not clients(jetson)


@pytest.mark.slow
def test_service_that_dies_of_what_it_read_is_read_again_once_it_is_back(board: Boards) -> None:
    """One reading without a number ends its sampling for good; the next client, the service."""
    jetson = board()
    with meter(jetson) as sampling:
        wait_for_more(sampling)
        begin_ns = sampling.samples()[0].t_ns
        jetson.rails["VDD_IN"].empty()
        wait_for(lambda: not jetson.alive)
        jetson.rails["VDD_IN"].set(6.0)
        jetson.start()  # as systemd does
        wait_for_more(sampling)
        samples = sampling.samples()
    assert {s.power_w for s in samples} == {5.0, 6.0}
    power = mean_power(samples, [(begin_ns, samples[-1].t_ns)], sampling.period_s)
    assert power.gaps == 1


@pytest.mark.slow
def test_client_that_hangs_is_replaced(board: Boards) -> None:
    jetson = board()
    with meter(jetson) as sampling:
        wait_for_more(sampling)
        (client,) = clients(jetson)
        client.suspend()
        wait_for_more(sampling)
        assert client not in clients(jetson)


@pytest.mark.slow
def test_service_that_hangs_from_the_start_is_given_up(board: Boards) -> None:
    jetson = board()
    jetson.stop_reading()
    began = time.monotonic()
    with pytest.raises(PowerError, match=r"no .*sample") as caught, meter(jetson):
        pass
    assert caught.value.code == "no_sensor"
    assert caught.value.hint
    assert time.monotonic() - began < 15
    assert not clients(jetson)


@both_releases
@pytest.mark.slow
def test_another_clients_interval_is_taken_over(board: Boards) -> None:
    jetson = board()
    with meter(jetson, 0.6) as owner:
        with meter(jetson, 0.1) as sampling:
            assert sampling.period_s == 0.6
            first = clients(jetson)
            wait_for_more(sampling, 4)
            assert clients(jetson) == first  # none was given up for being slow
            samples = sampling.samples()
        power = mean_power(samples, [(samples[0].t_ns, samples[-1].t_ns)], sampling.period_s)
        assert power.gaps == 0
        wait_for_more(owner)  # undisturbed
    assert owner.period_s == 0.6


@pytest.mark.slow
def test_service_of_another_version_is_refused_with_both_versions(board: Boards) -> None:
    jetson = board(version="4.3.2")
    began = time.monotonic()
    with pytest.raises(PowerError, match=r"4\.3\.2.*7\.") as caught, meter(jetson):
        pass
    assert caught.value.code == "no_sensor"
    assert time.monotonic() - began < 8
    assert not clients(jetson)


@pytest.mark.slow
def test_service_that_is_not_there_is_reported_at_once(tmp_path: Path) -> None:
    pytest.importorskip("jtop")
    stale = tmp_path / "stale.sock"
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(stale))
    for path in (tmp_path / "none.sock", stale):
        began = time.monotonic()
        with pytest.raises(PowerError, match="not active") as caught:
            JtopPowerMeter(PERIOD_S, str(path)).__enter__()
        assert caught.value.code == "no_sensor"
        assert "jtop" in caught.value.hint
        assert time.monotonic() - began < 8


def test_a_line_that_is_no_sample_ends_nothing() -> None:
    lines = b'{"mw": 1}\n[1]\n7\n"mw"\n{"period_s": null}\n{"mw"'
    sample = b'{"mw": 5000, "rail": "VDD_IN", "uptime_s": 1.5}\n'
    sampling = JtopPowerMeter()
    sampling._read(io.BytesIO(lines + b"\n" + sample))
    assert [one.power_w for one in sampling.samples()] == [5.0]


def test_a_machine_that_can_start_no_process_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError("no memory for a process")

    monkeypatch.setattr(subprocess, "Popen", refused)
    with pytest.raises(PowerError, match="no memory") as caught, JtopPowerMeter():
        pass
    assert caught.value.code == "no_sensor"
    assert not [t for t in threading.enumerate() if t.name.startswith("power")]


def test_library_that_is_not_installed_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jtop", None)
    with pytest.raises(PowerError, match="not installed") as caught:
        JtopPowerMeter().__enter__()
    assert caught.value.code == "no_sensor"


@both_releases
@pytest.mark.slow
def test_sum_of_rails_is_named_by_them_and_never_a_total(board: Boards) -> None:
    jetson = board("agx-orin")
    jetson.rails["VDD_GPU_SOC"].set(6.0)
    with meter(jetson) as sampling:
        wait_for_more(sampling)
        assert sampling.rail == "sum:VDDQ_VDD2_1V8AO+VDD_CPU_CV+VDD_GPU_SOC+VIN_SYS_5V0"
        assert sampling.samples()[-1].power_w == pytest.approx(0.5 + 0.8 + 6.0 + 3.5)
        jetson.rails["VDD_GPU_SOC"].vanish()
        time.sleep(4 * PERIOD_S)
        count = len(sampling.samples())
        time.sleep(4 * PERIOD_S)
        assert len(sampling.samples()) == count  # less than before is not the same sum
    assert all(s.power_w > 10 for s in sampling.samples())


@both_releases
@pytest.mark.slow
def test_batteries_and_chargers_are_no_part_of_the_sum(tmp_path: Path, release: str) -> None:
    require_namespace()
    jetson = FakeJetson(tmp_path, "agx-orin")
    boards.attach_supply(tmp_path, "battery", 24.0, type="Battery", status="Charging")
    boards.attach_supply(tmp_path, "charger", 38.0, type="Mains", online="1")
    boards.attach_supply(tmp_path, "ucsi-source-psy-2-00081", 60.0, type="USB", online="1")
    boards.attach_supply(tmp_path, "gauge", 7.0)
    with jetson, JtopPowerMeter(PERIOD_S, jetson.socket, root=str(tmp_path)) as sampling:
        wait_for_more(sampling)
    assert sampling.rail == "sum:VDDQ_VDD2_1V8AO+VDD_CPU_CV+VDD_GPU_SOC+VIN_SYS_5V0"
    assert {round(s.power_w, 2) for s in sampling.samples()} == {8.0}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "totals", "rail", "watts"),
    [
        ("orin-nano", ("VDD_IN",), "VDD_IN", 5.0),
        ("orin-nano", None, "VDD_IN", 5.0),
        ("agx-orin", ("",), "sum:VDDQ_VDD2_1V8AO+VDD_CPU_CV+VDD_GPU_SOC+VIN_SYS_5V0", 8.0),
    ],
    ids=["the board's file", "no board file", "summed by the board's file"],
)
def test_the_total_of_the_board_is_taken_and_not_what_jtop_names_so(
    tmp_path: Path, name: str, totals: Sequence[str] | None, rail: str, watts: float
) -> None:
    """The service names each INA238 "VIN" and makes it the total, also one on a carrier board."""
    require_namespace()
    jetson = FakeJetson(tmp_path, name)
    boards.attach_ina238(tmp_path, "7-0044", boards.Channel("NC", 19000, 1.5))
    named = {"totals": totals} if totals else {}
    with jetson, JtopPowerMeter(PERIOD_S, jetson.socket, root=str(tmp_path), **named) as sampling:
        wait_for_more(sampling)
    assert sampling.rail == rail
    assert {round(s.power_w, 2) for s in sampling.samples()} == {watts}


@both_releases
@pytest.mark.slow
def test_total_that_vanishes_is_a_gap_and_not_the_sum_of_the_others(board: Boards) -> None:
    jetson = board()
    rail = jetson.rails["VDD_IN"]
    with meter(jetson) as sampling:
        wait_for_more(sampling)
        begin_ns = sampling.samples()[0].t_ns
        rail.vanish()
        time.sleep(8 * PERIOD_S)
        rail.come_back()
        wait_for_more(sampling)
        end_ns = sampling.samples()[-1].t_ns
    assert {s.power_w for s in sampling.samples()} == {5.0}
    power = mean_power(sampling.samples(), [(begin_ns, end_ns)], sampling.period_s)
    assert power.gaps == 1


@pytest.mark.slow
def test_whole_systems_rail_is_preferred_on_thor(board: Boards) -> None:
    with meter(board("thor")) as sampling:
        wait_for_more(sampling)
    assert sampling.rail == "VIN"
    assert sampling.samples()[-1].power_w == pytest.approx(30.0)


@pytest.mark.parametrize("release", ["4.3.2"], indirect=True)
@pytest.mark.slow
def test_a_release_that_does_not_know_thors_sensor_names_the_rails_it_adds(board: Boards) -> None:
    """4.3.2 reads no INA238, so what it calls the total is not what the board takes."""
    with meter(board("thor")) as sampling:
        wait_for_more(sampling)
    assert sampling.rail == "sum:VDD_CPU_SOC_MSS+VDD_GPU+VIN_SYS_5V0"
    thor = configuration.from_dump({"device": {"board": "agx-thor"}})
    assert "VIN" in excluded(thor, sampling.rail)


@pytest.mark.slow
def test_a_client_of_another_release_is_refused_by_the_real_service(
    board: Boards, monkeypatch: pytest.MonkeyPatch
) -> None:
    jetson = board()
    old = Path(sys.prefix, "jetson-stats-4.3.2")
    if not old.is_dir():
        missing_part("jetson-stats 4.3.2", "tests/setup_venv puts it into the environment")
    monkeypatch.setenv("PYTHONPATH", str(old))
    with pytest.raises(PowerError, match=r"7\..*4\.3\.2") as caught, meter(jetson):
        pass
    assert caught.value.code == "no_sensor"


@pytest.mark.slow
def test_board_whose_sensors_are_all_unreadable_uses_no_zero_watts(board: Boards) -> None:
    jetson = board()
    for rail in jetson.rails.values():
        rail.vanish()
    with pytest.raises(PowerError, match="no power sensor") as caught, meter(jetson):
        pass
    assert caught.value.code == "no_sensor"


@pytest.mark.slow
def test_leaving_ends_every_process_even_while_one_is_being_started(
    board: Boards, monkeypatch: pytest.MonkeyPatch
) -> None:
    jetson = board()
    sampling = meter(jetson)
    starting, left = threading.Event(), threading.Event()
    start = subprocess.Popen

    def start_late(*args: object, **options: object) -> subprocess.Popen[bytes]:
        starting.set()
        left.wait(2.0)  # the meter is being left at this moment
        return start(*args, **options)  # type: ignore[call-overload, no-any-return]

    with sampling:
        wait_for_more(sampling)
        monkeypatch.setattr(subprocess, "Popen", start_late)
        for client in clients(jetson):
            client.kill()
        assert starting.wait(10)
        threading.Timer(0.3, left.set).start()
    assert not clients(jetson)
    assert not [t for t in threading.enumerate() if t.name.startswith("power")]


@pytest.mark.slow
def test_client_ends_with_its_parent_even_if_the_service_hangs(board: Boards) -> None:
    jetson = board()
    code = (
        "import sys, time; from agent.adapters.power.jtop import JtopPowerMeter\n"
        "with JtopPowerMeter(0.1, sys.argv[1]): print(flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, jetson.socket], stdout=subprocess.PIPE)
    with parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        jetson.stop()
        wait_for(lambda: bool(clients(jetson)))
        os.kill(parent.pid, signal.SIGKILL)
    wait_for(lambda: not clients(jetson), 5)


def assert_ordered(samples: tuple[PowerSample, ...]) -> None:
    assert all(before.t_ns < after.t_ns for before, after in pairwise(samples))
    assert all(math.isfinite(s.power_w) for s in samples)
