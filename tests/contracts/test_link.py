"""The MQTT link, with the outbox on top, against a real broker.

Mosquitto where it is installed. Without it rumqttd, which pip brings, but for the tests that ask
for `mosquitto`: its sessions end with it, it knows no lists of who may what, it sends no will of
a client that vanished, and stops to deliver QoS 0 to a client that has to acknowledge.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest

from agent.adapters.mqtt.link import Patience
from agent.adapters.storage.journal import SqliteJournal
from agent.config import Mqtt, Tls
from agent.core.control.link import Acked, CommandArrived, Connected, Disconnected, Subscribed
from agent.daemon.mailbox import Mailbox
from tests.support.broker import Broker, Mosquitto, any_broker, free_port, with_password
from tests.support.mqtt_parties import QUICK, TOPICS, Console, Device
from tests.support.parts import missing_part
from tests.support.scripted_broker import (
    CONNECT,
    PINGREQ,
    PUBLISH,
    SUBSCRIBE,
    ScriptedBroker,
    accepted,
    length,
    puback,
    publish,
    suback,
)

pytestmark = pytest.mark.slow
KEPT = (
    "persistence true",
    "autosave_on_changes true",
    "autosave_interval 1",
    "max_queued_messages 100000",
)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    kept = (*KEPT, f"persistence_location {tmp_path}/")
    with any_broker(tmp_path, *kept) as running:
        yield running


@pytest.fixture
def mosquitto(broker: Broker) -> Broker:
    if not isinstance(broker, Mosquitto):
        missing_part("mosquitto", "apt install mosquitto")
    return broker


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[SqliteJournal]:
    with SqliteJournal(str(tmp_path / "state.db")) as opened:
        yield opened


@pytest.fixture
def device(broker: Broker, journal: SqliteJournal) -> Iterator[Device]:
    made = Device(journal, broker.port)
    yield made
    made.link.stop(TOPICS.state, b"{}")


@pytest.fixture
def console(broker: Broker) -> Iterator[Console]:
    made = Console(broker.port)
    yield made
    made.close()


def test_what_was_put_while_offline_arrives_in_order(device: Device, console: Console) -> None:
    for number in range(200):
        device.put(number)
    device.connect()
    device.run(device.idle)
    console.wait(lambda: len(console.numbers()) >= 200)
    assert console.numbers() == list(range(200))


def test_killing_the_broker_loses_nothing(
    device: Device, broker: Broker, journal: SqliteJournal
) -> None:
    console = Console(broker.port)
    device.connect()
    made = 0
    for round_number in range(3):
        for _ in range(100):
            device.put(made)
            made += 1
        if round_number < 2:
            device.run(lambda: bool(device.saw(Acked)))
            broker.kill()
            device.run(lambda: isinstance(device.events[-1], Disconnected))
            broker.start()
            # The console's own session is not under test: it must be there to see the rest.
            console.wait(console.client.is_connected)
    device.run(device.idle, 30)
    console.wait(lambda: bool(console.numbers()) and console.numbers()[-1] == made - 1)
    console.close()
    first = list(dict.fromkeys(console.numbers()))
    assert first == sorted(first)
    assert len(device.saw(Acked)) >= made  # every one was acknowledged at some time
    assert journal.counts().parked == 0


def test_a_killed_device_sends_the_rest_after_its_restart(
    broker: Broker, journal: SqliteJournal, console: Console
) -> None:
    first = Device(journal, broker.port)
    first.connect()
    for number in range(300):
        first.put(number)
    first.run(lambda: len(first.saw(Acked)) >= 40)
    first.vanish()
    second = Device(journal, broker.port)
    second.connect()
    second.run(second.idle)
    console.wait(lambda: len(set(console.numbers())) == 300)
    second.link.stop(TOPICS.state, b"{}")
    seen = list(dict.fromkeys(console.numbers()))
    assert seen == list(range(300))
    assert len(console.numbers()) <= 320  # doubles are bounded by what was in flight


def test_the_will_reports_a_death_with_its_session(
    mosquitto: Broker, journal: SqliteJournal, console: Console
) -> None:
    first = Device(journal, mosquitto.port)
    session = first.connect().session
    first.vanish()
    console.wait(lambda: bool(console.states()))
    assert console.states() == [{"status": "offline", "sess": session}]
    second = Device(journal, mosquitto.port)
    assert second.connect().session > session
    second.link.stop(TOPICS.state, b'{"status":"shutdown"}')
    console.wait(lambda: len(console.states()) == 2)
    time.sleep(0.3)  # a will that came now would be wrong
    assert console.states()[1:] == [{"status": "shutdown"}]
    late = Console(mosquitto.port)
    late.wait(lambda: bool(late.got))
    assert (TOPICS.state, b'{"status":"shutdown"}', True) in late.got
    late.close()


def test_a_short_loss_does_not_show_with_a_will_delay(
    broker: Broker, journal: SqliteJournal, console: Console
) -> None:
    patient = Patience(first_delay_s=(0.1, 0.1), longest_delay_s=(0.1, 0.1), will_delay_s=2)
    first = Device(journal, broker.port, patience=patient)
    first.connect()
    first.vanish()
    second = Device(journal, broker.port, patience=patient)
    assert second.connect().session_present
    time.sleep(2.5)
    assert console.states() == []
    second.link.stop(TOPICS.state, b"{}")


def test_each_connection_has_a_greater_session(device: Device, broker: Broker) -> None:
    device.connect()
    broker.stop()
    device.run(lambda: bool(device.saw(Disconnected)))
    broker.start()
    device.run(lambda: len(device.saw(Connected)) == 2)
    before, after = device.saw(Connected)
    assert after.session > before.session


def test_without_a_broker_it_retries_and_reports_why(journal: SqliteJournal) -> None:
    device = Device(journal, free_port())
    device.link.start()
    device.put(1)
    device.run(lambda: len(device.saw(Disconnected)) >= 2)
    assert "refused" in device.saw(Disconnected)[0].reason
    before = time.monotonic()
    device.link.stop(TOPICS.state, b"{}")
    assert time.monotonic() - before < 4
    assert journal.counts().waiting == 1


def test_bad_credentials_are_an_event_and_good_ones_help_without_a_restart(
    tmp_path: Path, journal: SqliteJournal
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("wrong\n")
    with with_password(tmp_path, "cam", "right") as broker:
        device = Device(journal, broker.port, username="cam", password_file=str(secret))
        device.link.start()
        device.run(lambda: len(device.saw(Disconnected)) >= 2)
        if isinstance(broker, Mosquitto):  # rumqttd only hangs up
            refused = next(event for event in device.saw(Disconnected) if event.code is not None)
            assert refused.code == 0x87
            assert "Not authorized" in refused.reason
        secret.write_text("right\n")
        device.run(lambda: bool(device.saw(Connected)))
        device.link.stop(TOPICS.state, b"{}")


def test_a_password_file_that_is_missing_is_reported(
    broker: Broker, journal: SqliteJournal, tmp_path: Path
) -> None:
    device = Device(journal, broker.port, username="a", password_file=str(tmp_path / "none"))
    device.link.start()
    device.run(lambda: bool(device.saw(Disconnected)))
    assert "password_file" in device.saw(Disconnected)[0].reason
    device.link.stop(TOPICS.state, b"{}")


@pytest.mark.parametrize("limit", ["max_packet_size 2000", "message_size_limit 2000"])
def test_an_oversized_message_is_parked_and_the_rest_arrives(
    tmp_path: Path, journal: SqliteJournal, limit: str
) -> None:
    """One limit is announced by the broker, of the other it only drops the link."""
    with Mosquitto(tmp_path, limit) as broker:
        console = Console(broker.port)
        device = Device(journal, broker.port)
        for number in range(30):
            device.put(number, size=3000 if number == 12 else 20)
        device.connect()
        device.run(device.idle, 40)
        console.wait(lambda: 29 in console.numbers())
        device.link.stop(TOPICS.state, b"{}")
        console.close()
    assert sorted(set(console.numbers())) == [n for n in range(30) if n != 12]
    assert [facts["seq"] for _, facts in device.announced] == [12]


def test_a_denied_topic_is_parked_and_a_denied_subscription_is_an_event(
    tmp_path: Path, journal: SqliteJournal
) -> None:
    acl = tmp_path / "acl"
    acl.write_text(f"topic write {TOPICS.event}\n")
    acl.chmod(0o600)
    with Mosquitto(tmp_path, f"acl_file {acl}") as broker:
        device = Device(journal, broker.port)
        device.put(1, topic=TOPICS.telemetry)
        device.put(2)
        device.connect()
        device.run(device.idle)
        device.link.stop(TOPICS.state, b"{}")
    assert [facts["reason"] for _, facts in device.announced] == ["denied"]
    codes = [event.code for event in device.saw(Acked)]
    assert codes == [0x87, 0x10]  # the second has no subscriber
    assert device.outbox.unheard == 1


def test_a_command_that_was_not_acknowledged_comes_again(
    broker: Broker, journal: SqliteJournal, console: Console
) -> None:
    first = Device(journal, broker.port)
    first.connect()
    console.command(b"do it")
    first.run(lambda: bool(first.saw(CommandArrived)))
    first.vanish()  # it was never acknowledged
    second = Device(journal, broker.port)
    assert second.connect().session_present
    second.run(lambda: bool(second.saw(CommandArrived)))
    (again,) = second.saw(CommandArrived)
    assert (again.topic, again.body, again.retain) == ("quantd/v1/cam-1/cmd/c1", b"do it", False)
    second.link.acknowledge(again.message)
    time.sleep(0.3)
    second.vanish()
    third = Device(journal, broker.port)
    third.connect()
    console.command(b"next", "c2")
    third.run(lambda: bool(third.saw(CommandArrived)))
    assert [event.body for event in third.saw(CommandArrived)] == [b"next"]
    third.link.stop(TOPICS.state, b"{}")


def test_commands_wait_while_the_device_is_away_and_more_come_than_may_be_unacknowledged(
    broker: Broker, journal: SqliteJournal, console: Console
) -> None:
    first = Device(journal, broker.port)
    first.connect()
    first.link.stop(TOPICS.state, b"{}")
    for number in range(50):
        console.command(b"%d" % number, f"c{number}")
    second = Device(journal, broker.port)
    second.connect()
    taken = 0
    while taken < 50:
        second.run(lambda known=taken: len(second.saw(CommandArrived)) > known)
        for event in second.saw(CommandArrived)[taken:]:
            second.link.acknowledge(event.message)
            taken += 1
    assert [int(event.body) for event in second.saw(CommandArrived)] == list(range(50))
    second.link.stop(TOPICS.state, b"{}")


def test_an_old_connection_s_command_is_not_acknowledged_on_the_new_one(
    device: Device, mosquitto: Broker, console: Console
) -> None:
    device.connect()
    console.command(b"one")
    device.run(lambda: bool(device.saw(CommandArrived)))
    old = device.saw(CommandArrived)[0].message
    mosquitto.stop()
    device.run(lambda: bool(device.saw(Disconnected)))
    mosquitto.start()
    device.run(lambda: len(device.saw(CommandArrived)) == 2)
    again = device.saw(CommandArrived)[1]
    assert again.body == b"one"
    assert again.message != old
    device.link.acknowledge(old)
    device.link.acknowledge(again.message)


def test_a_retained_command_shows_as_such(device: Device, console: Console) -> None:
    console.command(b"old", retain=True)
    device.connect()
    device.run(lambda: bool(device.saw(CommandArrived)))
    assert device.saw(CommandArrived)[0].retain


def test_a_command_retained_while_the_device_is_subscribed_shows_as_such(
    device: Device, console: Console
) -> None:
    device.connect()
    console.command(b"live", retain=True)
    console.command(b"next", "c2")
    device.run(lambda: len(device.saw(CommandArrived)) == 2)
    assert [event.retain for event in device.saw(CommandArrived)] == [True, False]


def test_a_command_retained_while_the_device_is_away_shows_as_such(
    broker: Broker, journal: SqliteJournal, console: Console
) -> None:
    first = Device(journal, broker.port)
    first.connect()
    first.link.stop(TOPICS.state, b"{}")
    console.command(b"away", retain=True)
    second = Device(journal, broker.port)
    second.connect()
    console.command(b"next", "c2")
    second.run(lambda: any(event.body == b"next" for event in second.saw(CommandArrived)))
    assert [(event.body, event.retain) for event in second.saw(CommandArrived)] == [
        (b"away", True), (b"next", False),
    ]  # fmt: skip
    second.link.stop(TOPICS.state, b"{}")


def test_an_error_in_the_network_thread_is_an_event_and_the_link_connects_again(
    device: Device,
) -> None:
    device.connect()
    client = device.link._client
    assert client is not None

    def fail(*_: object) -> None:
        raise RuntimeError("boom")

    client.on_publish = fail
    device.put(1)
    device.run(lambda: any("boom" in event.reason for event in device.saw(Disconnected)))
    device.run(device.idle)


# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_tls_verifies_the_broker_s_name(tmp_path: Path, journal: SqliteJournal) -> None:
    for name in ("localhost", "elsewhere"):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-days", "2", "-keyout", str(tmp_path / f"{name}.key"),
             "-out", str(tmp_path / f"{name}.crt"), "-subj", f"/CN={name}",
             "-addext", f"subjectAltName=DNS:{name}"],
            check=True, capture_output=True,
        )  # fmt: skip
    for name, good in (("localhost", True), ("elsewhere", False)):
        lines = [f"certfile {tmp_path}/{name}.crt", f"keyfile {tmp_path}/{name}.key"]
        with Mosquitto(tmp_path, *lines) as broker:
            device = Device(journal, broker.port, tls=Tls(ca=str(tmp_path / f"{name}.crt")))
            device.link.settings = Mqtt(
                host="localhost", port=broker.port, tls=device.link.settings.tls
            )
            device.link.start()
            device.run(lambda d=device: bool(d.saw(Connected) or d.saw(Disconnected)))
            device.link.stop(TOPICS.state, b"{}")
            assert bool(device.saw(Connected)) is good, device.events
            if not good:
                assert "Hostname mismatch" in device.saw(Disconnected)[0].reason


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """Return a folder with two authorities, the broker's certificate, and two of the device."""
    for name, issuer in (
        ("ca", ""), ("other", ""), ("localhost", "ca"), ("good", "ca"), ("bad", "other"),
    ):  # fmt: skip
        signed = ["-CA", f"{issuer}.crt", "-CAkey", f"{issuer}.key"] if issuer else []
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-days", "2", "-keyout", f"{name}.key", "-out", f"{name}.crt",
             "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", *signed],
            check=True, capture_output=True, cwd=tmp_path,
        )  # fmt: skip
    return tmp_path


