"""A daemon, a proxy that breaks its link, a broker, and a ledger on both sides of the broker.

    daemon -- proxy (ledger `given`: what the broker was handed) -- broker -- consumer (`heard`)

A broker that is killed may lose what it had acknowledged; that is no loss of the daemon's, and only
`given` shows the difference.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import psutil
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent.adapters.storage.journal import SqliteJournal
from agent.core.control.journal import MessageClass, Outgoing
from tests.support.broker import Mosquitto
from tests.support.fleet import DaemonProcess
from tests.support.ledger import Findings, Ledger
from tests.support.mqtt_packets import Kind, Packet
from tests.support.mqtt_proxy import Proxy, Way
from tests.support.polling import until
from tests.support.scene import write_config

DEVICE = "cam-1"
BASE = f"quantd/v1/{DEVICE}"
# Saved each few seconds, not at each change: that takes longer than everything else together.
_KEPT = (
    "persistence true",
    "autosave_interval 3",
    "max_queued_messages 0",
    "max_inflight_messages 20",
)
_POLL_S = 0.05
_QUIET_S = 3.0


class Fleet:
    """The other side: sends commands and keeps the ledger of what it hears, over restarts."""

    def __init__(self, port: int) -> None:
        self.heard = Ledger(BASE)
        self.sent: dict[str, bytes] = {}
        self.answered_s: dict[str, float] = {}  # monotonic time of a command's final answer
        self._client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, client_id="fleet", protocol=mqtt.MQTTv5
        )
        self._client.reconnect_delay_set(1, 1)
        self._client.max_inflight_messages_set(1000)
        self._client.on_connect = lambda client, *_: client.subscribe(f"{BASE}/#", qos=1)
        self._client.on_message = self._hear
        lasting = Properties(PacketTypes.CONNECT)
        lasting.SessionExpiryInterval = 3600
        self._client.connect("127.0.0.1", port, clean_start=False, properties=lasting)
        self._client.loop_start()

    def send(self, command_id: str, body: bytes | dict[str, Any]) -> mqtt.MQTTMessageInfo:
        """Publish a command; it is on its way when this returns."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.sent[command_id] = raw
        return self._client.publish(f"{BASE}/cmd/{command_id}", raw, qos=1)

    def repeat(self, command_id: str) -> None:
        """Publish a command again, with the same id and body."""
        self.send(command_id, self.sent[command_id])

    def unanswered(self) -> list[str]:
        return [command_id for command_id in self.sent if command_id not in self.answered_s]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _hear(self, _client: object, _data: object, message: mqtt.MQTTMessage) -> None:
        if message.retain:
            return  # it was heard, or not, when it was published
        head = self.heard.note(message.topic, message.payload)
        if head is not None and head.cmd_id and self.heard.ended(head.cmd_id):
            self.answered_s.setdefault(head.cmd_id, time.monotonic())


