"""Durable throughput beside bare paho: QoS 1, the same window, taking turns in one process."""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from pathlib import Path

import paho.mqtt.client as mqtt

from agent.adapters.host.clock import SystemClock
from agent.adapters.mqtt.link import MqttLink
from agent.adapters.storage.journal import SqliteJournal
from agent.config import Mqtt
from agent.core.control.journal import MessageClass, Outgoing
from agent.core.control.link import Acked, Connected
from agent.daemon.mailbox import Mailbox
from agent.daemon.outbox import IN_FLIGHT, Outbox
from tests.benchmarks.rows import Row
from tests.support.broker import Mosquitto
from tests.support.mqtt_parties import QUICK, TOPICS

_ROUNDS = 41
_RANK = 13  # of the ends of the interval: 97 % for the median of 41, by the binomial
_COUNT = 1_000
_BODY = b"x" * 300  # about what an answer has
_GOAL = 0.5


def rows() -> list[Row]:
    """Return the ratio of the outbox to bare paho."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with (
            Mosquitto(directory, "max_queued_messages 0") as broker,
            SqliteJournal(str(directory / "state.db")) as journal,
        ):
            durable, bare = _Durable(journal, broker.port), _Bare(broker.port)
            durable.block(), bare.block()  # the first of each is for warming up
            pairs = [(durable.block(), bare.block()) for _ in range(_ROUNDS)]
            durable.close(), bare.close()
    ratios = sorted(ours / theirs for ours, theirs in pairs)
    low, high = ratios[_RANK], ratios[-1 - _RANK]
    middle = statistics.median(ratios)
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    return [
        Row(
            what=f"durable throughput over bare paho, QoS 1, {IN_FLIGHT} in flight",
            goal=f"at least {_GOAL}",
            found=f"{middle:.2f} ({low:.2f} to {high:.2f}): {ours:,.0f} of {theirs:,.0f} messages/s",
            met=middle >= _GOAL,
            detail={"ratios": ratios},
        )
    ]


class _Durable:
    """The outbox over its journal and the real link, driven as the daemon's loop does."""

    def __init__(self, journal: SqliteJournal, port: int) -> None:
        self._journal = journal
        self._mailbox = Mailbox()
        self._link = MqttLink(
            Mqtt(host="127.0.0.1", port=port),
            TOPICS,
            post=self._mailbox.put,
            next_session=lambda: journal.next("session"),
            will=lambda _: b"{}",
            crowded=lambda: self._mailbox.full,
            patience=QUICK,
        )
        self._outbox = Outbox(journal, self._link, SystemClock(), lambda *_: None)
        self._number = 0
        self._link.start()
        while not isinstance(event := self._mailbox.get(30), Connected):
            pass
        self._outbox.connected(event)

    def block(self) -> float:
        """Store messages, then send them; return how many per second were sent."""
        with self._journal.atomic():
            for _ in range(_COUNT):
                self._number += 1
                self._journal.append(
                    Outgoing(
                        topic=TOPICS.event,
                        body=_BODY,
                        message_class=MessageClass.RESULT,
                        stream="result",
                        number=self._number,
                    )
                )
        begin, left = time.perf_counter(), _COUNT
        self._outbox.pump()
        while left:
            event = self._mailbox.get(30)
            if isinstance(event, Acked):
                self._outbox.acked(event)
                left -= 1
            if not self._mailbox.acks_wait:
                self._outbox.pump()
        spent_s = time.perf_counter() - begin
        assert self._journal.counts().waiting == 0
        return _COUNT / spent_s

    def close(self) -> None:
        self._link.stop(TOPICS.state, b"{}")


class _Bare:
    """paho with its own thread, its queue in memory."""

    def __init__(self, port: int) -> None:
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self._client.max_inflight_messages_set(IN_FLIGHT)
        self._all = threading.Event()
        self._left = 0
        self._client.on_publish = self._published
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def block(self) -> float:
        """Publish messages; return how many per second were acknowledged."""
        self._all.clear()
        begin, self._left = time.perf_counter(), _COUNT
        for _ in range(_COUNT):
            self._client.publish("bare", _BODY, qos=1)
        assert self._all.wait(60)
        return _COUNT / (time.perf_counter() - begin)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _published(self, *_: object) -> None:
        self._left -= 1
        if not self._left:
            self._all.set()