def secured(journal: SqliteJournal, port: int, folder: Path) -> Device:
    """Return a device that knows the broker by its name, and shows a certificate of its own."""
    tls = Tls(ca=str(folder / "ca.crt"), cert=str(folder / "own.crt"), key=str(folder / "own.key"))
    device = Device(journal, port, tls=tls)
    device.link.settings = Mqtt(host="localhost", port=port, tls=tls)
    return device


def copy_certificate(folder: Path, name: str) -> None:
    for suffix in ("key", "crt"):
        shutil.copy(folder / f"{name}.{suffix}", folder / f"own.{suffix}")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_certificate_is_read_at_each_connection_and_waited_for(
    certificates: Path, journal: SqliteJournal
) -> None:
    """Missing, then one that the broker refuses, then a renewed one: without a restart."""
    folder = certificates
    lines = [f"cafile {folder}/ca.crt", f"certfile {folder}/localhost.crt"]
    lines += [f"keyfile {folder}/localhost.key", "require_certificate true"]
    with Mosquitto(folder, *lines) as broker:
        device = secured(journal, broker.port, folder)
        device.link.start()
        device.run(lambda: len(device.saw(Disconnected)) >= 2)
        missing = device.saw(Disconnected)[0]
        assert missing.cause == "credentials_unusable"
        assert "own.crt" in missing.reason
        copy_certificate(folder, "bad")
        device.run(lambda: any(e.cause == "certificate_refused" for e in device.saw(Disconnected)))
        assert "mqtt.tls.cert" in device.saw(Disconnected)[-1].reason
        copy_certificate(folder, "good")
        device.run(lambda: bool(device.saw(Connected)))
        device.link.stop(TOPICS.state, b"{}")


