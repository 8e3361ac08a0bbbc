"""Ids of runs and releases: they sort by age, whatever the clock."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from agent import config as configuration
from agent.config import Config
from agent.wiring import runs, storage

NOW = datetime(2026, 11, 25, 10, 15, 0, 123_456, tzinfo=timezone.utc)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return configuration.from_dump({"storage": {"dir": str(tmp_path)}})


def test_an_id_contains_its_time(config: Config) -> None:
    first, second = storage.RunIds(config, lambda: NOW), storage.RunIds(config, lambda: NOW)
    assert first.next().startswith("20261125T101500123-")
    assert first.next().startswith("20261125T101500124-")
    assert second.next().startswith("20261125T101500123-")


@pytest.mark.parametrize("folder", ["runs", "releases"])
@pytest.mark.parametrize("back", [timedelta(days=365 * 56), timedelta(minutes=5), timedelta(0)])
def test_where_the_clock_was_set_back_ids_still_sort(
    config: Config, tmp_path: Path, folder: str, back: timedelta
) -> None:
    """A Jetson without a clock battery starts in the past, and may find a run to do there."""
    (tmp_path / folder / "20261125T101500123-3f9a").mkdir(parents=True)
    (tmp_path / folder / "adhoc").mkdir()
    ids = storage.RunIds(config, lambda: NOW - back)
    made = [ids.next() for _ in range(20)]
    assert ["20261125T101500123-3f9a", *made] == sorted([*made, "20261125T101500123-3f9a"])


def test_the_report_of_a_run_begun_in_the_past_is_not_removed_as_the_oldest(
    config: Config, tmp_path: Path
) -> None:
    for minute in range(55):
        (tmp_path / "runs" / f"20991231T10{minute:02}00000-0000").mkdir(parents=True)
    run_id = storage.RunIds(config).next()
    (tmp_path / "runs" / run_id).mkdir()
    (tmp_path / "artifacts").mkdir()
    runs._tidy(config)
    assert run_id in {path.name for path in (tmp_path / "runs").iterdir()}
    assert len(list((tmp_path / "runs").iterdir())) == 50
