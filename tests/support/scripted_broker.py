"""A broker of MQTT 5 that does as a test requires: denies, keeps silent, sends what it must not."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

CONNECT, PUBLISH, PUBACK, SUBSCRIBE, PINGREQ = 1, 3, 4, 8, 12
ACCEPTED = b"\x20\x03\x00\x00\x00"
Peer = Callable[[socket.socket, int, bytes], None]


def accepted(properties: bytes = b"") -> bytes:
    """Return a CONNACK with properties."""
    body = b"\x00\x00" + bytes([len(properties)]) + properties
    return bytes([0x20, len(body)]) + body


def suback(packet: bytes, code: int = 1) -> bytes:
    """Return the answer to a SUBSCRIBE."""
    return b"\x90\x04" + packet[:2] + b"\x00" + bytes([code])


def puback(packet: bytes) -> bytes:
    """Return the answer to a PUBLISH of QoS 1."""
    start = 2 + int.from_bytes(packet[:2], "big")
    return b"\x40\x02" + packet[start : start + 2]


def publish(topic: str, body: bytes, mid: int, *, qos: int = 1) -> bytes:
    """Return a PUBLISH packet."""
    name = topic.encode()
    rest = len(name).to_bytes(2, "big") + name + mid.to_bytes(2, "big") + b"\x00" + body
    return bytes([0x30 | qos << 1]) + length(len(rest)) + rest


def length(count: int) -> bytes:
    """Return a remaining length."""
    found = b""
    while True:
        count, low = divmod(count, 128)
        found += bytes([low | (0x80 if count else 0)])
        if not count:
            return found


class ScriptedBroker:
    """Calls `answer(socket, kind, packet)` for each packet; the default is a broker at its best."""

    def __init__(self, answer: Peer) -> None:
        self._answer = answer
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._peers: list[socket.socket] = []

    def __enter__(self) -> ScriptedBroker:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for one in (self._server, *self._peers):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self._server.accept()
                self._peers.append(peer)
                threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), peer, peer.makefile("rb") as stream:
            for kind, packet in _packets(stream):
                self._answer(peer, kind, packet)


def _packets(stream: socket.SocketIO) -> Iterator[tuple[int, bytes]]:
    while head := stream.read(1):
        size = shift = 0
        while True:
            (byte,) = stream.read(1)
            size |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        yield head[0] >> 4, stream.read(size)
