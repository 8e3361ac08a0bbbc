"""The client of many messages, against bytes."""

from __future__ import annotations

import asyncio

import pytest

from agent.core.errors import LinkError
from agent.fleet import mqtt
from agent.fleet.mqtt import Connection, Delivery

_CONNACK = b"\x20\x03\x00\x00\x00"


class Transport:
    def __init__(self):
        self.written = b""
        self.closed = False

    def write(self, data):
        self.written += data

    def is_closing(self):
        return self.closed

    def abort(self):
        self.closed = True

    close = abort


def _published(topic, payload, *, packet=7, qos=1, properties=b"\x00", retain=0):
    number = packet.to_bytes(2, "big") if qos else b""
    body = len(topic).to_bytes(2, "big") + topic + number + properties + payload
    length = (
        bytes([len(body) & 127 | 128, len(body) >> 7]) if len(body) > 127 else bytes([len(body)])
    )
    return bytes([0x30 | qos << 1 | retain]) + length + body


def _fed(data, size=None):
    """Return what a connection takes from bytes, given in parts of a size."""

    async def feed():
        taken = []
        connection = Connection(taken.append)
        connection.connection_made(Transport())
        for start in range(0, len(data), size or len(data)):
            connection.data_received(data[start : start + (size or len(data))])
        return taken, connection

    return asyncio.run(feed())


@pytest.mark.parametrize("size", [None, 1, 2, 7, 100])
def test_packets_are_taken_however_they_are_cut(size):
    data = (
        _CONNACK
        + _published(b"a/b", b"x" * 300)
        + _published(b"c", b"", qos=0, retain=1)
        + _published(b"d", b"y", packet=513, properties=b"\x05\x02\x00\x00\x00\x09")
        + b"\xd0\x00"
    )
    taken, connection = _fed(data, size)
    assert taken == [
        Delivery(b"a/b", b"x" * 300, False, 7),
        Delivery(b"c", b"", True, 0),
        Delivery(b"d", b"y", False, 513),
    ]
    assert not connection.closed.done()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x30\xff\xff\xff\xff\x01", "more than 4 bytes"),
        (b"\x30\xff\xff\xff\x7f", "a packet of 268435455 bytes"),
        (b"\xf0\x00", "of type 15"),
        (b"\x34\x07\x00\x01a\x00\x01\x00x", "QoS 2"),
        (b"\x30\x04\x00\x09ab", "bad packet|shorter"),
        (b"\x32\x05\x00\x02ab\x00", "bad packet|shorter"),
        (b"\xe0\x01\x8e", "another client uses this id"),
        (b"\x20\x03\x00\x87\x00", "refuses the connection \\(reason 0x87"),
    ],
)
def test_what_the_broker_may_not_send_ends_the_connection(data, why):
    taken, connection = _fed(data)
    assert taken == []
    with pytest.raises(LinkError, match=why):
        connection.closed.result()


def test_acknowledgements_are_one_write_in_the_order_of_the_messages():
    async def acknowledged():
        connection = Connection(lambda _: None)
        transport = Transport()
        connection.connection_made(transport)
        connection.acknowledge([1, 513])
        return transport.written

    assert asyncio.run(acknowledged()) == b"\x40\x02\x00\x01\x40\x02\x02\x01"


def test_a_publication_waits_for_its_own_acknowledgement():
    async def published():
        connection = Connection(lambda _: None)
        transport = Transport()
        connection.connection_made(transport)
        first = asyncio.ensure_future(connection.publish("t", b"x"))
        second = asyncio.ensure_future(connection.publish("t", b"y", expiry_s=9))
        await asyncio.sleep(0)
        connection.data_received(b"\x40\x03\x00\x02\x87")
        connection.data_received(b"\x40\x02\x00\x01")
        assert b"\x05\x02\x00\x00\x00\x09y" in transport.written
        return await first, await second

    assert asyncio.run(published()) == (0, 0x87)


def test_whoever_waits_learns_that_the_connection_was_lost():
    async def lost():
        connection = Connection(lambda _: None)
        connection.connection_made(Transport())
        waiting = asyncio.ensure_future(connection.subscribe(["a"]))
        await asyncio.sleep(0)
        connection.connection_lost(None)
        await waiting

    with pytest.raises(LinkError, match="closed the connection"):
        asyncio.run(lost())


def test_a_broker_that_does_not_answer_is_an_error_of_the_link(monkeypatch):
    monkeypatch.setattr(mqtt, "_ANSWER_S", 0.01)

    async def asked():
        connection = Connection(lambda _: None)
        connection.connection_made(Transport())
        await connection.subscribe(["a"])

    with pytest.raises(LinkError, match="no answer"):
        asyncio.run(asked())