def test_a_client_with_the_same_id_is_an_event_and_the_pauses_grow(
    device: Device, mosquitto: Broker
) -> None:
    """This mosquitto closes the connection without a reason."""
    device.connect()
    for taken in range(1, 5):
        thief = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, client_id=TOPICS.device, protocol=mqtt.MQTTv5
        )
        thief.connect("127.0.0.1", mosquitto.port)
        thief.loop_start()
        device.run(lambda n=taken: len(device.saw(Connected)) == n + 1)
        thief.disconnect()
        thief.loop_stop()
    causes = [event.cause for event in device.saw(Disconnected)]
    assert causes == ["", "", "session_taken_over", "session_taken_over"]
    assert "may use the id cam-1" in device.saw(Disconnected)[-1].reason


def test_a_broker_that_is_killed_again_and_again_is_no_thief(
    device: Device, mosquitto: Broker
) -> None:
    device.connect()
    for killed in range(1, 5):
        mosquitto.kill()
        device.run(lambda: "refused" in str(device.saw(Disconnected)[-1:]))
        mosquitto.start()
        device.run(lambda n=killed: len(device.saw(Connected)) == n + 1)
    assert {event.cause for event in device.saw(Disconnected)} == {""}


def test_a_broker_that_names_a_take_over_is_believed_at_once(journal: SqliteJournal) -> None:
    def answer(peer: socket.socket, kind: int, packet: bytes) -> None:
        best(peer, kind, packet)
        if kind == SUBSCRIBE:
            peer.sendall(b"\xe0\x02\x8e\x00")

    with ScriptedBroker(answer) as broker:
        device = Device(journal, broker.port)
        device.link.start()
        begun_s = time.monotonic()
        device.run(lambda: len(device.saw(Disconnected)) == 5)
        device.link.stop(TOPICS.state, b"{}")
    assert {(e.code, e.cause) for e in device.saw(Disconnected)} == {(0x8E, "session_taken_over")}
    assert time.monotonic() - begun_s > 0.9  # 0.1, 0.2, 0.3 and 0.3 s at least


