"""Events of the connection to the broker."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Connected:
    """The broker accepted the connection; max_packet is its limit in bytes, None if it has none."""

    session: int
    session_present: bool
    max_packet: int | None


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection was lost, refused or could not be made.

    `code` is the broker's MQTT 5 reason where it gave one; `dead` says that nobody tries
    again until `Link.start` is called.
    """

    reason: str
    code: int | None = None
    dead: bool = False


@dataclass(frozen=True, slots=True)
class CommandArrived:
    """A message on the command filter; `message` is for `Link.acknowledge` once it is stored."""

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


@dataclass(frozen=True, slots=True)
class Refused:
    """The broker denies the subscription: no command will arrive until its rules change."""

    topic: str
    reason: str


LinkEvent = Connected | Disconnected | CommandArrived | Acked | Refused
