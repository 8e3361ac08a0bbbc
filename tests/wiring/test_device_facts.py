"""What messages contain of the releases and reports on the disk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent import config as configuration
from agent.config import Config
from agent.core.report.metrics import METRICS
from agent.daemon.notices import _COUNTERS
from agent.wire import messages as wire
from agent.wiring import storage
from agent.wiring.device_facts import DeviceFacts

OLD, NEW, LATER = "20261123T101500123-3f9a", "20261124T101500123-aaaa", "20261125T101500123-bbbb"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return configuration.from_dump({"storage": {"dir": str(tmp_path)}})


@pytest.fixture
def facts(config: Config) -> Iterator[DeviceFacts]:
    with storage.journal(config) as journal:
        yield DeviceFacts(config, journal)


def report(state: str, release: str, p50_ms: float, **changed: Any) -> dict[str, Any]:
    row = {
        "id": "int8-minmax",
        "precision": "int8",
        "int8_macs_fraction": 0.9,
        "measured": {
            "latency_ms": {"p50": p50_ms, "p99": 2 * p50_ms},
            "throughput_fps": 1000 / p50_ms,
            "power_w": None,
            "energy_j": None,
            "memory_mb": 80.0,
        },
        "fidelity": {"sqnr_db": 25.0, "agreement": 0.98},
    }
    return {
        "finished": "2026-11-23T10:17:00.000Z",
        "candidates": [{"id": "fp32"}, row],
        "choice": {"candidate": "int8-minmax"},
        "activation": {"state": state, "release": release},
    } | changed


def put(config: Config, name: str, body: object) -> None:
    file = Path(config.storage.dir, name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(body if isinstance(body, str) else json.dumps(body))


def release(config: Config, name: str) -> None:
    model = {
        "name": "faces",
        "candidate": "int8-minmax",
        "precision": "int8",
        "engine": {"sha256": "ab"},
    }
    put(config, f"releases/{name}/model.json", model)
    put(config, f"releases/{name}/report.json", report("active", name, 4.0))
    put(config, f"runs/{name}/report.json", report("active", name, 4.0))
    storage.releases(config).switch(name)


def test_without_a_release_the_figures_are_null(facts: DeviceFacts) -> None:
    figures = facts.telemetry()
    assert facts.active() is None
    assert facts.releases() == ()
    assert figures["latency_p50_ms"] is figures["release_age_s"] is None
    assert (figures["runs_succeeded"], figures["runs_failed"]) == (0, 0)


def test_every_figure_is_one_of_the_table(facts: DeviceFacts) -> None:
    sent = {*facts.telemetry(), *_COUNTERS.values(), "job_percent", "messages_unheard"}
    assert sent == set(METRICS)


def test_the_active_release_has_the_figures_of_its_report(
    config: Config, facts: DeviceFacts
) -> None:
    release(config, OLD)
    assert facts.active() == wire.Active(
        release=OLD,
        model="faces",
        engine_sha256="ab",
        precision="int8",
        candidate="int8-minmax",
        measured="2026-11-23T10:17:00.000Z",
    )
    figures = facts.telemetry()
    assert (figures["latency_p50_ms"], figures["latency_p99_ms"]) == (4.0, 8.0)
    assert (figures["throughput_fps"], figures["int8_macs_fraction"]) == (250.0, 0.9)
    assert (figures["power_w"], figures["sqnr_db"], figures["agreement"]) == (None, 25.0, 0.98)


@pytest.mark.parametrize(
    ("newer", "p50_ms"),
    [
        (report("unchanged", OLD, 5.0), 5.0),
        (report("rolled_back", OLD, 6.0), 4.0),  # the choice was another engine
        (report("infeasible", OLD, 6.0), 4.0),
        ("{damaged", 4.0),
        ({"activation": None, "candidates": 3}, 4.0),
    ],
)
def test_the_figures_are_those_of_the_last_report_on_what_runs(
    config: Config, facts: DeviceFacts, newer: object, p50_ms: float
) -> None:
    release(config, OLD)
    assert facts.telemetry()["latency_p50_ms"] == 4.0
    put(config, f"runs/{NEW}/report.json", newer)
    assert facts.telemetry()["latency_p50_ms"] == p50_ms


def test_a_release_activated_again_has_its_own_figures(config: Config, facts: DeviceFacts) -> None:
    release(config, OLD)
    release(config, NEW)
    put(config, f"runs/{LATER}/report.json", report("active", NEW, 9.0))
    assert facts.telemetry()["latency_p50_ms"] == 9.0
    storage.releases(config).switch(OLD)
    assert facts.telemetry()["latency_p50_ms"] == 4.0


def test_releases_are_listed_newest_first_with_their_marks(
    config: Config, facts: DeviceFacts
) -> None:
    for name in (OLD, NEW, "by-hand"):
        release(config, name)
    put(config, "releases/by-hand/model.json", {"name": 3, "precision": ["x"]})
    releases = storage.releases(config)
    releases.mark(OLD, good=True)
    releases.mark(NEW, good=False, reason="health exited 1")
    releases.pin(OLD, pinned=True)
    assert facts.releases() == (
        wire.Release(id="by-hand"),
        wire.Release(
            id=NEW,
            model="faces",
            candidate="int8-minmax",
            precision="int8",
            made="2026-11-24T10:15:00Z",
            good=False,
            reason="health exited 1",
        ),
        wire.Release(
            id=OLD,
            model="faces",
            candidate="int8-minmax",
            precision="int8",
            made="2026-11-23T10:15:00Z",
            good=True,
            pinned=True,
        ),
    )
    body = msgspec.json.encode(facts.releases())
    assert msgspec.json.decode(body, type=tuple[wire.Release, ...]) == facts.releases()


def test_ended_runs_are_counted_by_their_outcome(facts: DeviceFacts) -> None:
    outcomes = ("succeeded", "failed", "canceled", "rolled_back", "timed_out", "succeeded", "")
    for number, outcome in enumerate(outcomes):
        facts.journal.begin_run(f"r{number}", "schedule", None, "{}")
        if outcome:
            facts.journal.end_run(f"r{number}", outcome)
    figures = facts.telemetry()
    assert (figures["runs_succeeded"], figures["runs_failed"]) == (2, 3)


def test_a_clock_behind_the_release_gives_no_negative_age(
    config: Config, facts: DeviceFacts
) -> None:
    release(config, "20991123T101500123-3f9a")
    assert facts.telemetry()["release_age_s"] is None
