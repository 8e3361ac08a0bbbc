"""The operator's side of the demo: send one signed command and follow the answers."""

from __future__ import annotations

import json
import queue
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from agent.core.errors import LinkError
from agent.wiring.operator import make_key, new_id, sign

_KEY = "demo-operator"
_VALID_S = 600


def trusted_key(keys_dir: Path) -> Path:
    """Make a key pair; put the public key into the daemon's folder, return the private one's file."""
    private, public = make_key(keys_dir.parent, _KEY)
    keys_dir.mkdir(mode=0o700, exist_ok=True)
    public.rename(keys_dir / public.name)
    return private


class Operator:
    """A fleet operator, connected to one device's topics.

    Args:
        host: The broker.
        port: Its plain MQTT port.
        topic: `<root>/v1/<device>`.
        key: File of the private key.
    """

    def __init__(self, host: str, port: int, topic: str, key: Path) -> None:
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
        (command,) = sign(
            kind, [self._device], new_id(kind), key=self._key, kid="", args=args, expect=None,
            valid_s=_VALID_S,
        )  # fmt: skip
        self._client.publish(f"{self._topic}/cmd/{command.id}", command.token, qos=1)
        return command.id

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
