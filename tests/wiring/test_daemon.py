"""The daemon as it is put together, beside what its parts' own tests tell."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from agent import config as configuration
from agent.config import Config
from agent.core.control.step import PublishReport, PublishState
from agent.wiring.daemon import daemon


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
    made.outward.say(PublishReport("r1"), made.state)
    assert made.journal.counts().waiting == 0


def test_a_journal_that_can_not_be_written_does_not_hold_up_the_end(
    config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    made = daemon(config)
    made.journal._db._db.execute("PRAGMA query_only = 1")
    made.outward.stop()
    assert "no_farewell code=store" in caplog.text


def test_a_tool_of_the_board_that_hangs_does_not_hold_up_the_daemon(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked at each connection; three of its limits are longer than the watchdog's."""
    tool = tmp_path / "nvpmodel"
    tool.write_text("#!/bin/sh\nexec sleep 60\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("agent.wiring.daemon._GLANCE_S", 0.1)
    made = daemon(config)
    begin_s = time.monotonic()
    made.outward.say(PublishState(with_meta=True), made.state)
    assert time.monotonic() - begin_s < 3
    assert made.journal.counts().waiting == 2