def test_more_descriptors_than_select_knows_are_no_reason_not_to_connect(
    broker: Broker, journal: SqliteJournal
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    with contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for _ in range(1100):
            stack.enter_context(Path(os.devnull).open("rb"))
        device = Device(journal, broker.port)
        device.put(1)
        device.connect()
        device.run(device.idle)
        device.link.stop(TOPICS.state, b"{}")


def test_what_the_mailbox_can_not_take_waits_in_the_socket(
    device: Device, mosquitto: Broker, console: Console
) -> None:
    """Nothing is taken out for a while; keepalive and what is sent go on all the same."""
    device.mailbox = Mailbox(limit_bytes=500_000)
    device.link.post, device.link.crowded = device.mailbox.put, lambda: device.mailbox.full
    device.connect()
    for number in range(200):
        console.client.publish(f"quantd/v1/cam-1/cmd/f{number}", b"x" * 100_000, qos=0)
    console.wait(lambda: device.mailbox.full)
    device.put(1)
    device.outbox.pump()
    console.wait(lambda: console.numbers() == [1])
    waiting = device.mailbox.commands(1000)
    assert len(waiting) < 10
    console.command(b"last", "last")
    device.run(lambda: any(e.topic.endswith("/last") for e in device.saw(CommandArrived)))
    assert not device.saw(Disconnected)


def best(peer: socket.socket, kind: int, packet: bytes) -> None:
    """Answer as a broker should."""
    if kind == CONNECT:
        peer.sendall(accepted())
    elif kind == SUBSCRIBE:
        peer.sendall(suback(packet))
    elif kind == PUBLISH:
        peer.sendall(puback(packet))
    elif kind == PINGREQ:
        peer.sendall(b"\xd0\x00")


def test_a_refused_subscription_is_known_at_once_and_asked_for_again(
    journal: SqliteJournal,
) -> None:
    asked = []

    def answer(peer: socket.socket, kind: int, packet: bytes) -> None:
        if kind == SUBSCRIBE:
            asked.append(packet)
            peer.sendall(suback(packet, 0x87 if len(asked) < 3 else 1))
        else:
            best(peer, kind, packet)

    with ScriptedBroker(answer) as broker:
        device = Device(journal, broker.port)
        assert device.connect().refused == "Not authorized"
        device.run(lambda: bool(device.saw(Subscribed)))
        device.link.stop(TOPICS.state, b"{}")
    assert len(asked) == 3
    assert len(device.saw(Connected)) == 1


def test_no_more_is_in_flight_than_the_broker_receives(journal: SqliteJournal) -> None:
    most, waiting = [], []

    def answer(peer: socket.socket, kind: int, packet: bytes) -> None:
        if kind == CONNECT:
            peer.sendall(accepted(b"\x21\x00\x03"))  # Receive Maximum 3
        elif kind == PUBLISH:
            waiting.append(packet)
            most.append(len(waiting))
            if len(waiting) == 3:
                time.sleep(0.05)  # for a fourth, if one came
                peer.sendall(b"".join(puback(one) for one in waiting))
                waiting.clear()
        else:
            best(peer, kind, packet)

    with ScriptedBroker(answer) as broker:
        device = Device(journal, broker.port)
        for number in range(12):
            device.put(number)
        device.connect()
        device.run(device.idle)
        device.link.stop(TOPICS.state, b"{}")
    assert max(most[:12]) == 3


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"\x32" + length(200_000_000) + b"x" * 3_000_000, "200000000 bytes, 262144 is the limit"),
        (publish("quantd/v1/cam-1/cmd/c1", b"x", 1, qos=2), "QoS 2"),
        (b"\x90\x01\x00", ""),  # a SUBACK that is too short
        (b"\x20\x00", ""),
        (b"\x00" * 10, ""),
        (publish("\ud800", b"x", 1) if False else b"\x32\x05\x00\x63abc", ""),
    ],
)
def test_a_hostile_packet_ends_the_connection_and_nothing_else(
    journal: SqliteJournal, sent: bytes, reason: str
) -> None:
    hostile = [True]

    def answer(peer: socket.socket, kind: int, packet: bytes) -> None:
        best(peer, kind, packet)
        if kind == SUBSCRIBE and hostile.pop():
            hostile.append(False)
            peer.sendall(sent)

    with ScriptedBroker(answer) as broker:
        device = Device(journal, broker.port)
        device.connect()
        device.put(1)
        device.run(lambda: len(device.saw(Connected)) == 2)
        device.run(device.idle)
        device.link.stop(TOPICS.state, b"{}")
    (lost,) = device.saw(Disconnected)
    assert reason in lost.reason
    assert bool(reason) is (lost.cause == "packet_refused")


