"""What a hostile broker, operator or key folder may send: seeded, so that a finding can be repeated."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import random
import socket
import threading
from pathlib import Path
from typing import Any

from tests.support import mqtt_packets as mqtt
from tests.support.mqtt_packets import Kind

BASE = "quantd/v1/cam-1"
_TYPES = ("ping", "reoptimize", "activate", "rollback", "cancel", "resend", "defrost", "", "é" * 9)
_TEXTS = ("", "x", "c1", "../../etc/passwd", "\x00", "\ud800", "a" * 5000, "${x}", "-1", "cam-1")
_NUMBERS = (0, 1, -1, 1e308, -0.0, 2**53, 2**64, 10**400, 253_402_300_800, 1e-300)


def value(source: random.Random, depth: int = 0) -> Any:
    """Return any JSON value."""
    kind = source.randrange(8 if depth < 3 else 5)
    if kind == 0:
        return source.choice(_TEXTS)
    if kind == 1:
        return source.choice(_NUMBERS)
    if kind < 5:
        return source.choice([None, True, False, "ping", "cam-1"])
    if kind < 7:
        return [value(source, depth + 1) for _ in range(source.randrange(4))]
    return {source.choice(_TEXTS): value(source, depth + 1) for _ in range(source.randrange(4))}


def mutated(source: random.Random, body: bytes) -> bytes:
    """Return bytes with some changed, removed, repeated or added."""
    found = bytearray(body)
    for _ in range(source.randrange(1, 6)):
        place = source.randrange(len(found) + 1)
        kind = source.randrange(5)
        if kind == 0 and found:
            found[place % len(found)] = source.randrange(256)
        elif kind == 1:
            del found[place : place + source.randrange(1, 9)]
        elif kind == 2:
            found[place:place] = source.randbytes(source.randrange(1, 9))
        elif kind == 3:
            found[place:place] = found[place : place + 40] * source.randrange(1, 4)
        else:
            found[place:place] = source.choice([b"\xff", b"\0", b'"', b"[" * 500, b"\xed\xa0\x80"])
    return bytes(found)


def command(source: random.Random) -> bytes:
    """Return the body of a command: sometimes almost right."""
    kind = source.randrange(6)
    if kind == 0:
        return source.randbytes(source.randrange(300))
    if kind == 1:
        return source.choice([b"[", b'{"a":', b"\xff", b"1"]) * source.randrange(1, 30_000)
    fields = ("v", "id", "jti", "type", "dev", "aud", "iat", "nbf", "exp", "args", "expect")
    body: dict[str, Any] = {"type": source.choice(_TYPES)}
    for _ in range(source.randrange(4)):
        body[source.choice(fields)] = value(source)
    raw = json.dumps(body).encode()
    return mutated(source, raw) if kind == 2 else raw


def topic(source: random.Random) -> str:
    """Return a topic below the command filter, with a good or a bad id."""
    if source.random() < 0.8:
        return f"{BASE}/cmd/c{source.randrange(10**9)}"
    name = source.choice([*_TEXTS, "c1", "c2", "a/b", "#", "+"])
    return f"{BASE}/cmd/{name}".encode("utf-8", "replace").decode()


def token(source: random.Random, good: bytes) -> bytes:
    """Return a token: forged, cut, spliced, or with another header."""
    head, claims, mark = good.split(b".")
    header: dict[str, Any] = {"alg": "EdDSA", "kid": "demo-operator", "typ": "JWT"}
    kind = source.randrange(6)
    if kind == 0:
        return b"eyJ" + source.randbytes(source.randrange(400))
    if kind == 1:
        return mutated(source, good)
    if kind == 2:
        header[source.choice(["alg", "kid", "crit", "b64", "typ", "jwk"])] = value(source)
        head = _b64(json.dumps(header).encode())
    elif kind == 3:
        claims = _b64(command(source))
    elif kind == 4:
        header["kid"] = source.choice(["a", "fifo", "folder", "huge", "link", "..", "/", "x" * 64])
        head = _b64(json.dumps(header).encode())
    else:
        mark = _b64(source.randbytes(source.choice([0, 1, 63, 64, 65, 5000])))
    return b".".join([head, claims, mark])


def key_files(source: random.Random, folder: Path, good: bytes) -> None:
    """Fill a folder with what is no key: also a pipe, a folder, a dead link and a large file."""
    for name in ("a", "fifo", "folder", "huge", "link"):
        path = folder / f"{name}.pem"
        with contextlib.suppress(OSError):
            path.unlink()
        with contextlib.suppress(OSError):
            path.rmdir()
    (folder / "a.pem").write_bytes(mutated(source, good))
    os.mkfifo(folder / "fifo.pem")
    (folder / "folder.pem").mkdir()
    (folder / "huge.pem").write_bytes(good + b"\n" * source.randrange(200_000))
    (folder / "link.pem").symlink_to(source.choice(["/dev/zero", "/nowhere", "link.pem", "a.pem"]))


def packet(source: random.Random, seen: int) -> bytes:
    """Return a packet that a broker should not send, or not now; `seen` is a packet id in use."""
    number = source.choice([0, 1, 2, seen, 65535, source.randrange(65536)])
    kind = source.randrange(16)
    if kind == 0:
        return source.randbytes(source.randrange(1, 200))
    if kind == 1:  # a length that never comes, up to 256 MB
        return bytes([source.randrange(256)]) + source.choice([b"\xff\xff\xff\x7f", b"\xff" * 5])
    if kind == 2:
        return mqtt.packet(source.randrange(16), source.randbytes(source.randrange(20)),
                           flags=source.randrange(16))  # fmt: skip
    if kind == 3:
        return mqtt.puback(number, source.choice([0, 0x10, 0x80, 0x87, 0x97, 0xFF]))
    if kind == 4:
        return mqtt.suback(
            number, *source.choices([0, 1, 2, 0x80, 0x87, 0xFF], k=source.randrange(4))
        )
    if kind == 5:
        return mqtt.publish(topic(source), command(source), qos=source.randrange(4), number=number,
                            flags=source.choice([0, 1, 8, 9]))  # fmt: skip
    if kind == 6:
        bad = source.choice([b"\xff\xfe", b"\xed\xa0\x80", b"a\0b", b"", b"#", b"\xf4\x90\x80\x80"])
        return mqtt.publish(f"{BASE}/cmd/".encode() + bad, b"x", number=number)
    if kind == 7:
        return mqtt.packet(Kind.PUBLISH, mqtt.text(f"{BASE}/cmd/c1") + b"\0\1" + bad_properties(source),
                           flags=2)  # fmt: skip
    if kind == 8:
        return mqtt.packet(
            Kind.PUBLISH, source.choice([b"", b"\0", b"\xff\xffab", b"\0\1a"]), flags=2
        )
    if kind == 9:
        return mqtt.connack(source.choice([0, 0x80, 0x84, 0xFF]))
    if kind == 10:
        reason = bytes([source.choice([0, 4, 0x8E, 0x81, 0xFF])])
        return mqtt.packet(Kind.DISCONNECT, reason + bad_properties(source))
    if kind == 11:
        return mqtt.packet(source.choice([Kind.PUBREC, Kind.PUBREL, Kind.PUBCOMP]), number.to_bytes(2, "big"),
                           flags=source.choice([0, 2]))  # fmt: skip
    if kind == 12:
        return mqtt.packet(Kind.AUTH, source.randbytes(source.randrange(6)))
    if kind == 13:
        return mqtt.packet(Kind.PINGRESP, source.randbytes(source.randrange(3)))
    whole = mqtt.publish(
        f"{BASE}/cmd/c{source.randrange(99)}", b'{"type":"ping"}', number=number or 1
    )
    return mutated(source, whole) if kind == 14 else whole


def bad_properties(source: random.Random) -> bytes:
    """Return a property field: unknown, doubled, cut or of a wrong length."""
    body = source.choice(
        [
            b"\xff\0",
            b"\x21\0\0",
            b"\x21\0\1\x21\0\2",
            b"\x27\0\0\0\0",
            b"\x0b\xff\xff\xff\xff\xff",
            b"\x26\0\1a\xff\xff",
            b"\x24\5",
            b"\x13\0\0",
            b"\x12\0\4evil",
            b"\x1f\xff\xff",
            b"\x01\7",
        ]
    )
    length = source.choice([len(body), 0, len(body) + 9, 127])
    return mqtt.varint(length) + body


def _b64(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


class HostileBroker:
    """A port that answers MQTT badly: each connection is sent a good or bad CONNACK, then packets.

    Attributes:
        sent: Packets so far.
        connections: Connections so far.
    """

    def __init__(self, seed: int, per_connection: int = 20) -> None:
        self.sent = self.connections = 0
        self._source = random.Random(seed)
        self._per_connection = per_connection
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._over = False
        self._thread = threading.Thread(target=self._serve, name="hostile", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Free the port."""
        self._over = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    def _serve(self) -> None:
        while not self._over:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            peer.settimeout(2)
            with peer, contextlib.suppress(OSError, ValueError):
                self._abuse(peer)

    def _abuse(self, peer: socket.socket) -> None:
        source, framing, seen = self._source, mqtt.Framing(), 1
        peer.recv(4096)  # CONNECT
        first = source.randrange(8)
        if first == 0:
            peer.sendall(packet(source, 1))
        elif first == 1:
            peer.sendall(mqtt.packet(Kind.CONNACK, b"\0\0" + bad_properties(source)))
        else:
            limits = {mqtt.RECEIVE_MAXIMUM: source.choice([b"\0\1", b"\0\x14", b"\xff\xff"])}
            peer.sendall(mqtt.connack(present=source.random() < 0.5, values=limits))
        self.sent += 1
        for number in range(self._per_connection):
            peer.settimeout(0.005)
            with contextlib.suppress(TimeoutError, UnicodeDecodeError, KeyError):
                for got in framing.feed(peer.recv(65536)):
                    if got.kind == Kind.SUBSCRIBE and number < 2:
                        peer.sendall(mqtt.suback(got.number, 1))
                    elif got.kind == Kind.PUBLISH and got.qos:
                        seen = got.number
            peer.settimeout(2)
            peer.sendall(packet(source, seen))
            self.sent += 1
