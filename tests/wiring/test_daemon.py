"""The composed daemon, beside the tests of its parts."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from agent import config as configuration
from agent.config import Config
from agent.core.control.command import Command, Rejection
from agent.core.control.effects import PublishReport, PublishState
from agent.core.control.link import CommandArrived
from agent.core.control.requests import Expect, Optimize, RollBack
from agent.run.upgrade import UnfitRelease
from agent.wiring.daemon import _outdated, daemon
from agent.wiring.device_facts import machine_figures


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return configuration.from_dump(
        {"storage": {"dir": str(tmp_path)}, "mqtt": {"host": "127.0.0.1", "port": 1}}
    )


@pytest.mark.parametrize("body", [b'{"model": {"na', b"[1]", b"{}", b'{"model": null}'])
def test_a_damaged_report_costs_the_report_and_not_the_daemon(
    config: Config, tmp_path: Path, body: bytes
) -> None:
    made = daemon(config)
    (tmp_path / "runs" / "r1").mkdir(parents=True)
    (tmp_path / "runs" / "r1" / "report.json").write_bytes(body)
    made.outward.publish(PublishReport("r1"), made.state)
    assert made.journal.counts().waiting == 0


def test_what_an_earlier_version_left_open_to_others_is_closed_at_the_start(
    config: Config, tmp_path: Path
) -> None:
    open_to_all = [
        tmp_path / "artifacts" / "d" / "frames" / "1.png",
        tmp_path / "runs" / "r1" / "report.html",
        tmp_path / "state.db",
    ]
    for path in open_to_all:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        path.chmod(0o644)
    daemon(config)
    assert [path.stat().st_mode & 0o777 for path in open_to_all] == [0o600] * 3


def test_a_set_key_without_effect_is_warned_of_at_the_start(
    config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    daemon(config, {"drift.check_every_s": "quantd.toml"})
    assert "setting_without_effect key=drift.check_every_s" in caplog.text


@pytest.mark.parametrize(
    ("task", "limits"),
    [({}, {"sqnr_db": 0}), ({"kind": "classification"}, {"agreement": 0.5})],
)
def test_a_command_can_not_lift_the_default_floor_unless_it_may_loosen(
    config: Config, task: dict[str, str], limits: dict[str, float]
) -> None:
    asked = json.dumps({"type": "reoptimize", "args": {"limits": limits}}).encode()
    for may in (False, True):
        values = configuration.dump(config) | {
            "device": {"id": "cam-1"},
            "commands": {"require_signature": False, "may_loosen_limits": may},
            "model": {"task": task},
        }
        made = daemon(configuration.from_dump(values))
        topic = made.outward.topics.command_filter.replace("#", f"c{may}")
        arrived = CommandArrived(topic=topic, body=asked, retain=False, message=0)
        found = made.outward.inbox.admit(arrived)
        assert isinstance(found, Command if may else Rejection), found
        if isinstance(found, Rejection):
            assert found.code == "policy"
            assert f"limits.{next(iter(limits))} = " in found.detail


def test_a_journal_that_can_not_be_written_does_not_delay_the_end(
    config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    made = daemon(config)
    made.journal._db._db.execute("PRAGMA query_only = 1")
    made.outward.stop()
    assert "no_farewell code=read_only" in caplog.text


def test_sessions_grow_while_the_journal_can_not_be_written_and_after_that(config: Config) -> None:
    before = daemon(config)
    assert [before.outward.link._next_session() for _ in range(2)] == [1, 2]
    made = daemon(config)
    made.journal._db._db.execute("PRAGMA query_only = 1")
    assert [made.outward.link._next_session() for _ in range(2)] == [3, 4]
    made.journal._db._db.execute("PRAGMA query_only = 0")
    assert made.outward.link._next_session() == 5


def test_a_tool_of_the_board_that_hangs_does_not_block_the_daemon(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked at each connection; three of its limits are longer than the watchdog's."""
    tool = tmp_path / "nvpmodel"
    tool.write_text("#!/bin/sh\nexec sleep 60\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("agent.wiring.daemon._LOOKUP_S", 0.1)
    made = daemon(config)
    begin_s = time.monotonic()
    made.outward.publish(PublishState(with_meta=True), made.state)
    assert time.monotonic() - begin_s < 3
    assert made.journal.counts().waiting == 3


@pytest.mark.parametrize("error", [OSError(11, "try again"), RuntimeError("no line MemFree")])
def test_a_figure_of_telemetry_that_can_not_be_read_costs_itself_only(
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    def fails(*_: object) -> None:
        raise error

    figures = machine_figures(config)
    monkeypatch.setattr("psutil.virtual_memory", fails)
    monkeypatch.setattr("psutil.disk_usage", fails)
    found = [figures() for _ in range(3)][-1]
    assert len(caplog.messages) == 2  # once for each
    assert {name for name, value in found.items() if value is None} >= {
        "memory_free_mb", "disk_free_mb",
    }  # fmt: skip
    assert found["rss_mb"]
    assert found["uptime_s"]


FOUND = UnfitRelease(
    release="r1", changes=("driver 1, now 2",), trouble="", roll_back=False, plan="rebuild",
    attempt=1, reuse=True, frames="they are stored",
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "kind", "severity", "works"),
    [
        ({}, "release_outdated", "warning", [("optimize", "upgrade")]),
        ({"plan": "give_up"}, "release_outdated", "error", []),
        ({"plan": "keep"}, "release_outdated", "warning", []),
        (
            {"changes": (), "trouble": "cut short", "roll_back": True},
            "release_unusable", "error", [("rollback", "repair"), ("optimize", "repair")],
        ),
        ({"trouble": "cut short"}, "release_outdated", "error", [("optimize", "upgrade")]),
    ],
)  # fmt: skip
def test_a_release_that_is_not_right_is_reported_and_rebuilt_as_planned(
    change: dict[str, object], kind: str, severity: str, works: list[tuple[str, str]]
) -> None:
    found = _outdated(replace(FOUND, **change), iter("abc").__next__)
    assert (found.kind, found.severity) == (kind, severity)
    assert [(one.kind, one.trigger) for one in found.works] == works
    backs = [one.task for one in found.works if isinstance(one.task, RollBack)]
    assert all(task == RollBack(expect=Expect(release="r1")) for task in backs)
    rebuilds = [one.task for one in found.works if isinstance(one.task, Optimize)]
    assert all(task == Optimize(reuse_calibration=True, replaces="r1") for task in rebuilds)
    assert found.facts["plan"] == change.get("plan", "rebuild")
    assert found.facts["loads"] is not bool(change.get("trouble"))
