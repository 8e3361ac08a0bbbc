"""Ports of the daemon: the broker, the service manager, signatures."""

from __future__ import annotations

from typing import Protocol


class Link(Protocol):
    """The connection to the broker. Its threads only put LinkEvents into the daemon's mailbox."""

    @property
    def session(self) -> int:
        """Return the number of the current or last connection, 0 before the first."""

    def start(self) -> None:
        """Connect in the background, with endless retries; called again, replace the connection.

        TLS files and the password are read at each attempt. One that is missing or broken is an
        event, like a broker that is away, and is waited for.
        """

    def send(self, topic: str, body: bytes, *, qos: int, retain: bool, expiry_s: int) -> int | None:
        """Send one message; return its id for the acknowledgement, None if not connected.

        Messages that are not acknowledged when the connection is lost are dropped here.
        """

    def acknowledge(self, message: int) -> None:
        """Acknowledge a received command, once it is stored.

        One of an earlier connection is not acknowledged: its number may be that of another
        message by now, and the broker sends the command again.
        """

    def stop(self, topic: str, farewell: bytes) -> None:
        """Publish the farewell (retained) if connected, and disconnect."""


class Notifier(Protocol):
    """The service manager."""

    def ready(self, status: str) -> None:
        """Report that start-up is complete."""

    def alive(self, status: str) -> None:
        """Reset the watchdog and show a status line."""

    def stopping(self) -> None:
        """Report that a clean stop has begun."""


class Signatures(Protocol):
    """The keys that commands may be signed with."""

    def verify(self, token: bytes) -> bytes:
        """Return the signed claims, JSON. Times and device are not checked here.

        Raises:
            CommandError: "bad_signature" with the reason.
        """
