"""One connection over paho-mqtt, driven by poll instead of paho's own thread.

paho's thread waits in select, which fails once a process has 1,024 descriptors, reads whatever
the broker sends, and keeps one TLS context for good.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, LogLevel
from paho.mqtt.properties import Properties

from agent.core.control.link import PACKET_LIMIT_BYTES
from agent.core.errors import LinkError

_IDLE_MS = 2000
_PAUSED_MS = 10
_LOOK_S = 1.0


class _LastError:
    """The logger that paho is given: keeps the last error, which no callback reports."""

    text = ""

    def log(self, level: int, message: str, *values: object) -> None:
        if level >= mqtt.LOGGING_LEVEL[LogLevel.MQTT_LOG_ERR]:
            self.text = message % values


class Client(mqtt.Client):
    """A paho client for one connection.

    Args:
        device: The client id.
        number: Of the connection within this process.
        wake: An eventfd; written to, it ends the wait of `serve`.
    """

    def __init__(self, device: str, number: int, wake: int) -> None:
        super().__init__(
            CallbackAPIVersion.VERSION2, client_id=device, protocol=mqtt.MQTTv5, manual_ack=True
        )
        self.number = number
        self._last_error = _LastError()
        self._wake = wake
        self._leaving = False
        self.enable_logger(self._last_error)  # type: ignore[arg-type]
        self.max_inflight_messages_set(0)  # the outbox decides how many
        self.on_socket_register_write = lambda *_: os.eventfd_write(wake, 1)

    @property
    def last_error(self) -> str:
        """Return the last error of the socket, empty if there was none."""
        return self._last_error.text

    @property
    def unacknowledged(self) -> int:
        """Return how many messages the broker has not acknowledged."""
        return len(self._out_messages)

    def serve(self, paused: Callable[[], bool], look: Callable[[], None]) -> None:
        """Read and write until the connection is closed.

        Args:
            paused: Returns whether reading must wait. What the broker sends stays in the socket.
            look: Called every second or two; raises to end the connection.

        Raises:
            LinkError: if the broker sends what it may not.
        """
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        look_s = 0.0
        while (sock := self.socket()) is not None and not self._leaving:
            waits = paused()
            buffered = not waits and hasattr(sock, "pending") and sock.pending() > 0
            wanted = (0 if waits else select.POLLIN) | (select.POLLOUT if self.want_write() else 0)
            poll.register(sock.fileno(), wanted)
            found = dict(poll.poll(0 if buffered else _PAUSED_MS if waits else _IDLE_MS))
            if self._wake in found:
                os.eventfd_read(self._wake)
            if buffered or found.get(sock.fileno(), 0) & ~select.POLLOUT:
                self.loop_read()
                self._refuse_unlimited()
            if self.want_write():
                self.loop_write()
            if time.monotonic() >= look_s:
                look_s = time.monotonic() + _LOOK_S
                look()
                self.loop_misc()

    def leave(self) -> None:
        """End `serve` without a DISCONNECT, so that the broker sends the last will."""
        self._leaving = True
        os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Close what is left of the connection; its thread calls this."""
        sock = self.socket()
        if sock is not None:
            sock.close()

    def _refuse_unlimited(self) -> None:
        """End the connection where a packet would fill the memory."""
        size = self._in_packet["remaining_length"]
        if size > PACKET_LIMIT_BYTES:
            seen = f"the broker sends a packet of {size} bytes, {PACKET_LIMIT_BYTES} is the limit"
            raise LinkError(seen, code="packet_refused")
        if self._in_messages:
            seen = "the broker sends with QoS 2, but the subscription allows 1"
            raise LinkError(seen, code="packet_refused")


def properties(kind: int, **values: int) -> Properties:
    """Return MQTT 5 properties of a packet."""
    found = Properties(kind)  # type: ignore[no-untyped-call]
    for name, value in values.items():
        setattr(found, name, value)
    return found
