from __future__ import annotations

from typing import Any

import pytest

from agent.daemon.notices import Notices
from tests.fakes.runners import FakeClock


@pytest.fixture
def events() -> list[tuple[str, dict[str, Any]]]:
    return []


@pytest.fixture
def notices(events: list[tuple[str, dict[str, Any]]]) -> Notices:
    return Notices(lambda kind, facts: events.append((kind, dict(facts))), FakeClock())


def test_a_flood_is_counted_and_neither_published_nor_logged_at_length(notices, events, caplog):
    for number in range(10_000):
        notices.note("command_misaddressed", {"topic": f"quantd/v1/cam-1/cmd/{number}/x"})
    assert notices.counts["commands_misaddressed"] == 10_000
    assert len(events) == 20
    assert caplog.text.count("command_misaddressed") == 20
    notices.clock.now_ns += 60_000_000_000
    for _ in range(5):
        notices.note("command_misaddressed", {"topic": "last"})
    assert events[20:] == [("command_misaddressed", {"topic": "last", "suppressed": 9980})]


def test_one_kind_hides_no_other(notices, events):
    for _ in range(100):
        notices.note("command_misaddressed", {"topic": "x"})
    notices.note("message_parked", {"seq": 1})
    assert events[-1] == ("message_parked", {"seq": 1})


def test_what_others_chose_is_cut_and_can_not_forge_a_line(notices, events, caplog):
    notices.note("command_misaddressed", {"topic": "a\nERROR forged " + "x" * 70_000})
    assert len(events[0][1]["topic"]) == 200
    assert "\nERROR" not in caplog.text


def test_messages_that_were_given_up_together_count_as_many(notices):
    notices.note("outbox_evicted", {"stream": "telemetry", "n": 40})
    assert notices.counts["messages_evicted"] == 40
