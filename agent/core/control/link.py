"""Events of the connection to the broker."""

from __future__ import annotations

from dataclasses import dataclass

PACKET_LIMIT_BYTES = 256 * 1024
"""Announced to the broker; larger than the limit of a command, so that a larger one is answered."""


@dataclass(frozen=True, slots=True)
class Connected:
    """The broker accepted the connection and answered the subscription.

    Attributes:
        session: Number of the connection.
        session_present: Whether the broker knows an earlier one.
        max_packet: The broker's limit in bytes, None if it has none.
        receive_maximum: How many messages may wait for its acknowledgement.
        refused: Why it denies the subscription, so that no command arrives; empty if it doesn't.
    """

    session: int
    session_present: bool
    max_packet: int | None
    receive_maximum: int = 0xFFFF
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Subscribed:
    """The broker grants the subscription that it had refused."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection was lost, refused or could not be made.

    Attributes:
        reason: For people.
        code: The broker's MQTT 5 reason where it gave one.
        cause: What is announced as an event: `credentials_unusable` (a file of this device),
            `certificate_refused`, `session_taken_over` (by another client with this id) or
            `packet_refused` (what the broker sends would fill the memory); empty for the others.
    """

    reason: str
    code: int | None = None
    cause: str = ""


@dataclass(frozen=True, slots=True)
class CommandArrived:
    """A message on the command filter.

    `message` is for `Link.acknowledge` once it is stored; 0 needs none. The numbers of a later
    connection are greater.
    """

    topic: str
    body: bytes
    retain: bool
    message: int


@dataclass(frozen=True, slots=True)
class Acked:
    """The broker answered for a message handed over; code is the MQTT 5 reason."""

    message: int
    ok: bool
    code: int


LinkEvent = Connected | Subscribed | Disconnected | CommandArrived | Acked
