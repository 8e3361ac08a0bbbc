"""Limits and rights of a broker, and identities that change: kept, noticed, used."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest

from tests.support.broker import Mosquitto, free_port
from tests.support.fleet import DaemonProcess
from tests.support.link_scene import BASE, DEVICE, Fleet, LinkScene, link_scene
from tests.support.mqtt_packets import Kind
from tests.support.polling import until
from tests.support.scene import write_config
from tests.support.small_disk import small_disk

pytestmark = pytest.mark.slow


def test_no_more_is_in_flight_than_the_broker_allows(tmp_path: Path) -> None:
    with link_scene(tmp_path, started=False) as scene:
        scene.proxy.receive_maximum(3)
        scene.daemon.start()
        scene.online()
        for _ in range(100):
            scene.ping()
        scene.settle()
        assert scene.findings().none
        assert max(scene.proxy.in_flight.values()) <= 3


def test_the_birth_comes_before_a_backlog(tmp_path: Path) -> None:
    with link_scene(tmp_path, records=True, started=False) as scene:
        scene.prepare(3_000)
        scene.daemon.start()
        scene.online()
        scene.settle()
        topics = [packet.topic for packet in scene.proxy.packets("up", Kind.PUBLISH)]
        assert topics[:2] == [f"{BASE}/state", f"{BASE}/meta"]
        assert topics.count(f"{BASE}/event") >= 3_000
        assert scene.findings().none


def test_a_report_that_is_sent_again_never_replaces_a_newer_one(tmp_path: Path) -> None:
    """The newer one is still on its way when the older is asked for."""
    with link_scene(tmp_path, started=False) as scene:
        scene.prepare(5, stream="report", topic=f"{BASE}/report/small")
        scene.daemon.start()
        scene.online()
        scene.settle()
        scene.daemon.kill()
        scene.prepare(1, stream="report", topic=f"{BASE}/report/small")
        scene.fleet.send("r1", {"type": "resend", "args": {"from_seq": 1, "stream": "report"}})
        scene.proxy.drop("down", Kind.PUBACK)
        before = scene.proxy.connections
        scene.daemon.start()
        scene.online(after=before)
        until(lambda: "command_received id=r1" in scene.log, 60, scene.why)
        scene.proxy.heal()
        scene.settle()
        assert scene.retained(f"{BASE}/report/small")["seq"] == 6
        assert scene.findings().none


def test_a_stolen_client_id_is_announced_and_every_command_is_answered(tmp_path: Path) -> None:
    with link_scene(tmp_path) as scene:
        for _ in range(4):
            scene.ping()
            scene.settle()  # what is in flight when the broker closes could be the cause itself
            before = scene.proxy.connections
            thief = mqtt.Client(
                mqtt.CallbackAPIVersion.VERSION2, client_id=DEVICE, protocol=mqtt.MQTTv5
            )
            thief.connect("127.0.0.1", scene.broker.port, clean_start=False)
            thief.loop_start()
            scene.online(after=before)  # it takes its id back
            thief.disconnect()
            thief.loop_stop()
        scene.ping()
        scene.settle()
        until(lambda: "session_taken_over" in kinds(scene), 60, scene.why)
        assert scene.findings().none


def test_a_refused_subscription_is_in_the_state_until_it_is_granted(tmp_path: Path) -> None:
    with link_scene(tmp_path, started=False) as scene:
        scene.proxy.refuses_subscriptions = True
        scene.daemon.start()
        until(lambda: "subscription_refused" in kinds(scene), 60, scene.why)
        until(lambda: scene.retained(f"{BASE}/state").get("subscribed") is False, 60, scene.why)
        scene.proxy.refuses_subscriptions = False
        scene.proxy.reset()
        scene.answered(scene.ping())
        until(lambda: scene.retained(f"{BASE}/state").get("subscribed") is not False, 60, scene.why)


def test_commands_of_a_full_disk_are_answered_when_there_is_room(tmp_path: Path) -> None:
    """They are not sent again, and the link stays as it is."""
    with small_disk(tmp_path / "state") as disk, link_scene(tmp_path) as scene:
        scene.answered(scene.ping())
        before = scene.proxy.connections
        disk.fill()
        sent = [scene.ping() for _ in range(30)]
        until(lambda: "code=disk_full" in scene.log, 60, scene.why)
        time.sleep(5)
        disk.clear()
        scene.answered(*sent, scene.ping())
        scene.settle()
        assert scene.findings().none
        assert scene.given.run_twice() == []
        assert scene.proxy.connections == before


def kinds(scene: LinkScene) -> set[str]:
    return {head.kind for head in scene.fleet.heard.events}


@pytest.mark.faults
def test_a_renewed_certificate_is_used_without_a_restart(tmp_path: Path) -> None:
    """The broker trusts a new authority only, from one moment on."""
    for name in ("old", "new"):
        authority(tmp_path, name)
    certificate(tmp_path, "old", "server", "127.0.0.1", "IP:127.0.0.1")
    certificate(tmp_path, "old", "first", DEVICE)
    certificate(tmp_path, "new", "second", DEVICE)
    for suffix in ("crt", "key"):
        shutil.copy(tmp_path / f"first.{suffix}", tmp_path / f"own.{suffix}")
    plain = free_port()
    shutil.copy(tmp_path / "old.crt", tmp_path / "trusted.crt")
    lines = (
        f"cafile {tmp_path}/trusted.crt",
        f"certfile {tmp_path}/server.crt",
        f"keyfile {tmp_path}/server.key",
        "require_certificate true",
        f"listener {plain} 127.0.0.1",
    )
    with Mosquitto(tmp_path, *lines) as broker:
        table = {"host": "127.0.0.1", "port": broker.port, "tls.ca": f"{tmp_path}/old.crt"}
        table |= {"tls.cert": f"{tmp_path}/own.crt", "tls.key": f"{tmp_path}/own.key"}
        config = write_config(tmp_path, mqtt=table, commands={"require_signature": False})
        fleet = Fleet(plain)
        with DaemonProcess(config, "tests.support.quick_daemon") as daemon:

            def why() -> str:
                return daemon.log.read_text()[-3000:]

            until(lambda: "broker_connected" in daemon.log.read_text(), 60, why)
            fleet.send("before", {"type": "ping"})
            until(lambda: "before" in fleet.answered_s, 60, why)
            broker.stop()
            shutil.copy(tmp_path / "new.crt", tmp_path / "trusted.crt")
            broker.start()
            until(lambda: "certificate_refused" in daemon.log.read_text(), 60, why)
            for suffix in ("crt", "key"):
                shutil.copy(tmp_path / f"second.{suffix}", tmp_path / f"own.{suffix}")
            until(lambda: daemon.log.read_text().count("broker_connected") > 1, 120, why)
            fleet.send("after", {"type": "ping"})
            until(lambda: "after" in fleet.answered_s, 60, why)
        fleet.close()


def authority(folder: Path, name: str) -> None:
    openssl(
        folder, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
        "-days", "2", "-keyout", f"{name}.key", "-out", f"{name}.crt", "-subj", f"/CN={name}",
    )  # fmt: skip


def certificate(folder: Path, by: str, name: str, subject: str, alternative: str = "") -> None:
    openssl(
        folder, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
        "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={subject}",
    )  # fmt: skip
    extension = folder / f"{name}.ext"
    extension.write_text(f"subjectAltName={alternative or 'DNS:' + subject}\n")
    openssl(
        folder, "x509", "-req", "-in", f"{name}.csr", "-CA", f"{by}.crt", "-CAkey", f"{by}.key",
        "-CAcreateserial", "-days", "2", "-out", f"{name}.crt", "-extfile", str(extension),
    )  # fmt: skip


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)
