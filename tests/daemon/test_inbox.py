from __future__ import annotations

import json
from typing import Any

import pytest

from agent.adapters.storage.journal import SqliteJournal
from agent.core.control.command import Command, Rejection, Stage
from agent.core.control.journal import Answered
from agent.core.control.link import CommandArrived
from agent.core.errors import CommandError
from agent.daemon.inbox import Inbox
from agent.daemon.messages import Messages
from agent.wire.topics import Topics

TOPICS = Topics("quantd", "cam-1")
NOW_S = 1_795_428_000.0  # 2026-11-23T10:00:00Z


class Now:
    ns = 5_000_000

    def monotonic_ns(self) -> int:
        return self.ns

    def utc(self) -> str:
        return "2026-11-23T10:00:00.000Z"


class OneKey:
    """Trusts tokens of the form eyJ<claims>."""

    def verify(self, token: bytes) -> bytes:
        if b"forged" in token:
            raise CommandError("key ops-7 is not in /etc/keys", code="bad_signature")
        return token[3:]


class Bench:
    def __init__(self, *, require_signature: bool = True, **settings: Any) -> None:
        self.journal = SqliteJournal(":memory:")
        self.now = Now()
        self.noted: list[tuple[str, dict[str, Any]]] = []
        self.messages = Messages(
            TOPICS, self.journal, Now(), boot="b", session=lambda: 3, clock_ok=lambda: True
        )
        self.inbox = Inbox(
            TOPICS,
            self.journal,
            self.messages,
            signatures=OneKey(),
            require_signature=require_signature,
            max_exp_s=3600,
            clock=self.now,
            clock_ok=lambda: True,
            note=lambda kind, facts: self.noted.append((kind, dict(facts))),
            **settings,
        )

    def arrives(
        self, fields: dict[str, Any] | bytes, *, signed: bool = True, retain: bool = False
    ) -> Command | Rejection | None:
        body = fields
        if isinstance(fields, dict):
            claims = (
                {"jti": "c1", "aud": "cam-1", "exp": NOW_S + 60, **fields} if signed else fields
            )
            body = (b"eyJ" if signed else b"") + json.dumps(claims).encode()
        assert isinstance(body, bytes)
        return self.inbox.admit(CommandArrived(TOPICS.root + "/v1/cam-1/cmd/c1", body, retain, 1))

    def said(self) -> list[tuple[str, int, str | None]]:
        bodies = self.sent("cmd_id")
        return [(b["stage"], b["version"], (b["reason"] or {}).get("code")) for b in bodies]

    def sent(self, having: str) -> list[dict[str, Any]]:
        bodies = [json.loads(row.message.body) for row in self.journal.pending(0, 9999)]
        return [body for body in bodies if having in body]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_good_command_is_stored_and_returned(bench: Bench) -> None:
    found = bench.arrives({"type": "ping"})
    assert isinstance(found, Command)
    entry = bench.journal.entry("c1")
    assert entry is not None
    assert entry.stage is Stage.RECEIVED
    assert bench.said() == []


def test_the_same_again_is_answered_and_not_run(bench: Bench) -> None:
    bench.arrives({"type": "ping"})
    bench.messages.result("c1", Answered(stage=Stage.ACCEPTED))
    bench.messages.result("c1", Answered(stage=Stage.SUCCEEDED, detail="idle"))
    assert bench.arrives({"type": "ping"}) is None
    assert bench.said() == [("ACCEPTED", 1, None), ("SUCCEEDED", 2, ""), ("SUCCEEDED", 2, "")]


def test_a_command_that_comes_twice_before_it_is_answered_is_begun_once(bench: Bench) -> None:
    """In one batch, for instance; what a crash left unanswered is found at the start."""
    assert isinstance(bench.arrives({"type": "rollback"}), Command)
    assert bench.arrives({"type": "rollback"}) is None
    assert bench.said() == []
    assert [entry.command_id for entry in bench.journal.unanswered()] == ["c1"]


def test_the_same_id_for_something_else_is_a_conflict(bench: Bench) -> None:
    bench.arrives({"type": "ping"})
    found = bench.arrives({"type": "rollback"})
    assert isinstance(found, Rejection)
    assert found.code == "conflict"
    assert bench.said() == [("REJECTED", 0, "conflict")]
    entry = bench.journal.entry("c1")
    assert entry is not None
    assert entry.type == "ping"


