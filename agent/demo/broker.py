"""A real broker for the demo: mosquitto if it is installed, else rumqttd from a wheel.

Both listen on this machine only and speak MQTT 5, without a password: the demo's commands are
signed, and the daemon accepts no others.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.core.errors import LinkError
from agent.packages import pip_install

_HOST = "127.0.0.1"
_START_S = 10.0
_END_S = 10.0
_MOSQUITTO = """\
listener {port} {host}
allow_anonymous true
persistence true
persistence_location {directory}/
autosave_interval 1
max_queued_messages 100000
max_packet_size 1048576
{user}
"""
RUMQTTD = """\
id = 0
[router]
id = 0
max_connections = 100
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
[v5.1]
name = "v5-1"
listen = "{host}:{port}"
next_connection_delay_ms = 1
[v5.1.connections]
connection_timeout_ms = 60000
max_payload_size = 1048576
max_inflight_count = 100
dynamic_filters = true
"""


@dataclass(frozen=True, slots=True)
class Broker:
    """The address of a running broker, and its kind."""

    host: str
    port: int
    kind: str


@contextlib.contextmanager
def start_broker(directory: Path) -> Iterator[Broker]:
    """Run a broker on a free port while the block runs.

    Args:
        directory: Folder for its configuration, log and state.

    Raises:
        LinkError: "no_broker" if neither is installed, or it doesn't start.
    """
    directory.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    program = find_mosquitto()
    if program is not None:
        config, log = directory / "mosquitto.conf", directory / "mosquitto.log"
        # as root it would switch to a user without access
        user = "user root" if os.getuid() == 0 else ""
        config.write_text(_MOSQUITTO.format(host=_HOST, port=port, directory=directory, user=user))
        with running(log, program, "-c", str(config)) as process:
            _wait_listening(port, process, log)
            yield Broker(_HOST, port, "mosquitto")
        return
    try:
        import iotcore
    except ImportError as error:
        raise LinkError(
            "no MQTT broker on this machine",
            code="no_broker",
            hint=f"`sudo apt install mosquitto`, or {pip_install('iotcore')}",
        ) from error
    config = directory / "rumqttd.toml"
    config.write_text(RUMQTTD.format(host=_HOST, port=port))
    with iotcore.Broker(config_path=str(config)):
        _wait_listening(port)
        yield Broker(_HOST, port, "rumqttd (iotcore)")


def find_mosquitto() -> str | None:
    """Return the path of mosquitto; Debian's is in /usr/sbin, which is not on a user's PATH."""
    return shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin")


@contextlib.contextmanager
def running(log: Path, *command: str, piped: bool = False) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command while the block runs; its output goes to a pipe or to the log."""
    with log.open("wb") as out:
        stdout = subprocess.PIPE if piped else out
        process = subprocess.Popen(command, stdout=stdout, stderr=out)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


def _wait_listening(
    port: int, process: subprocess.Popen[bytes] | None = None, log: Path | None = None
) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and (process is None or process.poll() is None):
        try:
            socket.create_connection((_HOST, port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    end = log.read_text(errors="replace")[-300:] if log is not None else ""
    raise LinkError(f"the broker did not start on port {port}", hint=end.strip())
