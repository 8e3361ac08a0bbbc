"""A broker of one's own: start, kill, start again on the same port.

Mosquitto where it is installed, else rumqttd, which pip brings.
"""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from base64 import b64encode
from pathlib import Path

from agent.demo.broker import RUMQTTD, find_mosquitto
from tests.support.parts import missing_part


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Broker:
    """A broker's process on 127.0.0.1."""

    host = "127.0.0.1"

    def __init__(self, directory: Path, command: list[str]) -> None:
        self._command = command
        self._log = directory / "broker.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                socket.create_connection((self.host, self.port), timeout=1).close()
                return
            except OSError:
                assert self._process.poll() is None, self._log.read_text()
                time.sleep(0.02)
        raise AssertionError(self._log.read_text())

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(10)
            self._process = None

    def __enter__(self) -> Broker:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Mosquitto(Broker):
    """For features of mosquitto alone: persistent sessions, access lists, limits."""

    def __init__(self, directory: Path, *lines: str, anonymous: bool = True, port: int = 0) -> None:
        program = find_mosquitto()
        if program is None:
            missing_part("mosquitto", "apt install mosquitto")
        self.port = port or free_port()
        config = directory / "mosquitto.conf"
        user = ["user root"] if os.getuid() == 0 else []
        head = [
            f"listener {self.port} {self.host}",
            f"allow_anonymous {'true' if anonymous else 'false'}",
            *user,
        ]
        config.write_text("\n".join([*head, *lines]) + "\n")
        super().__init__(directory, [program, "-c", str(config)])


class Rumqttd(Broker):
    """The broker in iotcore's wheel; extra lines are appended to its configuration."""

    def __init__(self, directory: Path, *lines: str) -> None:
        self.port = free_port()
        config = directory / "rumqttd.toml"
        text = RUMQTTD.format(host=self.host, port=self.port)
        config.write_text("\n".join([text, *lines]) + "\n")
        script = f"import iotcore; iotcore.Broker(config_path={str(config)!r}).run_forever()"
        super().__init__(directory, [sys.executable, "-c", script])


def any_broker(directory: Path, *lines: str) -> Broker:
    """Return a broker of MQTT 5; the lines are for mosquitto, if it is that."""
    return Mosquitto(directory, *lines) if find_mosquitto() else Rumqttd(directory)


def with_password(directory: Path, user: str, password: str) -> Broker:
    """Return a broker that accepts one user only."""
    if not find_mosquitto():
        return Rumqttd(directory, "[v5.1.connections.auth]", f'{user} = "{password}"')
    salt, rounds = b"twelve bytes", 101
    key = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, rounds)
    hashed = "$".join(b64encode(part).decode() for part in (salt, key))
    passwords = directory / "passwords"
    passwords.write_text(f"{user}:$7${rounds}${hashed}\n")  # as mosquitto_passwd writes it
    return Mosquitto(directory, f"password_file {passwords}", anonymous=False)
