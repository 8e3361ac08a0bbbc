from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import jsonschema
import pytest

from agent.adapters.storage.journal import SqliteJournal
from agent.core.control.command import Command, CommandId, Stage
from agent.core.control.journal import Answered, MessageClass
from agent.core.control.requests import Ping
from agent.core.errors import StoreError
from agent.core.fleet.messages import Received
from agent.daemon.messages import TELEMETRY_EXPIRY_S, Messages
from agent.fleet.intake import Intake
from agent.wire import messages as wire
from agent.wire.schema import schemas
from agent.wire.topics import Topics

TOPICS = Topics("quantd", "cam-1")


class Now:
    def monotonic_ns(self) -> int:
        return 5_000_000

    def utc(self) -> str:
        return "2026-11-23T10:00:00.000Z"


@pytest.fixture
def journal() -> Iterator[SqliteJournal]:
    with SqliteJournal(":memory:") as opened:
        yield opened


@pytest.fixture
def messages(journal: SqliteJournal) -> Messages:
    return Messages(TOPICS, journal, Now(), boot="b", session=lambda: 3, clock_ok=lambda: False)


def said(journal: SqliteJournal) -> list[dict[str, Any]]:
    return [json.loads(row.message.body) for row in journal.pending(0, 99)]


def test_every_message_fits_the_published_schema(
    journal: SqliteJournal, messages: Messages
) -> None:
    messages.state(
        active=wire.Active(release="r"), job=wire.Job(run_id="r", kind="optimize", pct=3.0)
    )
    messages.meta(labels={"site": "n"}, environment={"l4t": None}, models=("m",))
    long = "€" * wire.SHORT_LIMIT
    release = wire.Release(
        id="r" * 30, model="m" * 64, candidate="c" * 20, precision="int8-mixed", reason=long
    )
    messages.releases("r", [release] * (wire.RELEASES_LIMIT + 1))
    messages.telemetry({"temp_c": 40.0})
    messages.event("run_ended", "error", {"n": 1, "detail": "x" * 3000 + "\x00"})
    messages.report("m", {"schema": 1})
    messages.refuse("c1", Answered(stage=Stage.REJECTED, code="expired"))
    rows = journal.pending(0, 99)
    intake = Intake("quantd")
    received_ms = round(datetime.fromisoformat("2026-11-23T10:00:01+00:00").timestamp() * 1000)
    for row in rows:
        found = intake.take(row.message.topic.encode(), row.message.body, received_ms)
        assert isinstance(found, Received), found
    names = ["state", "meta", "releases", "telemetry", "event", "report_message", "result"]
    for row, name in zip(rows, names, strict=True):
        jsonschema.Draft202012Validator(schemas()[name]).validate(json.loads(row.message.body))
    assert [row.message.topic.removeprefix("quantd/v1/cam-1/") for row in rows] == [
        "state",
        "meta",
        "releases",
        "telemetry",
        "event",
        "report/m",
        "res/c1",
    ]
    assert [row.message.retain for row in rows] == [True, True, True, False, False, True, False]
    assert {row.message.message_class for row in rows} == set(MessageClass) - {MessageClass.INFO}
    assert rows[3].message.expiry_s == TELEMETRY_EXPIRY_S


def test_the_envelope(journal: SqliteJournal, messages: Messages) -> None:
    for _ in range(2):
        messages.event("k", "info", {})
    first, second = said(journal)
    assert (first["seq"], second["seq"]) == (1, 2)
    assert first["id"] < second["id"]
    kept = ("v", "dev", "ts", "mono_ms", "boot", "sess", "clock_ok")
    assert [first[name] for name in kept] == [2, "cam-1", Now().utc(), 5, "b", 3, False]


def test_discovery_is_removed_once_when_it_is_switched_off_and_where_it_was(
    journal: SqliteJournal, messages: Messages
) -> None:
    def sent(topic: str, body: bytes) -> list[tuple[str, bytes, bool]]:
        messages.announce(topic, body)
        rows = journal.pending(0, 9)
        journal.delivered([row.key for row in rows])
        return [(row.message.topic, row.message.body, row.message.retain) for row in rows]

    assert sent("ha/a", b"") == []
    assert sent("ha/a", b"{}") == [("ha/a", b"{}", True)]
    assert sent("ha/a", b"{}") == [("ha/a", b"{}", True)]
    assert sent("ha/b", b"{}") == [("ha/a", b"", True), ("ha/b", b"{}", True)]
    assert sent("ha/b", b"") == [("ha/b", b"", True)]
    assert sent("ha/b", b"") == []


def test_discovery_not_yet_sent_is_replaced_by_its_removal(
    journal: SqliteJournal, messages: Messages
) -> None:
    messages.announce("ha/a", b"{}")
    messages.announce("ha/a", b"")
    assert [row.message.body for row in journal.pending(0, 9)] == [b""]


def test_the_will_is_of_its_own_connection(messages: Messages) -> None:
    will = json.loads(messages.will(9))
    jsonschema.Draft202012Validator(schemas()["state"]).validate(will)
    assert (will["status"], will["will"], will["sess"]) == ("offline", True, 9)


def test_a_stage_and_its_answer_are_stored_together(
    journal: SqliteJournal, messages: Messages
) -> None:
    journal.receive(Command(id=CommandId("c1"), request=Ping()))
    messages.result("c1", Answered(stage=Stage.ACCEPTED))
    progress = wire.Progress(step="build", pct=50.0)
    messages.result("c1", Answered(stage=Stage.IN_PROGRESS), progress)
    messages.result("c1", Answered(stage=Stage.SUCCEEDED, result="/r"))
    with pytest.raises(StoreError):
        messages.result("c1", Answered(stage=Stage.FAILED))
    answers = said(journal)
    assert [(a["stage"], a["version"]) for a in answers] == [
        ("ACCEPTED", 1),
        ("IN_PROGRESS", 2),
        ("SUCCEEDED", 3),
    ]
    assert answers[1]["progress"] == {"step": "build", "pct": 50.0, "eta_s": None}
    assert answers[2]["result_ref"] == "/r"


def test_the_numbers_have_no_hole_after_a_failure(
    journal: SqliteJournal, messages: Messages
) -> None:
    journal.receive(Command(id=CommandId("c1"), request=Ping()))
    with pytest.raises(StoreError):
        messages.result("c1", Answered(stage=Stage.SUCCEEDED))
    messages.refuse("c2", Answered(stage=Stage.REJECTED))
    assert [answer["seq"] for answer in said(journal)] == [1]
