"""The operator's side of the demo: send one signed command and follow the answers."""

from __future__ import annotations

import json
import queue
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import jwt
import paho.mqtt.client as mqtt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from paho.mqtt.enums import CallbackAPIVersion

from agent.core.errors import LinkError

KEY_ID = "demo-operator"


def make_key(keys_dir: Path) -> bytes:
    """Make a key pair; write the public key to the daemon's folder, return the private one (PEM)."""
    key = Ed25519PrivateKey.generate()
    keys_dir.mkdir(parents=True, exist_ok=True)
    (keys_dir / f"{KEY_ID}.pem").write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


class Operator:
    """A fleet operator, connected to one device's topics.

    Args:
        host: The broker.
        port: Its plain MQTT port.
        topic: `<root>/v1/<device>`.
        key: Private key in PEM.
    """

    def __init__(self, host: str, port: int, topic: str, key: bytes) -> None:
        self._topic = topic
        self._device = topic.rsplit("/", 1)[1]
        self._key = key
        self._inbox: queue.SimpleQueue[tuple[str, dict[str, Any]]] = queue.SimpleQueue()
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id="operator", protocol=mqtt.MQTTv5
        )
        self._client.on_connect = self._on_connect
        self._client.on_message = self._on_message
        try:
            self._client.connect(host, port)
        except OSError as e:
            raise LinkError(f"broker {host}:{port}: {e}") from e
        self._client.loop_start()

    def __enter__(self) -> Operator:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def wait_online(self, timeout_s: float, alive: Callable[[], None]) -> dict[str, Any]:
        """Return the device's retained state once it is online."""
        for kind, message in self._messages(timeout_s, alive):
            if kind == "state" and message.get("status") == "online":
                return message
        raise LinkError(f"{self._device} did not come online within {timeout_s:g} s")

    def command(self, kind: str, args: dict[str, Any]) -> str:
        """Send a signed command and return its id."""
        now = datetime.now(timezone.utc)
        command_id = f"demo-{now:%Y%m%dT%H%M%S}"
        claims = {
            "v": 1,
            "id": command_id,
            "jti": command_id,
            "type": kind,
            "dev": self._device,
            "aud": self._device,
            "iat": int(now.timestamp()),
            "exp": int((now + timedelta(minutes=10)).timestamp()),
            "args": args,
        }
        token = jwt.encode(claims, self._key, algorithm="EdDSA", headers={"kid": KEY_ID})
        self._client.publish(f"{self._topic}/cmd/{command_id}", token, qos=1)
        return command_id

    def follow(
        self, command_id: str, timeout_s: float, alive: Callable[[], None]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield (kind, message) of all messages of the device until the command has ended."""
        ended = {"SUCCEEDED", "FAILED", "REJECTED", "TIMED_OUT", "CANCELED", "ROLLED_BACK"}
        for kind, message in self._messages(timeout_s, alive):
            yield kind, message
            if kind == f"res/{command_id}" and message.get("stage") in ended:
                return

    def _messages(
        self, timeout_s: float, alive: Callable[[], None]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            alive()
            try:
                yield self._inbox.get(timeout=0.2)
            except queue.Empty:
                continue

    def _on_connect(self, client: mqtt.Client, *_: object) -> None:
        client.subscribe(f"{self._topic}/#", qos=1)

    def _on_message(self, _client: object, _data: object, message: mqtt.MQTTMessage) -> None:
        kind = message.topic.removeprefix(self._topic + "/")
        if not kind.startswith("cmd/"):
            self._inbox.put((kind, json.loads(message.payload)))
