"""A console for tests: one MQTT client that keeps all messages of one device."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.support.polling import until


class Console:
    """Subscribes to a device's topics with a durable session."""

    def __init__(self, host: str, port: int, device: str) -> None:
        self.base = f"quantd/v1/{device}"
        self.heard: list[tuple[str, dict[str, Any], bool]] = []
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id="console", protocol=mqtt.MQTTv5
        )
        self._client.on_connect = lambda client, *_: client.subscribe(f"{self.base}/#", qos=1)
        self._client.on_message = self._hear
        lasting = Properties(PacketTypes.CONNECT)
        lasting.SessionExpiryInterval = 600
        self._client.connect(host, port, clean_start=False, properties=lasting)
        self._client.loop_start()

    def __enter__(self) -> Console:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def command(
        self, command_id: str, body: dict[str, Any] | bytes, *, retain: bool = False
    ) -> None:
        payload = body if isinstance(body, bytes) else json.dumps(body)
        topic = f"{self.base}/cmd/{command_id}"
        self._client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(10)

    def wait(
        self, what: str, wanted: Callable[[dict[str, Any]], bool], timeout_s: float = 60
    ) -> dict[str, Any]:
        """Return the first message on base/what that is wanted, from the beginning on."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            for kind, message, _ in list(self.heard):
                if kind == what and wanted(message):
                    return message
            time.sleep(0.05)
        raise AssertionError(f"nothing wanted on {what}; heard {[k for k, _, _ in self.heard]}")

    def result(self, command_id: str, timeout_s: float = 60) -> dict[str, Any]:
        """Return the last answer to a command."""
        ends = {"SUCCEEDED", "FAILED", "REJECTED", "TIMED_OUT", "CANCELED", "ROLLED_BACK"}
        return self.wait(f"res/{command_id}", lambda m: m["stage"] in ends, timeout_s)

    def stages(self, command_id: str) -> list[str]:
        """Return the stages answered to a command, repeats left out."""
        stages = [m["stage"] for k, m, _ in self.heard if k == f"res/{command_id}"]
        return [s for i, s in enumerate(stages) if i == 0 or stages[i - 1] != s]

    def _hear(self, _client: object, _data: object, message: mqtt.MQTTMessage) -> None:
        kind = message.topic.removeprefix(self.base + "/")
        if not kind.startswith("cmd/"):
            self.heard.append((kind, json.loads(message.payload), message.retain))


class DaemonProcess:
    """`quantd run` as the service manager starts it, or a module that takes the same arguments."""

    def __init__(self, config: Path, module: str = "agent", **environment: str) -> None:
        self._config = config
        self._module = module
        self._environment = environment
        self.log = config.parent / "daemon.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self._module, "run", "-c", str(self._config)],
                stdout=out,
                stderr=out,
                env={**os.environ, **self._environment},
            )

    def kill(self) -> None:
        """End it as a power cut would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def until_logged(self, text: str) -> None:
        """Wait until it has logged a text."""
        until(lambda: text in self.log.read_text(), why=self.log.read_text)

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(40)

    def __enter__(self) -> DaemonProcess:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
