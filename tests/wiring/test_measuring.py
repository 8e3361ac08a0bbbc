"""Which sensor checks which."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from agent.wiring import measuring
from tests.fakes.power import FakePowerMeter
from tests.fakes.runners import FakeClock

CLOCK = FakeClock()


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
    monkeypatch.setattr(measuring, "_meter", {"ina3221": beside}.__getitem__)
    with ExitStack() as stack:
        found = measuring._checks(FakePowerMeter(CLOCK, source=source), stack)
        assert found == ([beside] if checked else [])
