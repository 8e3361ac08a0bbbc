from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.adapters.storage.journal import SqliteJournal
from agent.core.control.journal import MessageClass, OutboxLimits, Outgoing
from agent.core.control.link import Connected, Disconnected
from agent.daemon.outbox import IN_FLIGHT, Outbox
from tests.fakes.link import FakeLink


@dataclass
class Now:
    """Both clocks, moved by the test."""

    s: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.s

    def monotonic_ns(self) -> int:
        return int(self.s * 1e9)

    def utc(self) -> str:
        return "2026-11-23T10:00:00.000Z"


@dataclass
class Bench:
    limits: OutboxLimits = field(default_factory=OutboxLimits)

    def __post_init__(self) -> None:
        self.now = Now()
        self.journal = SqliteJournal(":memory:", self.limits, self.now)
        self.link = FakeLink()
        self.announced: list[tuple[str, dict[str, Any]]] = []
        self.restart()

    def restart(self) -> None:
        self.link.lose()
        self.outbox = Outbox(
            self.journal,
            self.link,
            self.now,
            lambda kind, facts: self.announced.append((kind, dict(facts))),
        )

    def put(
        self,
        number: int,
        message_class: MessageClass = MessageClass.REPORT,
        size: int = 10,
        **rest: Any,
    ) -> None:
        body = f"{number}".encode().ljust(size)
        stream = "event" if message_class is MessageClass.INFO else message_class.value
        fields = {"topic": "t", "stream": stream, **rest}
        self.journal.append(
            Outgoing(body=body, message_class=message_class, number=number, **fields)
        )

    def connect(self, max_packet: int | None = None) -> None:
        self.link.connect()
        self.outbox.connected(Connected(self.link.session, False, max_packet))
        self.outbox.pump()

    def lose(self, code: int | None = None) -> None:
        self.link.lose()
        self.outbox.disconnected(Disconnected("lost", code))
        self.outbox.pump()

    def take(self, count: int = 1000, code: int = 0) -> None:
        for number in self.link.broker_takes(count):
            self.outbox.acked(self.link.answer(number, code))
        self.outbox.pump()

    def delivered(self) -> list[int]:
        return [int(body) for body in self.link.delivered]


def test_nothing_is_sent_while_offline() -> None:
    bench = Bench()
    bench.put(1)
    bench.outbox.pump()
    assert bench.link.said == []
    bench.connect()
    assert len(bench.link.said) == 1


def test_few_are_in_flight_and_all_arrive_in_order() -> None:
    bench = Bench()
    for number in range(100):
        bench.put(number)
    bench.connect()
    assert len(bench.link.unacked) == IN_FLIGHT
    while bench.link.unacked:
        bench.take(7)
    assert bench.delivered() == list(range(100))
    assert bench.journal.counts().waiting == 0


def test_a_birth_does_not_wait_behind_a_backlog() -> None:
    bench = Bench()
    for number in range(100):
        bench.put(number)
    bench.put(900, MessageClass.STATE, topic="state", replaces=True)
    bench.put(901, MessageClass.STATE, topic="meta", replaces=True)
    bench.connect()
    bench.take(30)
    bench.put(902, MessageClass.STATE, topic="state", replaces=True)
    while bench.link.unacked:
        bench.take(7)
    assert bench.delivered()[:4] == [900, 901, 0, 1]
    assert bench.delivered().index(902) < 60
    assert [number for number in bench.delivered() if number < 900] == list(range(100))
    assert bench.journal.counts().waiting == 0


def test_the_window_is_the_smaller_one_of_both_sides() -> None:
    bench = Bench()
    for number in range(50):
        bench.put(number)
    bench.link.connect()
    bench.outbox.connected(Connected(bench.link.session, False, None, receive_maximum=3))
    bench.outbox.pump()
    assert len(bench.link.unacked) == 3


def test_nothing_is_sent_on_a_connection_that_is_not_yet_known() -> None:
    """Else the first messages would be sent twice on it, and be too many for the broker."""
    bench = Bench()
    bench.put(1)
    bench.connect()
    bench.link.connect()  # a new one; its event is still in the mailbox
    bench.put(2)
    bench.outbox.pump()
    assert bench.link.unacked == {}
    bench.lose()
    bench.connect()
    bench.take()
    assert bench.delivered() == [1, 2]


