"""The side that faces the broker, where the broker is not as it should be."""

from __future__ import annotations

from typing import Any

import pytest

from agent.core.control.link import Connected, Disconnected
from agent.core.errors import ConfigError
from agent.daemon.outbox import IN_FLIGHT
from agent.daemon.outward import Broker
from tests.daemon.test_outbox import Bench


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def broker(bench: Bench) -> Broker:
    nothing: Any = None
    return Broker(
        link=bench.link,
        topics=nothing,
        journal=bench.journal,
        messages=nothing,
        inbox=nothing,
        outbox=bench.outbox,
        facts=nothing,
        clock=bench.now,
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
    bench.now.s += 290
    broker.pump()
    broker.take(bench.link.answer(bench.link.broker_takes(1)[0]))
    bench.now.s += 290
    broker.pump()
    assert begun == []
    for _ in range(3):
        bench.now.s += 31
        broker.pump()
    assert begun == [True]
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


def test_a_certificate_that_is_missing_for_a_moment_does_not_end_the_daemon(
    bench: Bench, broker: Broker
) -> None:
    begun: list[float] = []

    def start() -> None:
        begun.append(bench.now.s)
        if len(begun) < 3:
            raise ConfigError("mqtt.tls: no such file")

    bench.link.start = start  # type: ignore[method-assign]
    broker.take(Disconnected("network thread", dead=True))
    for _ in range(10):
        bench.now.s += 31
        broker.pump()
    assert len(begun) == 3
