"""Packets of MQTT 5 as bytes: enough to read what passes, to change it, and to write bad ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum


class Kind(IntEnum):
    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14
    AUTH = 15


# MQTT 5.0, table 2-4: properties of a fixed size, bytes; 0 is a variable byte integer, -1 a text
# or binary data, -2 a pair of texts.
_SIZES = {
    0x01: 1, 0x02: 4, 0x03: -1, 0x08: -1, 0x09: -1, 0x0B: 0, 0x11: 4, 0x12: -1, 0x13: 2, 0x15: -1,
    0x16: -1, 0x17: 1, 0x18: 4, 0x19: 1, 0x1A: -1, 0x1C: -1, 0x1F: -1, 0x21: 2, 0x22: 2, 0x23: 2,
    0x24: 1, 0x25: 1, 0x26: -2, 0x27: 4, 0x28: 1, 0x29: 1, 0x2A: 1,
}  # fmt: skip
SESSION_EXPIRY = 0x11
RECEIVE_MAXIMUM = 0x21
MAXIMUM_QOS = 0x24
MAXIMUM_PACKET_SIZE = 0x27


def varint(value: int) -> bytes:
    """Return a variable byte integer (MQTT 5.0, 1.5.5)."""
    found = bytearray()
    while True:
        value, low = divmod(value, 128)
        found.append(low | (128 if value else 0))
        if not value:
            return bytes(found)


def read_varint(data: bytes, start: int) -> tuple[int, int] | None:
    """Return (value, first byte after it), None if it is not complete."""
    value = 0
    for place in range(4):
        if start + place >= len(data):
            return None
        byte = data[start + place]
        value |= (byte & 127) << 7 * place
        if not byte & 128:
            return value, start + place + 1
    raise ValueError("a variable byte integer of more than 4 bytes")


def text(value: str | bytes) -> bytes:
    """Return a text with its length before it."""
    raw = value.encode() if isinstance(value, str) else value
    return len(raw).to_bytes(2, "big") + raw


def properties(values: Mapping[int, bytes]) -> bytes:
    """Return a property field of raw values by identifier."""
    body = b"".join(bytes([name]) + value for name, value in values.items())
    return varint(len(body)) + body


def read_properties(data: bytes, start: int) -> tuple[dict[int, bytes], int]:
    """Return (raw values by identifier, first byte after the field)."""
    found: dict[int, bytes] = {}
    length = read_varint(data, start)
    assert length is not None
    place, end = length[1], length[1] + length[0]
    while place < end:
        name = data[place]
        size = _size(data, place + 1, _SIZES[name])
        found[name] = data[place + 1 : place + 1 + size]
        place += 1 + size
    return found, end


def _size(data: bytes, place: int, kind: int) -> int:
    if kind > 0:
        return kind
    if kind == 0:
        value = read_varint(data, place)
        assert value is not None
        return value[1] - place
    size = 2 + int.from_bytes(data[place : place + 2], "big")
    return size if kind == -1 else size + 2 + int.from_bytes(data[place + size :][:2], "big")


def packet(kind: int, body: bytes = b"", *, flags: int = 0) -> bytes:
    """Return the bytes of a packet."""
    return bytes([kind << 4 | flags]) + varint(len(body)) + body


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet; `raw` is all of it, `body` what follows the fixed header."""

    kind: int
    flags: int
    body: bytes
    raw: bytes

    @property
    def qos(self) -> int:
        return self.flags >> 1 & 3

    @property
    def retain(self) -> bool:
        return bool(self.flags & 1)

    @property
    def topic(self) -> str:
        """Return the topic of a PUBLISH."""
        return self.body[2 : self._topic_end].decode()

    @property
    def number(self) -> int:
        """Return the packet identifier, 0 where there is none."""
        if self.kind == Kind.PUBLISH:
            if not self.qos:
                return 0
            return int.from_bytes(self.body[self._topic_end :][:2], "big")
        return int.from_bytes(self.body[:2], "big")

    @property
    def payload(self) -> bytes:
        """Return what a PUBLISH carries."""
        _, end = read_properties(self.body, self._topic_end + (2 if self.qos else 0))
        return self.body[end:]

    @property
    def _topic_end(self) -> int:
        return 2 + int.from_bytes(self.body[:2], "big")

    def with_properties(self, values: Mapping[int, bytes]) -> bytes:
        """Return a CONNACK with these properties added or replaced."""
        assert self.kind == Kind.CONNACK
        present, end = read_properties(self.body, 2)
        body = self.body[:2] + properties({**present, **values}) + self.body[end:]
        return packet(self.kind, body, flags=self.flags)


class Framing:
    """Cuts a stream of bytes into packets."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Packet]:
        """Yield the packets that are complete with these bytes."""
        self._rest += data
        place = 0
        while (length := read_varint(self._rest, place + 1)) is not None:
            size, begin = length
            if len(self._rest) < begin + size:
                break
            head = self._rest[place]
            raw = self._rest[place : begin + size]
            yield Packet(head >> 4, head & 15, raw[begin - place :], raw)
            place = begin + size
        self._rest = self._rest[place:]


def connack(
    code: int = 0, *, present: bool = False, values: Mapping[int, bytes] | None = None
) -> bytes:
    """Return the broker's answer to CONNECT."""
    return packet(Kind.CONNACK, bytes([present, code]) + properties(values or {}))


def suback(number: int, *codes: int) -> bytes:
    """Return the answer to SUBSCRIBE."""
    return packet(Kind.SUBACK, number.to_bytes(2, "big") + b"\0" + bytes(codes))


def puback(number: int, code: int = 0) -> bytes:
    """Return the answer to a PUBLISH of QoS 1."""
    return packet(Kind.PUBACK, number.to_bytes(2, "big") + bytes([code, 0]))


def publish(
    topic: str | bytes, payload: bytes, *, qos: int = 1, number: int = 1, flags: int = 0
) -> bytes:
    """Return a message."""
    identifier = number.to_bytes(2, "big") if qos else b""
    return packet(Kind.PUBLISH, text(topic) + identifier + b"\0" + payload, flags=qos << 1 | flags)
