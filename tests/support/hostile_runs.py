"""Runs of hostile input against the daemon's parts, and against a whole one."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from agent import config as configuration
from agent.core.control.command import Rejection
from agent.core.control.link import CommandArrived
from agent.core.control.token_bucket import TokenBucket
from agent.wiring import daemon as wiring
from tests.fakes.link import FakeLink
from tests.support import hostile
from tests.support.broker import Mosquitto
from tests.support.fleet import DaemonProcess
from tests.support.flood import sign
from tests.support.keys import KEY_ID, make_key
from tests.support.link_scene import Fleet, peak_mb
from tests.support.polling import until
from tests.support.scene import write_config

_RENEW = 50  # commands between two sets of key files
_BATCH = 10


def commands_survived(directory: Path, *, seed: int, cases: int) -> Counter[str]:
    """Give hostile commands to a composed daemon; return how many ended with which code.

    "Command" counts those that were accepted, "NoneType" repeats and topics that name no command.
    """
    source = random.Random(seed)
    keys = directory / "keys"
    key = make_key(keys)
    good = (keys / f"{KEY_ID}.pem").read_bytes()
    config = configuration.from_dump(
        {
            "device": {"id": "cam-1"},
            "storage": {"dir": str(directory / "state")},
            "mqtt": {"host": "127.0.0.1", "port": 1},
            "commands": {"keys_dir": str(keys), "require_signature": seed % 2 == 0},
        }
    )
    (directory / "state").mkdir(exist_ok=True)
    with mock.patch.object(wiring, "MqttLink", return_value=FakeLink()):
        made = wiring.daemon(config)
    made.journal._db._db.execute("PRAGMA synchronous = OFF")
    inbox = made.outward.inbox
    inbox._strangers = inbox._signers = TokenBucket(burst=2 * cases, per_s=1.0)  # answer them all
    codes: Counter[str] = Counter()
    token = sign(key, "c1", "ping")
    for start in range(0, cases, _BATCH):
        if start % _RENEW == 0:
            hostile.key_files(source, keys, good)
        arrived = [_arrived(source, token, start + n) for n in range(_BATCH)]
        for one in arrived:  # what one of them asks for decides nothing about the others
            found = inbox.admit(one)
            codes[found.code if isinstance(found, Rejection) else type(found).__name__] += 1
        made.outward.admit(arrived)
    made.journal.close()
    return codes


def _arrived(source: random.Random, token: bytes, number: int) -> CommandArrived:
    make: Callable[[], bytes] = lambda: hostile.command(source)  # noqa: E731
    if source.random() < 0.5:
        make = lambda: hostile.token(source, token)  # noqa: E731
    return CommandArrived(hostile.topic(source), make(), source.random() < 0.1, number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Survived:
    """What was left of a daemon after a hostile broker.

    Attributes:
        packets: How many it was sent.
        connections: Over how many connections.
        answered: Whether the same process answered a ping on a good broker afterwards.
        peak_mb: The most memory it had.
    """

    packets: int
    connections: int
    answered: bool
    peak_mb: float


def daemon_survived(directory: Path, *, seed: int, packets: int, **tables: Any) -> Survived:
    """Let a hostile broker send packets to a daemon, then put a good one in its place."""
    broker = hostile.HostileBroker(seed)
    mqtt_table = {"host": "127.0.0.1", "port": broker.port}
    tables.setdefault("commands", {"require_signature": False})
    config = write_config(directory, mqtt=mqtt_table, **tables)
    module = "tests.support.quick_daemon"
    with DaemonProcess(config, module, QUANTD_TEST_DELAY_S="0.01") as daemon:

        def why() -> str:
            log = daemon.log.read_text(errors="replace")
            return f"seed {seed}, {broker.sent} packets\n{log[-3000:]}"

        def alive() -> bool:
            assert daemon.process is not None
            assert daemon.process.poll() is None, why()
            return True

        until(lambda: alive() and broker.sent >= packets, 60 + packets / 5, why)
        broker.close()
        with Mosquitto(directory, port=broker.port):
            fleet = Fleet(broker.port)
            for number in range(100):
                fleet.send(f"after{number}", {"type": "ping"})
                time.sleep(0.2)
                alive()
                if fleet.answered_s:
                    break
            until(lambda: alive() and fleet.answered_s, 60, why)
            fleet.close()
        assert daemon.process is not None
        log = daemon.log.read_text(errors="replace")
        assert "Traceback" not in log, why()
        return Survived(
            packets=broker.sent,
            connections=broker.connections,
            answered=bool(fleet.answered_s),
            peak_mb=peak_mb(daemon.process.pid),
        )
