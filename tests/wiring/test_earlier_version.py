"""What quantd 0.1 left on the disk is read as it was meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent import config as configuration
from agent.config import Config
from agent.core.control.command import Stage
from agent.core.control.requests import Optimize
from agent.core.records import CalibrationSet
from agent.terminal import summary
from agent.wire.commands import decode_task
from agent.wiring import reported, runs, storage
from tests.support.earlier import FIRST, SECOND, UNFINISHED, unpack_state


@pytest.fixture
def config(tmp_path: Path) -> Config:
    unpack_state(tmp_path)
    (tmp_path / "quantd.toml").write_text('[device]\nid = "cam-1"\n[storage]\ndir = "state"\n')
    return configuration.load(tmp_path / "quantd.toml")


def test_its_releases_are_found_and_the_active_one_stays(config):
    found = reported.status(config)
    assert found["active release"] == SECOND
    assert found["releases"] == [FIRST, SECOND]
    assert found["last run"] == SECOND
    releases = storage.releases(config)
    assert releases.identity(FIRST) != releases.identity(SECOND)
    assert releases.settled(SECOND) is None  # its ledger had no outcomes


def test_its_report_is_shown(config, capsys):
    folder = reported.last_report(config)
    assert folder is not None
    summary(reported.read_report(folder), directory=folder, release=Path("current"))
    shown = capsys.readouterr().err
    assert "fp32" in shown
    assert SECOND in shown


def test_its_journal_keeps_the_run_and_the_commands_that_it_had_begun(config):
    with storage.journal(config) as journal:
        assert journal.recreated_from == ""
        (run,) = journal.unfinished_runs()
        assert (run.run_id, run.command_id) == (UNFINISHED, "opt1")
        assert decode_task(run.spec) == Optimize(limits={"power_w": 0.0})
        waiting = {entry.command_id: entry.stage for entry in journal.unanswered()}
        assert waiting == {"opt1": Stage.IN_PROGRESS, "opt2": Stage.QUEUED}


def test_its_measurements_are_history(config):
    found = runs.history(config)
    assert {(one.precision, one.batch) for one in found} == {("fp32", 1), ("int8", 1)}
    assert all(one.latency_p50_ms > 0 for one in found)


def test_its_frames_can_be_reused(config):
    lineage = storage.releases(config).model_json(SECOND)["lineage"]
    found = storage.store(config).get(lineage["calibration"], CalibrationSet)
    assert found is not None
    assert (len(found.frames), len(found.holdout)) == (8, 4)
