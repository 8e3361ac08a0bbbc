"""The side that faces the broker, where the broker is not as it should be."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from agent.core.control.effects import Effect, PublishState, PublishTelemetry
from agent.core.control.journal import MessageClass
from agent.core.control.link import Connected, Disconnected, Subscribed
from agent.core.control.step import State
from agent.core.errors import StoreError
from agent.daemon.notices import Notices
from agent.daemon.outbox import IN_FLIGHT
from agent.daemon.outward import Broker, Facts
from agent.wire import messages as wire
from agent.wire.topics import Topics
from tests.daemon.test_outbox import Bench


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def events() -> list[tuple[str, dict[str, Any]]]:
    return []


@pytest.fixture
def broker(bench: Bench, events: list[tuple[str, dict[str, Any]]]) -> Broker:
    nothing: Any = None
    return Broker(
        link=bench.link,
        topics=Topics("quantd", "cam-1"),
        journal=bench.journal,
        messages=nothing,
        inbox=nothing,
        outbox=bench.outbox,
        facts=nothing,
        clock=bench.now,
        notices=Notices(lambda kind, facts: events.append((kind, dict(facts))), bench.now),
    )


def test_a_broker_that_acknowledges_nothing_is_connected_to_again(
    bench: Bench, broker: Broker
) -> None:
    """It answers pings, so the link holds; what was sent on it must not be sent there again."""
    begun: list[bool] = []
    bench.link.start = lambda: begun.append(True)  # type: ignore[method-assign]
    for number in range(50):
        bench.put(number)
    bench.connect()
    bench.now.s += 19
    broker.pump()
    broker.take(bench.link.answer(bench.link.broker_takes(1)[0]))
    bench.now.s += 170  # less than ten round trips of that length
    broker.pump()
    assert begun == []
    bench.now.s += 30
    broker.pump()
    broker.pump()
    assert begun == [True]
    assert broker.notices.counts["broker_silences"] == 1
    bench.link.connect()
    broker.take(Connected(bench.link.session, True, None))
    broker.pump()
    assert len(bench.link.unacked) == IN_FLIGHT
    bench.now.s += 200
    while bench.link.unacked:
        for sent in bench.link.broker_takes(IN_FLIGHT):
            broker.take(bench.link.answer(sent))
        broker.pump()
    assert bench.link.delivered[-49:] == [str(n).encode().ljust(10) for n in range(1, 50)]
    bench.now.s += 3600
    broker.pump()
    assert begun == [True]


def test_acknowledgements_that_are_cut_are_noticed_soon_and_then_less_often(
    bench: Bench, broker: Broker
) -> None:
    begun: list[float] = []
    bench.link.start = lambda: begun.append(bench.now.s)  # type: ignore[method-assign]
    for number in range(300):
        bench.put(number)
    bench.connect()
    for _ in range(200):  # an hour ago the link was slow
        bench.now.s += 0.05
        bench.take(1)
    for silence in (20, 40, 80, 160, 300, 300):
        since, times = bench.now.s, len(begun)
        while len(begun) == times:
            bench.now.s += 1
            broker.pump()
            assert bench.now.s - since <= silence + 2
        assert bench.now.s - since >= silence
        bench.link.connect()
        broker.take(Connected(bench.link.session, True, None))
        broker.pump()
    for _ in range(5):  # ten times silent: no message is to blame for it
        assert bench.journal.counts().parked == 0
        bench.take()
    assert bench.journal.counts().waiting == 0


def test_a_silent_broker_is_left_also_while_the_disk_is_full(bench: Bench, broker: Broker) -> None:
    begun: list[bool] = []
    bench.link.start = lambda: begun.append(True)  # type: ignore[method-assign]

    def full(*_: object) -> None:
        raise StoreError("no room", code="disk_full")

    broker.notices.announce = full
    bench.put(1)
    bench.connect()
    bench.now.s += 21
    with pytest.raises(StoreError):
        broker.pump()
    assert begun == [True]


def test_days_without_a_broker_do_not_fill_the_outbox_with_news_of_expired_figures(
    bench: Bench, broker: Broker
) -> None:
    for minute in range(2 * 24 * 60):
        bench.put(minute, MessageClass.TELEMETRY, expiry_s=3600)
        broker.pump()
        bench.now.s += 60
    assert len(bench.announced) < 50
    assert sum(facts["n"] for _, facts in bench.announced) > 2700
    bench.link.connect()
    broker.take(Connected(bench.link.session, True, None))
    broker.pump()
    assert int(min(body for _, body in bench.link.unacked.values())) >= 2 * 24 * 60 - 60


def test_failures_of_one_kind_are_reported_once_until_there_was_a_connection(
    broker: Broker, events: list[tuple[str, dict[str, Any]]], caplog: pytest.LogCaptureFixture
) -> None:
    missing = Disconnected("mqtt.tls: no such file", cause="credentials_unusable")
    for _ in range(3):
        broker.take(missing)
    broker.take(Disconnected("127.0.0.1:8883: refused"))
    assert events == [("credentials_unusable", {"reason": "mqtt.tls: no such file"})]
    assert caplog.text.count("broker_lost") == 2
    assert broker.notices.counts["credentials_unusable"] == 3
    broker.take(Connected(1, False, None))
    broker.take(missing)
    assert len(events) == 2


def test_a_refused_subscription_is_an_event_and_in_the_state_until_it_is_granted(
    broker: Broker, events: list[tuple[str, dict[str, Any]]]
) -> None:
    published: list[bool] = []
    broker.messages = SimpleNamespace(  # type: ignore[assignment]
        state=lambda *, subscribed, **_: published.append(subscribed), releases=lambda *_: None
    )
    broker.facts = SimpleNamespace(  # type: ignore[assignment]
        active=lambda: None, releases=tuple
    )
    for event in (Connected(1, False, None, refused="Not authorized"), Subscribed()):
        broker.take(event)
        broker.publish(PublishState(), State())
    assert published == [False, True]
    assert events == [
        ("subscription_refused", {"topic": "quantd/v1/cam-1/cmd/#", "reason": "Not authorized"})
    ]
    assert broker.notices.counts["subscriptions_refused"] == 1


def test_releases_are_sent_with_each_connection_and_once_after_a_change(broker: Broker) -> None:
    """`quantd pin` and `quantd activate` change them beside the daemon."""
    sent: list[str] = []
    pinned = [False]
    broker.messages = SimpleNamespace(  # type: ignore[assignment]
        state=lambda **_: sent.append("state"),
        meta=lambda **_: sent.append("meta"),
        announce=lambda topic, body: sent.append(topic),
        telemetry=lambda _: sent.append("telemetry"),
        releases=lambda active, releases: sent.append(f"{active} {releases[0].pinned}"),
    )
    broker.facts = Facts(
        labels={},
        model="m",
        active=lambda: wire.Active(release="r1"),
        releases=lambda: (wire.Release(id="r1", pinned=pinned[0]),),
        telemetry=dict,
        environment=dict,
        report=lambda _: None,
        discovery=("homeassistant/x", b"{}"),
    )

    def published(effect: Effect) -> list[str]:
        sent.clear()
        broker.publish(effect, State())
        return list(sent)

    for _ in range(2):
        assert published(PublishState(with_meta=True)) == [
            "state",
            "r1 False",
            "meta",
            "homeassistant/x",
        ]
    assert published(PublishState()) == ["state"]
    assert published(PublishTelemetry()) == ["telemetry"]
    pinned[0] = True
    assert published(PublishTelemetry()) == ["telemetry", "state", "r1 True"]
    assert published(PublishTelemetry()) == ["telemetry"]