def test_what_was_in_flight_is_sent_again_and_nothing_else() -> None:
    bench = Bench()
    for number in range(5):
        bench.put(number)
    bench.connect()
    bench.take(2)
    bench.link.broker_takes(3)  # the broker has them, its answers are lost
    bench.lose()
    bench.connect()
    bench.take()
    assert bench.delivered() == [0, 1, 2, 3, 4, 2, 3, 4]


def test_an_answer_of_an_earlier_connection_counts_for_nothing() -> None:
    bench = Bench()
    bench.put(1)
    bench.connect()
    (old,) = bench.link.broker_takes(1)
    late = bench.link.answer(old)
    bench.lose()
    bench.connect()
    bench.outbox.acked(late)
    bench.outbox.pump()
    assert bench.journal.counts().waiting == 1


def test_a_message_above_the_limit_is_parked_and_blocks_nothing() -> None:
    bench = Bench()
    for number, size in enumerate([10, 500, 10]):
        bench.put(number, size=size)
    bench.connect(max_packet=200)
    bench.take()
    assert bench.delivered() == [0, 2]
    assert bench.announced == [("message_parked", {"topic": "t", "seq": 1, "reason": "too_large"})]


def test_a_denied_message_is_parked() -> None:
    bench = Bench()
    bench.put(1)
    bench.put(2)
    bench.connect()
    bench.take(1, code=0x87)
    bench.take()
    assert bench.announced[0][1]["reason"] == "denied"
    assert bench.journal.counts().parked == 1
    assert bench.journal.counts().waiting == 0


def test_a_denied_event_is_not_announced_by_an_event() -> None:
    bench = Bench()
    bench.put(1, MessageClass.INFO)
    bench.connect()
    bench.take(1, code=0x87)
    assert bench.announced == []
    assert bench.journal.counts().parked == 1


def test_a_full_broker_gets_a_pause_and_then_the_rest_in_order() -> None:
    bench = Bench()
    for number in range(3):
        bench.put(number)
    bench.connect()
    for number in list(bench.link.unacked):
        bench.outbox.acked(bench.link.answer(number, 0x97))
    bench.outbox.pump()
    assert bench.link.unacked == {}
    bench.now.s += 31
    bench.outbox.pump()
    bench.take()
    assert bench.delivered() == [0, 1, 2]


def test_a_message_that_is_refused_for_ever_is_parked_in_the_end() -> None:
    bench = Bench()
    bench.put(1)
    bench.connect()
    for _ in range(5):
        bench.take(1, code=0x83)
        bench.now.s += 31
        bench.outbox.pump()
    assert bench.announced[0][1]["reason"] == "refused_0x83"
    assert bench.link.unacked == {}


def test_the_message_that_the_broker_chokes_on_is_found_among_others() -> None:
    bench = Bench()
    for number in range(10):
        bench.put(number)
    poison, losses = 4, 0
    bench.connect()
    while bench.journal.counts().waiting:
        waiting = [int(body) for _, body in bench.link.unacked.values()]
        if poison in waiting:  # the broker answers nothing that came with it
            losses += 1
            assert losses < 10
            bench.lose(code=0x82)
            bench.connect()
        else:
            bench.take(1)
    assert sorted(bench.delivered()) == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert [facts["seq"] for _, facts in bench.announced] == [poison]


def test_a_broker_that_chokes_without_a_word_is_no_endless_loop() -> None:
    bench = Bench()
    bench.put(1)
    bench.put(2)
    for _ in range(10):
        bench.connect()
        bench.lose()
    bench.connect()
    bench.take()
    assert bench.delivered() == [2]
    assert [facts["reason"] for _, facts in bench.announced] == ["drops_link"]


def test_a_bad_network_parks_nothing() -> None:
    bench = Bench()
    bench.put(1)
    for _ in range(9):
        bench.connect()
        bench.lose()
    bench.connect()
    bench.take()
    assert bench.delivered() == [1]


def test_success_without_subscribers_is_counted() -> None:
    bench = Bench()
    bench.put(1)
    bench.connect()
    bench.take(1, code=0x10)
    assert bench.outbox.unheard == 1
    assert bench.journal.counts().waiting == 0


