"""Which sensor measures what executes the engines, and which checks which."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

import pytest

from agent import config as configuration
from agent.adapters.power.ina3221 import TOTALS, Ina3221PowerMeter
from agent.core.errors import PowerError
from agent.core.measurement.power import MOST_W
from agent.core.records import Digest, Engine, Measurements
from agent.jobs import measuring, sensors
from agent.wire.jobs import MeasureEngines
from tests.fakes.power import FakePowerMeter
from tests.fakes.runners import FakeClock
from tests.support import candidates
from tests.support.candidates import measurement
from tests.support.fakejetson import boards

CLOCK = FakeClock()
CONFIG = configuration.from_dump({})


@pytest.fixture
def here(monkeypatch):
    """Let some sensors be here, and the others tell that they are absent."""

    def place(*names: str) -> None:
        def meter(_config, name):
            absent = "" if name in names else "absent"
            return FakePowerMeter(CLOCK, source=name, rail=f"of {name}", absent=absent)

        monkeypatch.setattr(sensors, "_meter", meter)

    return place


def opened(*, gpu: bool = False, **tables: object) -> sensors.Sensor:
    with ExitStack() as stack:
        return sensors.opened(configuration.from_dump(tables), gpu=gpu, stack=stack)


@pytest.mark.parametrize(
    ("there", "gpu", "source"),
    [
        (("jtop", "ina3221", "nvml", "rapl"), True, "jtop"),
        (("ina3221", "nvml", "rapl"), False, "ina3221"),
        (("nvml", "rapl"), False, "rapl"),
        (("nvml", "rapl"), True, "nvml"),
        (("nvml",), False, ""),
        (("rapl",), True, ""),
    ],
)
def test_the_sensor_is_that_of_what_executes(here, there, gpu, source):
    here(*there)
    found = opened(gpu=gpu)
    assert (found.meter.source if found.meter else "") == source
    if not source:
        assert "no power sensor" in found.reason


def test_sensors_that_were_passed_over_are_reported_with_their_reasons(here):
    here("rapl")
    assert opened().passed_over == "jtop: absent; ina3221: absent"
    here("jtop", "rapl")
    assert opened().passed_over == ""


def test_a_sensor_set_by_name_is_used_or_an_error(here):
    here("nvml")
    assert opened(measure={"power": "nvml"}).meter.source == "nvml"
    with pytest.raises(PowerError, match="absent"):
        opened(measure={"power": "rapl"})
    assert "none" in opened(measure={"power": "none"}).reason


def test_a_sensor_that_is_missing_when_it_is_measured_costs_the_power_alone(here):
    """It was looked for before the builds; the latencies are not lost for it."""
    here("nvml")
    config = configuration.from_dump({"measure": {"power": "rapl"}})
    spec = MeasureEngines(
        config=config, digest=Digest("d"), engines={"a": engine("onnxruntime")}, power_mode=None,
        baselines=(), same_graph_alternatives={}, seed=0, fast=False, model=Digest("m"),
        calibration=Digest("c"),
    )  # fmt: skip
    with ExitStack() as stack:
        found = measuring._sensor(spec, stack)
    assert (found.meter, found.reason) == (None, "absent")


def engine(runtime: str, **providers: int) -> Engine:
    one = candidates.engine()
    return replace(one, runtime=runtime, layers=replace(one.layers, providers=providers))


@pytest.mark.parametrize(
    ("engines", "gpu"),
    [
        ([engine("onnxruntime", CPUExecutionProvider=9)], False),
        ([engine("onnxruntime", CPUExecutionProvider=9, CUDAExecutionProvider=1)], True),
        ([engine("tensorrt")], True),
    ],
)
def test_where_engines_execute_is_decided_by_their_own_layers(engines, gpu):
    assert sensors.on_gpu(engines) is gpu


@pytest.mark.parametrize(
    ("source", "left_out"), [("rapl", "rest of the machine"), ("nvml", "CPU"), ("fake", "")]
)
def test_every_figure_has_what_it_leaves_out(source, left_out):
    one = measurement(power_w=5.0)
    one = replace(one, power_w=replace(one.power_w, source=source))
    found = sensors.with_scope(Measurements(measured={"a": one}, failed={}), CONFIG, "jtop: absent")
    power = found.measured["a"].power_w
    assert left_out in power.excludes
    assert bool(left_out) == bool(power.excludes)
    assert power.passed_over == "jtop: absent"


def test_the_doctor_names_the_sensors_of_cpu_and_gpu(here):
    here("nvml", "rapl")
    seen, reason = sensors.power_source(CONFIG)
    assert "on the CPU: rapl" in seen
    assert "on a GPU: nvml" in seen
    assert reason == ""
    here("ina3221")
    assert sensors.power_source(CONFIG) == ("ina3221, rail of ina3221", "")
    here()
    assert sensors.power_source(CONFIG)[0] == ""
    assert "no power sensor" in sensors.power_source(CONFIG)[1]


@pytest.mark.parametrize(
    ("totals", "rail"),
    [(("VDD_SOC",), "VDD_SOC"), (("VIN",), "sum:"), (("",), "sum:")],
)
def test_the_total_is_the_rail_that_the_board_file_names(tmp_path, totals, rail):
    boards.build(tmp_path, "orin-nano")
    assert Ina3221PowerMeter(str(tmp_path), totals=totals).rail.startswith(rail)


@pytest.mark.parametrize(
    ("board", "totals", "most_w"),
    [
        ("orin-nano", ["VDD_IN"], 100),
        ("agx-orin-64gb", [""], 138),
        ("agx-thor", ["VIN"], MOST_W),
        ("auto", [*TOTALS], MOST_W),
    ],
)
def test_jtop_gets_the_total_rail_and_the_maximum_of_the_board_file(board, totals, most_w):
    meter = sensors._meter(configuration.from_dump({"device": {"board": board}}), "jtop")
    assert (meter._arguments[2:], meter.most_w) == (totals, most_w)


@pytest.mark.parametrize(
    ("source", "beside", "checked"),
    [
        ("jtop", FakePowerMeter(CLOCK, source="ina3221"), True),
        ("jtop", FakePowerMeter(CLOCK, source="ina3221", rail="sum:A+B"), False),
        ("jtop", FakePowerMeter(CLOCK, source="ina3221", absent="no sensor"), False),
        ("rapl", FakePowerMeter(CLOCK, source="ina3221"), False),
    ],
    ids=["same rail", "another rail", "no sensor", "not jtop"],
)
def test_the_sensor_itself_checks_the_service_that_reads_it(monkeypatch, source, beside, checked):
    monkeypatch.setattr(sensors, "_meter", lambda _config, _name: beside)
    with ExitStack() as stack:
        found = sensors.checks(CONFIG, FakePowerMeter(CLOCK, source=source), stack)
        assert found == ([beside] if checked else [])
