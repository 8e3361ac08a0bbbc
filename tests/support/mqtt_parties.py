"""The two ends of a conversation over a real broker: a device, and a console that listens."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent.adapters.host.clock import SystemClock
from agent.adapters.mqtt.link import MqttLink, Patience
from agent.adapters.storage.journal import SqliteJournal
from agent.config import Mqtt
from agent.core.control.journal import MessageClass, Outgoing
from agent.core.control.link import Acked, Connected, Disconnected, LinkEvent
from agent.daemon.mailbox import Mailbox
from agent.daemon.outbox import Outbox
from agent.wire.topics import Topics

TOPICS = Topics("quantd", "cam-1")
QUICK = Patience(
    first_delay_s=(0.1, 0.2),
    longest_delay_s=(0.3, 0.4),
    keepalive_s=5,
    will_delay_s=0,
    subscribe_s=0.2,
)


class Device:
    """A link, an outbox and a mailbox, driven by the test as the daemon's loop would."""

    def __init__(
        self, journal: SqliteJournal, port: int, *, patience: Patience = QUICK, **settings: Any
    ) -> None:
        self.mailbox = Mailbox()
        self.journal = journal
        self.link = MqttLink(
            Mqtt(host="127.0.0.1", port=port, **settings),
            TOPICS,
            post=self.mailbox.put,
            next_session=lambda: journal.next("session"),
            will=lambda session: json.dumps({"status": "offline", "sess": session}).encode(),
            crowded=lambda: self.mailbox.full,
            patience=patience,
        )
        self.announced: list[tuple[str, dict[str, Any]]] = []
        self.outbox = Outbox(
            journal,
            self.link,
            SystemClock(),
            lambda kind, facts: self.announced.append((kind, dict(facts))),
        )
        self.events: list[LinkEvent] = []

    def run(self, until: Callable[[], bool], timeout_s: float = 20) -> None:
        deadline = time.monotonic() + timeout_s
        while not until():
            assert time.monotonic() < deadline, self.events[-20:]
            try:
                event = self.mailbox.get(0.05)
            except queue.Empty:
                self.outbox.pump()
                continue
            self.events.append(event)
            if isinstance(event, Connected):
                self.outbox.connected(event)
            elif isinstance(event, Disconnected):
                self.outbox.disconnected(event)
            elif isinstance(event, Acked):
                self.outbox.acked(event)
            self.outbox.pump()

    def saw(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def connect(self) -> Connected:
        """Start the link and return once the broker has answered the subscription too."""
        self.link.start()
        self.run(lambda: bool(self.saw(Connected)))
        connected: Connected = self.saw(Connected)[-1]
        return connected

    def put(self, number: int, size: int = 20, topic: str = TOPICS.event) -> None:
        self.journal.append(
            Outgoing(
                topic=topic,
                body=f"{number}".encode().ljust(size),
                message_class=MessageClass.REPORT,
                stream="report",
                number=number,
            )
        )

    def idle(self) -> bool:
        return self.journal.counts().waiting == 0

    def vanish(self) -> None:
        """End as a killed process does: no farewell, nothing acknowledged."""
        client, thread = self.link._client, self.link._thread
        assert client is not None
        assert thread is not None
        self.link._stopping.set()
        client.leave()
        thread.join(10)


class Console:
    """A client subscribed to everything, with a session of its own."""

    def __init__(self, port: int, **credentials: str) -> None:
        self.got: list[tuple[str, bytes, bool]] = []
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, client_id="console", protocol=mqtt.MQTTv5
        )
        self.client.reconnect_delay_set(1, 1)
        subscribed = threading.Event()
        self.client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self.client.on_subscribe = lambda *_: subscribed.set()
        self.client.on_message = lambda _c, _d, m: self.got.append(
            (m.topic, bytes(m.payload), bool(m.retain))
        )
        if credentials:
            self.client.username_pw_set(**credentials)
        wishes = Properties(PacketTypes.CONNECT)
        wishes.SessionExpiryInterval = 3600
        self.client.connect("127.0.0.1", port, clean_start=False, properties=wishes)
        self.client.loop_start()
        assert subscribed.wait(10)

    def numbers(self) -> list[int]:
        return [int(body) for topic, body, _ in self.got if topic == TOPICS.event]

    def states(self) -> list[dict[str, Any]]:
        return [json.loads(body) for topic, body, _ in self.got if topic == TOPICS.state]

    def command(self, body: bytes, name: str = "c1", *, retain: bool = False) -> None:
        sent = self.client.publish(f"quantd/v1/cam-1/cmd/{name}", body, qos=1, retain=retain)
        sent.wait_for_publish(10)

    def wait(self, until: Callable[[], bool], timeout_s: float = 20) -> None:
        deadline = time.monotonic() + timeout_s
        while not until():
            assert time.monotonic() < deadline, self.got[-10:]
            time.sleep(0.02)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()
