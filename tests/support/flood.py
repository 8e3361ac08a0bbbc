"""Commands as fast as a broker takes them, by one that may publish and need not be honest."""

from __future__ import annotations

import time
from typing import Any

import jwt
import paho.mqtt.client as mqtt

from tests.support.keys import KEY_ID, make_key
from tests.support.link_scene import BASE, DEVICE, LinkScene
from tests.support.mqtt_packets import Kind, Packet
from tests.support.mqtt_proxy import Way
from tests.support.polling import until

_BATCH = 200


class Flood:
    """A client that floods a device's commands.

    Attributes:
        key: Private key of the operator that the device trusts, PEM.
    """

    def __init__(self, scene: LinkScene) -> None:
        self.key = make_key(scene.directory / "keys")
        self._scene = scene
        self._sent = self._taken = 0
        self._taken_at: dict[str, int] = {}
        self._ours = scene.proxy.on_packet
        scene.proxy.on_packet = self._count
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self._client.max_inflight_messages_set(_BATCH)
        self._client.connect("127.0.0.1", scene.broker.port)
        self._client.loop_start()

    def send(self, count: int, body: bytes) -> None:
        """Publish commands, all different by their id; the broker has them when this returns."""
        self._publish([(f"f{self._sent + n}", body) for n in range(count)])

    def burst(self, count: int, *, signed: bool) -> None:
        """Publish pings, by the operator or forged in the simplest way: not signed at all."""
        if not signed:
            self.send(count, b'{"type": "ping"}')
            return
        names = [f"f{self._sent + n}" for n in range(count)]
        self._publish([(name, sign(self.key, name, "ping")) for name in names])

    def taken(self) -> int:
        """Return how many commands the daemon has acknowledged so far, others' included."""
        return self._taken

    def taken_when_answered(self, command_id: str) -> int:
        """Return how many it had acknowledged when the last answer to a command passed."""
        return self._taken_at[command_id]

    def drained(self, timeout_s: float) -> None:
        """Wait until the daemon has acknowledged everything."""
        until(lambda: self._taken >= self._sent, timeout_s, self._scene.why)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _publish(self, commands: list[tuple[str, bytes]]) -> None:
        for start in range(0, len(commands), _BATCH):
            sent = [
                self._client.publish(f"{BASE}/cmd/{name}", body, qos=1)
                for name, body in commands[start : start + _BATCH]
            ]
            sent[-1].wait_for_publish(60)
        self._sent += len(commands)

    def _count(self, connection: int, way: Way, packet: Packet, passed: bool) -> None:
        self._taken += way == "up" and packet.kind == Kind.PUBACK
        if way == "up" and packet.kind == Kind.PUBLISH:
            self._taken_at[packet.topic.rpartition("/")[2]] = self._taken
        self._ours(connection, way, packet, passed)


def sign(key: bytes, command_id: str, kind: str, **args: Any) -> bytes:
    """Return the token of a command that is valid for ten minutes."""
    now = int(time.time())
    claims = {
        "v": 1,
        "jti": command_id,
        "type": kind,
        "aud": DEVICE,
        "iat": now,
        "exp": now + 600,
        "args": args,
    }
    return jwt.encode(claims, key, algorithm="EdDSA", headers={"kid": KEY_ID}).encode()


def genuine_ping(scene: LinkScene, key: bytes, command_id: str = "genuine") -> str:
    """Send a signed ping; return its id."""
    scene.fleet.send(command_id, sign(key, command_id, "ping"))
    return command_id
