"""What the jtop client's process prints, with a library in jtop's place that says what is rare."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from agent.adapters.power import jtop_child
from agent.adapters.power.ina3221 import TOTALS
from tests.support.fakejetson import boards


class Library(ModuleType):
    """A jtop that gives each of `snapshots` once and then is lost, or ends with `error`."""

    class JtopException(Exception):
        pass

    def __init__(self, snapshots: list[dict[str, Any]], error: Exception | None = None) -> None:
        super().__init__("jtop")
        self._snapshots: Iterator[dict[str, Any]] = iter(snapshots)
        self._error = error
        self.interval = 0.5

    def jtop(self, interval: float) -> Library:
        return self

    def start(self) -> None: ...

    def ok(self) -> bool:
        self._stats = next(self._snapshots, {})
        if not self._stats and self._error:
            raise self._error
        return bool(self._stats)


def snapshot(uptime: float, total: dict[str, Any], **rails_mw: int) -> dict[str, Any]:
    rails = {name: {"power": power} for name, power in rails_mw.items()}
    return {"uptime": uptime, "power": {"tot": total, "rail": rails}}


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(
        *snapshots: dict[str, Any],
        error: Exception | None = None,
        totals: Sequence[str] = TOTALS,
        root: str = "/nowhere",
    ) -> list[dict[str, Any]]:
        library = Library(list(snapshots), error)
        monkeypatch.setitem(sys.modules, "jtop", library)
        monkeypatch.setitem(sys.modules, "jtop.service", ModuleType("jtop.service"))
        assert jtop_child.main(0.5, "/run/jtop.sock", root, totals) == 1
        found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert found[0] == {"period_s": 0.5}
        return found[1:]

    return run


def test_each_snapshot_is_reported_once(lines: Any) -> None:
    total = {"power": 5000, "name": "VDD_IN"}
    once, again = snapshot(1.0, total, VDD_SOC=1), snapshot(1.5, total, VDD_SOC=1)
    assert [line["uptime_s"] for line in lines(once, once, again, again)] == [1.0, 1.5]


def test_a_supply_is_no_part_of_a_sum_also_where_hwmon_is_hidden(lines: Any) -> None:
    power = {"tot": {"power": 42_000}, "rail": {
        "VDD_GPU_SOC": {"power": 3136}, "VIN_SYS_5V0": {"power": 3500},
        "battery": {"power": 35_364, "status": "Discharging"},
    }}  # fmt: skip
    assert lines({"uptime": 1.0, "power": power}) == [
        {"uptime_s": 1.0, "mw": 6636, "rail": "sum:VDD_GPU_SOC+VIN_SYS_5V0"}
    ]


def test_a_total_that_is_not_this_boards_is_no_reading(lines: Any) -> None:
    found = lines(snapshot(1.0, {"power": 1500, "name": "VIN"}), totals=("VDD_IN",))
    assert "no rail VDD_IN" in found[0]["error"]
    assert "VIN" in found[0]["error"]


def test_a_rail_of_jtop_that_hwmon_does_not_name_is_left_out(lines: Any, tmp_path: Path) -> None:
    boards.build(tmp_path, "agx-orin")
    rails = {"VDD_GPU_SOC": 3136, "VIN_SYS_5V0": 3500, "charger": 4500}
    found = lines(snapshot(1.0, {"power": 11136}, **rails), root=str(tmp_path))
    assert found == [{"uptime_s": 1.0, "mw": 6636, "rail": "sum:VDD_GPU_SOC+VIN_SYS_5V0"}]


@pytest.mark.parametrize(
    "power", [{}, {"tot": {"power": 0, "avg": 0}, "rail": {}}], ids=["no sensor", "none readable"]
)
def test_no_rail_is_no_zero_watts(lines: Any, power: dict[str, Any]) -> None:
    (line,) = lines({"uptime": 1.0, "power": power})
    assert "no power sensor" in line["error"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Library.JtopException("Lost connection\nwith jtop server"), "Lost connection with jtop"),
        (BrokenPipeError(), "BrokenPipeError"),
        (EOFError(), "EOFError"),
        (KeyError("gpu"), "KeyError: 'gpu'"),
    ],
)
def test_whatever_ends_the_client_is_reported(lines: Any, error: Exception, reason: str) -> None:
    (line,) = lines(error=error)
    assert reason in line["error"]
    assert "jtop" in line["hint"]