def test_a_broker_that_never_answers_the_subscription_is_left(journal: SqliteJournal) -> None:
    def answer(peer: socket.socket, kind: int, packet: bytes) -> None:
        if kind != SUBSCRIBE:
            best(peer, kind, packet)

    with ScriptedBroker(answer) as broker:
        device = Device(journal, broker.port, patience=replace(QUICK, keepalive_s=1))
        device.link.start()
        device.run(lambda: bool(device.saw(Disconnected)))
        assert "subscription" in device.saw(Disconnected)[0].reason
        device.link.stop(TOPICS.state, b"{}")


def test_a_topic_that_is_no_text_is_of_no_command(journal: SqliteJournal) -> None:
    name = b"quantd/v1/cam-1/cmd/\xff\xfe"
    rest = len(name).to_bytes(2, "big") + name + b"\x00\x01\x00body"

    def answer(peer: socket.socket, kind: int, packet: bytes) -> None:
        best(peer, kind, packet)
        if kind == SUBSCRIBE:
            peer.sendall(b"\x32" + length(len(rest)) + rest)

    with ScriptedBroker(answer) as broker:
        device = Device(journal, broker.port)
        device.connect()
        device.run(lambda: bool(device.saw(CommandArrived)))
        assert TOPICS.command_id(device.saw(CommandArrived)[0].topic) is None
        device.link.stop(TOPICS.state, b"{}")
