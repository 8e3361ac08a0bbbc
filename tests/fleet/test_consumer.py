"""Batches on their way into the store."""

from __future__ import annotations

import asyncio

from agent.core.control.ulid import Ulids
from agent.core.errors import StoreError
from agent.fleet import consumer
from agent.fleet.consumer import BATCH, Feed, Ingest, filters, now_ms
from agent.fleet.intake import Intake
from agent.fleet.mqtt import Delivery
from agent.wire import messages as wire


class Store:
    """Refuses events of one kind, as a database would; fails as often as asked."""

    def __init__(self, refuses="", failures=0):
        self.refuses, self.failures = refuses, failures
        self.kinds, self.quarantined, self.writes = [], [], 0

    def write(self, messages, quarantined):
        self.writes += 1
        if self.failures:
            self.failures -= 1
            raise StoreError("disk full", code="disk_full")
        if any(one.body.kind == self.refuses for one in messages):
            raise StoreError("no", code="refused")
        self.kinds += [one.body.kind for one in messages]
        self.quarantined += quarantined
        return len(messages)


class Connection:
    def __init__(self):
        self.acknowledged = []
        self.closed = asyncio.get_running_loop().create_future()
        self.reading = True

    def acknowledge(self, packets):
        self.acknowledged += packets

    def pause_reading(self, *, pause):
        self.reading = not pause


def _event(kind, packet=1, payload=None):
    body = wire.Event(
        id=Ulids().next(now_ms()), dev="cam-1", ts="2026-11-28T12:00:00Z", mono_ms=1, boot="b",
        sess=1, seq=packet, clock_ok=True, kind=kind, severity="info", facts={},
    )  # fmt: skip
    return Delivery(b"quantd/v1/cam-1/event", payload or wire.encode(body), False, packet)


def _taken(store, batch):
    ingest = Ingest(store, Intake("quantd"))

    async def take():
        assert await ingest.take(batch)

    asyncio.run(take())
    ingest.close()
    return ingest.counted


def test_the_one_message_that_the_database_refuses_is_set_aside():
    store = Store(refuses="bad")
    batch = [_event(f"e{n}" if n != 77 else "bad") for n in range(100)]
    counted = _taken(store, batch)
    assert sorted(store.kinds) == sorted(f"e{n}" for n in range(100) if n != 77)
    (culprit,) = store.quarantined
    assert (culprit.device, culprit.why) == ("cam-1", "the database refuses it: no")
    assert culprit.head == batch[77].payload
    assert (counted.stored, counted.quarantined) == (99, 1)
    assert store.writes < 20


def test_a_message_that_is_not_valid_does_not_hold_up_the_others():
    store = Store()
    counted = _taken(store, [_event("a"), _event("b", payload=b"{"), _event("c")])
    assert store.kinds == ["a", "c"]
    assert (counted.stored, counted.duplicates, counted.quarantined) == (2, 0, 1)


def test_a_batch_waits_for_a_store_that_is_away(monkeypatch):
    monkeypatch.setattr(consumer, "_FIRST_DELAY_S", 0.001)
    store = Store(failures=3)
    assert _taken(store, [_event("a")]).stored == 1
    assert store.kinds == ["a"]


def test_nothing_is_acknowledged_before_it_is_stored(monkeypatch):
    monkeypatch.setattr(consumer, "_FIRST_DELAY_S", 0.001)
    store = Store(failures=2)

    async def drained():
        ingest = Ingest(store, Intake("quantd"))
        feed, connection = Feed(ingest), Connection()
        for number in range(BATCH + 3):
            feed.take(_event("a", number + 1))
        feed.take(_event("a", 0))  # of QoS 0
        draining = asyncio.create_task(feed.drain(connection))
        while len(connection.acknowledged) < BATCH + 3:
            assert len(connection.acknowledged) <= len(store.kinds)
            await asyncio.sleep(0.001)
        draining.cancel()
        return connection.acknowledged

    assert asyncio.run(drained()) == list(range(1, BATCH + 4))
    assert len(store.kinds) == BATCH + 4


def test_what_waits_is_bounded_by_its_bytes():
    async def filled():
        feed, connection = Feed(Ingest(Store(), Intake("quantd"))), Connection()
        draining = asyncio.create_task(feed.drain(connection))
        await asyncio.sleep(0)
        for number in range(20):
            feed.take(_event("a", number + 1, payload=b"x" * 1_000_000))
        assert not connection.reading
        while not connection.reading:
            await asyncio.sleep(0.001)
        draining.cancel()

    asyncio.run(filled())


def test_a_group_shares_each_kind_of_message():
    assert filters("a/b", "g", ["state"]) == ["$share/g/a/b/v1/+/state"]
    assert "quantd/v1/+/report/+" in filters("quantd")
    assert not any("cmd" in one for one in filters("quantd"))