def test_a_forgery_can_not_take_the_id_of_a_genuine_command(bench: Bench) -> None:
    for body in (b"eyJforged", b'{"type":"rollback"}', b"x" * 70_000, b"\xff"):
        assert isinstance(bench.arrives(body), Rejection)
    assert bench.journal.entry("c1") is None
    assert isinstance(bench.arrives({"type": "ping"}), Command)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"aud": "cam-2"}, "wrong_device"),
        ({"exp": 10}, "expired"),
        ({"nbf": 1.9e9, "exp": 1.9e9 + 9}, "not_yet"),
        ({"exp": NOW_S + 3700}, "exp_too_far"),
        ({"jti": "c2"}, "bad_json"),
        ({"exp": None}, "bad_signature"),
        ({"type": "format"}, "unsupported"),
    ],
)
def test_each_flaw_is_answered_with_its_code(
    bench: Bench, change: dict[str, Any], expected: str
) -> None:
    assert isinstance(bench.arrives({"type": "ping", **change}), Rejection)
    assert bench.said() == [("REJECTED", 0, expected)]


def test_a_retained_command_is_refused(bench: Bench) -> None:
    found = bench.arrives({"type": "ping"}, retain=True)
    assert isinstance(found, Rejection)
    assert found.code == "retained"


def test_a_command_that_came_before_is_answered_even_when_it_has_expired(bench: Bench) -> None:
    expired = {"type": "ping", "exp": 10}
    assert isinstance(bench.arrives(expired), Rejection)
    assert isinstance(bench.arrives(expired), Rejection)  # never stored, always refused
    assert bench.said() == [("REJECTED", 0, "expired")] * 2


def test_plain_commands_where_no_signature_is_required() -> None:
    bench = Bench(require_signature=False)
    assert isinstance(bench.arrives({"type": "ping"}, signed=False), Command)


def test_a_token_is_verified_even_where_no_signature_is_required() -> None:
    bench = Bench(require_signature=False)
    found = bench.arrives(b"eyJforged")
    assert isinstance(found, Rejection)
    assert found.code == "bad_signature"


def test_a_topic_that_names_no_command_is_passed_over(bench: Bench) -> None:
    for topic in ("quantd/v1/cam-1/cmd/a/b", "quantd/v1/cam-1/cmd/", "other"):
        assert bench.inbox.admit(CommandArrived(topic, b"{}", False, 1)) is None
    assert bench.said() == []


def test_which_keys_there_are_is_for_the_device_s_own_log() -> None:
    bench = Bench()
    found = bench.arrives(b"eyJforged")
    assert isinstance(found, Rejection)
    assert found.cause == "key ops-7 is not in /etc/keys"
    (answer,) = bench.sent("cmd_id")
    assert "ops" not in json.dumps(answer)
    assert "/etc" not in json.dumps(answer)
    assert answer["reason"]["code"] == "bad_signature"


@pytest.mark.parametrize("body", [b"eyJforged", b"{}", b"x" * 70_000])
def test_a_flood_from_strangers_is_answered_for_a_while_and_then_slowly(body: bytes) -> None:
    """Each answer would otherwise take a place in the durable outbox."""
    bench = Bench()
    refused = [bench.arrives(body) for _ in range(1500)]
    answered = [one for one in refused if one is not None]
    assert 500 <= len(answered) <= 1100
    assert len(bench.sent("cmd_id")) == len(answered)
    assert bench.noted == [("refusal_unanswered", {"signed": False})] * (1500 - len(answered))
    bench.now.ns += 10_000_000_000
    assert isinstance(bench.arrives(body), Rejection)
    assert isinstance(bench.arrives({"type": "ping"}), Command), "a genuine command is taken"


def test_a_flood_leaves_the_answers_to_signed_commands_and_the_other_way_round() -> None:
    bench = Bench()
    for _ in range(1500):
        bench.arrives(b"eyJforged")
    assert isinstance(bench.arrives({"type": "ping", "exp": 10}), Rejection)
    replayed = [bench.arrives({"type": "ping", "exp": 10}) for _ in range(1500)]
    assert replayed[-1] is None, "a token that was read on its way can be sent again at any time"
    bench = Bench()
    for _ in range(1500):
        bench.arrives({"type": "ping", "exp": 10})
    assert isinstance(bench.arrives(b"eyJforged"), Rejection)


def test_a_command_repeated_for_ever_is_not_answered_for_ever(bench: Bench) -> None:
    bench.arrives({"type": "ping"})
    bench.messages.result("c1", Answered(stage=Stage.ACCEPTED))
    for _ in range(1500):
        assert bench.arrives({"type": "ping"}) is None
    assert 500 <= len(bench.sent("cmd_id")) <= 1101


def test_a_limit_is_loosened_only_where_that_is_allowed() -> None:
    asked = {"type": "reoptimize", "args": {"limits": {"power_w": 20.0}}}
    assert isinstance(Bench().arrives(asked), Command)
    assert isinstance(Bench(limits={"power_w": 30.0}).arrives(asked), Command)
    bench = Bench(limits={"power_w": 10.0})
    found = bench.arrives(asked)
    assert isinstance(found, Rejection)
    assert bench.said() == [("REJECTED", 0, "policy")]
    assert "commands.may_loosen_limits" in found.detail
    assert bench.journal.entry("c1") is None
