"""A proxy between the daemon and its broker that reads MQTT: it breaks links in known ways.

What it does to a packet is decided per packet, so that acknowledgements alone can be cut. What was
dropped is lost for good, as TCP never loses it: after a hole, `heal` ends the connections.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from tests.support.mqtt_packets import RECEIVE_MAXIMUM, Framing, Kind, Packet, suback

Way = Literal["up", "down"]  # from the daemon to the broker, and back
_LISTEN = ("127.0.0.1", 0)
_CHUNK = 1 << 16
_NOT_AUTHORIZED = 0x87


@dataclass(frozen=True, slots=True)
class Seen:
    """A packet that came to the proxy, in the order of arrival over all connections."""

    connection: int
    way: Way
    packet: Packet
    passed: bool
    monotonic_s: float


@dataclass
class _Connection:
    number: int
    daemon: socket.socket
    broker: socket.socket | None
    unanswered: set[int] = field(default_factory=set)  # PUBLISH of the daemon, by packet id
    held_open: bool = False


class Proxy:
    """A port in front of the broker's.

    Attributes:
        upstream: The broker's port.
        refuses: Whether new connections are ended at once.
        refuses_subscriptions: Whether the broker's answers to SUBSCRIBE become refusals.
        in_flight: The most messages that waited for their PUBACK at once, per connection.
        seen: Packets, if `records` is set.
    """

    def __init__(self, upstream: int, *, records: bool = False) -> None:
        self.upstream = upstream
        self.refuses = self.refuses_subscriptions = False
        self.records = records
        self.seen: list[Seen] = []
        self.in_flight: dict[int, int] = {}
        self.on_packet: Callable[[int, Way, Packet, bool], None] = lambda *_: None
        self._drops: set[tuple[Way, int | None]] = set()
        self._connack: dict[int, bytes] = {}
        self._open: dict[int, _Connection] = {}
        self._lock = threading.Lock()
        self._count = 0
        self._listener = socket.create_server(_LISTEN)
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    @property
    def connections(self) -> int:
        """Return how many connections were made so far."""
        return self._count

    def drop(self, way: Way, kind: Kind | None = None) -> None:
        """Let nothing of this kind (of any, if none is named) pass from now on."""
        self._drops.add((way, kind))

    def black_hole(self) -> None:
        """Let nothing pass in either direction; the connections stay open."""
        self.drop("up")
        self.drop("down")

    def heal(self) -> None:
        """Pass everything again, on new connections."""
        self._drops.clear()
        self.reset()

    def change_connack(self, values: Mapping[int, bytes]) -> None:
        """Add or replace properties of each CONNACK that passes."""
        self._connack.update(values)

    def receive_maximum(self, count: int) -> None:
        """Announce the broker's Receive Maximum as `count`."""
        self.change_connack({RECEIVE_MAXIMUM: count.to_bytes(2, "big")})

    def reset(self) -> None:
        """End all connections with RST on both sides."""
        for one in self._taken():
            for end in (one.daemon, one.broker):
                if end is not None:
                    _reset(end)

    def half_open(self) -> None:
        """End all connections at the broker's side only: the daemon hears nothing of it."""
        with self._lock:
            for one in self._open.values():
                one.held_open = True
                if one.broker is not None:
                    _reset(one.broker)
                    one.broker = None

    def close(self) -> None:
        """End the proxy."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reset()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def packets(self, way: Way, kind: Kind, *, after: int = 0) -> list[Packet]:
        """Return the packets of a kind, of connections above `after`; needs `records`."""
        return [
            one.packet
            for one in list(self.seen)
            if one.way == way and one.packet.kind == kind and one.connection > after
        ]

    def _accept(self) -> None:
        while True:
            try:
                daemon, _ = self._listener.accept()
            except OSError:
                return
            if self.refuses:
                _reset(daemon)
                continue
            try:
                broker = socket.create_connection(("127.0.0.1", self.upstream), timeout=5)
            except OSError:
                _reset(daemon)
                continue
            broker.settimeout(None)
            for end in (daemon, broker):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._count += 1
                one = _Connection(self._count, daemon, broker)
                self._open[one.number] = one
            for way in ("up", "down"):
                threading.Thread(target=self._carry, args=(one, way), daemon=True).start()

    def _carry(self, one: _Connection, way: Way) -> None:
        source = one.daemon if way == "up" else one.broker
        assert source is not None
        framing = Framing()
        try:
            while data := source.recv(_CHUNK):
                passed = b"".join(self._judge(one, way, packet) for packet in framing.feed(data))
                target = one.broker if way == "up" else one.daemon
                if passed and target is not None:
                    target.sendall(passed)
        except (OSError, ValueError):
            pass
        if way == "down" and one.held_open:
            return
        self._end(one)

    def _judge(self, one: _Connection, way: Way, packet: Packet) -> bytes:
        """Return what passes of a packet."""
        passes = not self._drops & {(way, None), (way, packet.kind)} and one.broker is not None
        if way == "up" and packet.kind == Kind.PUBLISH and packet.qos:
            one.unanswered.add(packet.number)
            most = max(self.in_flight.get(one.number, 0), len(one.unanswered))
            self.in_flight[one.number] = most
        elif way == "down" and packet.kind == Kind.PUBACK and passes:
            one.unanswered.discard(packet.number)
        if self.records:
            now_s = time.monotonic()
            self.seen.append(Seen(one.number, way, packet, passes, now_s))
        self.on_packet(one.number, way, packet, passes)
        if not passes:
            return b""
        if packet.kind == Kind.SUBACK and self.refuses_subscriptions:
            return suback(packet.number, _NOT_AUTHORIZED)
        if packet.kind == Kind.CONNACK and self._connack:
            return packet.with_properties(self._connack)
        return packet.raw

    def _end(self, one: _Connection) -> None:
        with self._lock:
            self._open.pop(one.number, None)
        for end in (one.daemon, one.broker):
            if end is not None:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()

    def _taken(self) -> list[_Connection]:
        with self._lock:
            found = list(self._open.values())
            self._open.clear()
        return found


def _reset(end: socket.socket) -> None:
    """Close with RST: linger for 0 s. Shut down first, or a thread in recv keeps it open."""
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # A connect to AF_UNSPEC is what resets a socket that another thread reads from.
        _disconnect(end)
    end.close()


def _disconnect(end: socket.socket) -> None:
    import ctypes

    address = struct.pack("H14x", socket.AF_UNSPEC)
    ctypes.CDLL(None).connect(end.fileno(), address, len(address))
