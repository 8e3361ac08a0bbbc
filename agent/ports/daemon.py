"""What the daemon asks of the world: the broker, the service manager, signatures."""

from __future__ import annotations

from typing import Protocol


class Link(Protocol):
    """The connection to the broker. Its threads only put LinkEvents into the daemon's mailbox."""

    @property
    def session(self) -> int:
        """Return the number of the current or last connection, 0 before the first."""

    def start(self) -> None:
        """Begin connecting in the background, or begin anew; never blocks, never gives up.

        Raises:
            ConfigError: if a TLS file can't be used.
        """

    def send(self, topic: str, body: bytes, *, qos: int, retain: bool, expiry_s: int) -> int | None:
        """Hand over one message; return its id for the acknowledgement, None if not connected.

        What is not acknowledged when the connection is lost is forgotten here.
        """

    def acknowledge(self, message: int) -> None:
        """Tell the broker that a received command is safely stored."""

    def stop(self, topic: str, farewell: bytes) -> None:
        """Publish the farewell (retained) if connected, and disconnect cleanly."""


class Notifier(Protocol):
    """The service manager."""

    def ready(self, status: str) -> None:
        """Say that start-up is complete."""

    def alive(self, status: str) -> None:
        """Pet the watchdog and show a status line."""

    def stopping(self) -> None:
        """Say that a clean stop has begun."""


class Signatures(Protocol):
    """The keys that may give commands."""

    def verify(self, token: bytes) -> bytes:
        """Return the signed claims as they are, JSON.

        Raises:
            CommandError: "bad_signature" with the reason.
        """