class Delivery(RuleBasedStateMachine):
    """Whatever happens: delivered at least once and in order, or announced, or still waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(OutboxLimits(total_bytes=600, keep_s=1e9))
        self.made: dict[int, MessageClass] = {}
        self.put_off = False  # what the broker refused for a while comes later than its turn

    @rule(
        message_class=st.sampled_from([MessageClass.TELEMETRY, MessageClass.REPORT]),
        size=st.integers(5, 60),
    )
    def put(self, message_class: MessageClass, size: int) -> None:
        number = len(self.made)
        self.made[number] = message_class
        self.bench.put(number, message_class, size)
        self.bench.outbox.pump()

    @rule(
        message_class=st.sampled_from([MessageClass.TELEMETRY, MessageClass.REPORT]),
        count=st.integers(2, 40),
    )
    def put_many(self, message_class: MessageClass, count: int) -> None:
        for _ in range(count):
            self.put(message_class, 5)

    @precondition(lambda self: not self.bench.link.online)
    @rule(max_packet=st.sampled_from([None, 80]))
    def connect(self, max_packet: int | None) -> None:
        self.bench.connect(max_packet)

    @precondition(lambda self: self.bench.link.online)
    @rule(taken=st.integers(0, 30), code=st.sampled_from([None, 0x82]))
    def lose(self, taken: int, code: int | None) -> None:
        self.bench.link.broker_takes(taken)  # without an answer
        self.bench.lose(code)

    @precondition(lambda self: self.bench.link.online)
    @rule(count=st.integers(1, 30))
    def take(self, count: int) -> None:
        self.bench.take(count)

    @precondition(lambda self: self.bench.link.online)
    @rule(code=st.sampled_from([0x87, 0x97, 0x10]))
    def refuse_one(self, code: int) -> None:
        numbers = list(self.bench.link.unacked)[:1]
        self.put_off |= code == 0x97
        for number in numbers:
            if code == 0x10:
                self.bench.link.broker_takes(1)
            self.bench.outbox.acked(self.bench.link.answer(number, code))
        self.bench.outbox.pump()

    @rule(taken=st.integers(0, 30))
    def crash(self, taken: int) -> None:
        if self.bench.link.online:
            self.bench.link.broker_takes(taken)
        self.bench.restart()

    @rule()
    def tidy(self) -> None:
        self.bench.outbox.tidy()

    @rule(seconds=st.sampled_from([1, 40]))
    def wait(self, seconds: int) -> None:
        self.bench.now.s += seconds
        self.bench.outbox.pump()

    @invariant()
    def few_in_flight(self) -> None:
        assert len(self.bench.link.unacked) <= IN_FLIGHT or not self.bench.link.online

    @invariant()
    def nothing_is_silently_lost(self) -> None:
        waiting = {row.message.number for row in self.bench.journal.pending(0, 10_000)}
        parked = {facts["seq"] for kind, facts in self.bench.announced if kind == "message_parked"}
        evicted: set[int] = set()
        for kind, facts in self.bench.announced:
            if kind == "outbox_evicted":
                assert facts["class"] == "telemetry"
                evicted |= set(range(facts["seq_from"], facts["seq_to"] + 1))
        gone = set(self.made) - set(self.bench.delivered()) - waiting - parked
        assert gone <= {number for number in evicted if self.made[number] is MessageClass.TELEMETRY}

    @invariant()
    def first_deliveries_are_in_order(self) -> None:
        seen = list(dict.fromkeys(self.bench.delivered()))
        assert self.put_off or seen == sorted(seen)

    def teardown(self) -> None:
        """Let everything calm down: then all that is not announced has been delivered."""
        self.bench.now.s += 100
        if not self.bench.link.online:
            self.bench.connect()
        for _ in range(200):
            self.bench.take()
            self.bench.now.s += 40
            self.bench.outbox.pump()
        assert self.bench.journal.counts().waiting == 0
        self.bench.journal.close()


TestDelivery = Delivery.TestCase
TestDelivery.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)


@pytest.mark.faults
class TestDeliveryAtLength(Delivery.TestCase):
    settings = settings(max_examples=200, stateful_step_count=60, deadline=None)