@dataclass
class LinkScene:
    """Everything of one device and its broker. See `link_scene`."""

    directory: Path
    broker: Mosquitto
    proxy: Proxy
    daemon: DaemonProcess
    fleet: Fleet
    given: Ledger = field(default_factory=lambda: Ledger(BASE))
    _ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _subscribed: int = 0  # the newest connection that was

    def __post_init__(self) -> None:
        self.proxy.on_packet = self._note

    @property
    def process(self) -> psutil.Process:
        assert self.daemon.process is not None
        return psutil.Process(self.daemon.process.pid)

    @property
    def log(self) -> str:
        return self.daemon.log.read_text(errors="replace")

    def peak_mb(self) -> float:
        """Return the most memory the daemon had resident, MB of 10^6 bytes."""
        return peak_mb(self.process.pid)

    def online(self, *, after: int = 0, timeout_s: float = 60) -> None:
        """Wait until the daemon has subscribed on a connection above `after`."""
        until(lambda: self._subscribed > after, timeout_s, self.why)

    def ping(self) -> str:
        """Send a ping; return its id."""
        command_id = f"p{next(self._ids)}"
        self.fleet.send(command_id, {"type": "ping"})
        return command_id

    def answered(self, *command_ids: str, timeout_s: float = 60) -> None:
        """Wait until these commands have ended."""
        until(lambda: all(one in self.fleet.answered_s for one in command_ids), timeout_s, self.why)

    def settle(self, timeout_s: float = 240) -> None:
        """Wait until every command has ended and nothing waits; ask for what the broker lost.

        A command is repeated only when the daemon has been quiet, or it would answer each twice.
        """
        deadline_s = time.monotonic() + timeout_s
        quiet_s, messages = time.monotonic(), -1
        while (left := self.fleet.unanswered()) or self.waiting():
            now_s = time.monotonic()
            assert now_s < deadline_s, f"{len(left)} unanswered {left[:5]}\n{self.why()}"
            if messages != self.given.messages:
                quiet_s, messages = now_s, self.given.messages
            if now_s - quiet_s > _QUIET_S and not self.waiting():
                quiet_s = now_s
                for command_id in left:
                    self.fleet.repeat(command_id)
            time.sleep(_POLL_S)

    def prepare(self, count: int, *, stream: str = "event", topic: str = f"{BASE}/event") -> None:
        """Put messages into the outbox of a daemon that does not run."""
        state = self.directory / "state"
        state.mkdir(exist_ok=True)
        with SqliteJournal(str(state / "state.db")) as journal, journal.atomic():
            for _ in range(count):
                number = journal.next(f"seq_{stream}")
                body = {"id": f"{stream}-{number}", "seq": number}
                journal.append(
                    Outgoing(
                        topic=topic,
                        body=json.dumps(body).encode(),
                        message_class=MessageClass.REPORT,
                        stream=stream,
                        number=number,
                        retain=stream == "report",
                    )
                )

    def retained(self, topic: str) -> dict[str, Any]:
        """Return the message that the broker keeps of a topic; empty if it has none."""
        got: list[bytes] = []
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        client.on_connect = lambda *_: client.subscribe(topic, qos=1)
        client.on_message = lambda _c, _d, message: got.append(message.payload)
        client.connect("127.0.0.1", self.broker.port)
        deadline_s = time.monotonic() + 3
        while not got and time.monotonic() < deadline_s:
            client.loop(0.05)
        client.disconnect()
        found: dict[str, Any] = json.loads(got[0]) if got else {}
        return found

    def waiting(self) -> int:
        """Return how many messages wait in the outbox."""
        return int(self._journal("SELECT COUNT(*) FROM outbox WHERE sent_s IS NULL")[0][0])

    def findings(self) -> Findings:
        """Return what the daemon lost or disordered on its way to the broker."""
        counters = dict(self._journal("SELECT name, value FROM counters WHERE name LIKE 'seq_%'"))
        return self.given.findings({name[4:]: value for name, value in counters.items()})

    def why(self) -> str:
        """Return the end of the log, for a test that fails."""
        return self.log[-3000:]

    def _journal(self, sql: str) -> list[tuple[Any, ...]]:
        with contextlib.closing(sqlite3.connect(self.directory / "state" / "state.db")) as db:
            return db.execute(sql).fetchall()

    def _note(self, connection: int, way: Way, packet: Packet, passed: bool) -> None:
        if packet.kind == Kind.SUBACK and passed:
            self._subscribed = connection
        if way == "up" and passed and packet.kind == Kind.PUBLISH:
            self.given.note(packet.topic, packet.payload)


@contextlib.contextmanager
def link_scene(
    directory: Path,
    *lines: str,
    module: str = "tests.support.quick_daemon",
    records: bool = False,
    started: bool = True,
    **tables: dict[str, Any],
) -> Iterator[LinkScene]:
    """Run all parts; unsigned commands are taken unless `tables` asks otherwise.

    Args:
        directory: For files of all of them.
        lines: For mosquitto.conf.
        module: The daemon's; by default one that is quick to connect again.
        records: Whether the proxy keeps every packet.
        started: Whether to start the daemon and wait for it.
        tables: Of quantd.toml.
    """
    tables.setdefault("commands", {"require_signature": False})
    kept = (*_KEPT, f"persistence_location {directory}/")
    with contextlib.ExitStack() as stack:
        broker = Mosquitto(directory, *kept, *lines)
        stack.enter_context(broker)
        proxy = stack.enter_context(Proxy(broker.port, records=records))
        mqtt_table = {"host": "127.0.0.1", "port": proxy.port, **tables.pop("mqtt", {})}
        config = write_config(directory, mqtt=mqtt_table, **tables)
        fleet = Fleet(broker.port)
        stack.callback(fleet.close)
        daemon = DaemonProcess(config, module)
        scene = LinkScene(directory, broker, proxy, daemon, fleet)
        stack.callback(lambda: daemon.__exit__())
        if started:
            daemon.start()
            scene.online()
        yield scene


def peak_mb(pid: int) -> float:
    """Return the most memory a process had resident, MB of 10^6 bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 1e6


FAULTS = ("broker_kill", "daemon_kill", "daemon_stop", "reset", "acks_cut", "hole", "half_open")


def break_link(scene: LinkScene, kind: str, source: random.Random) -> None:
    """Do one fault and mend it; the link comes back by itself."""
    pause_s = source.uniform(0.0, 1.0)
    before = scene.proxy.connections
    if kind == "broker_kill":
        scene.broker.kill()
        time.sleep(pause_s)
        scene.broker.start()
    elif kind == "daemon_kill":
        scene.daemon.kill()
        scene.daemon.start()
    elif kind == "daemon_stop":
        assert scene.daemon.stop() == 0, scene.why()
        scene.daemon.start()
    elif kind == "reset":
        scene.proxy.reset()
    elif kind == "acks_cut":
        scene.proxy.drop("down" if source.random() < 0.5 else "up", Kind.PUBACK)
        time.sleep(pause_s)
        scene.proxy.heal()
    elif kind == "hole":
        scene.proxy.black_hole()
        time.sleep(pause_s)
        scene.proxy.heal()
    else:
        scene.proxy.half_open()
        time.sleep(pause_s)
        scene.proxy.heal()
    scene.online(after=before)
