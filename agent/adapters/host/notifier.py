"""The Notifier port over systemd's notification socket; does nothing where there is none."""

from __future__ import annotations

import contextlib
import os
import socket


class SystemdNotifier:
    """Sends state to the service manager that set NOTIFY_SOCKET.

    Sending never blocks: with a full socket a status line is lost. A socket is opened for each
    message, as systemd's own library does, so no child inherits one.

    Source: sd_notify(3), "Notes" for the protocol.
    """

    def __init__(self) -> None:
        name = os.environ.get("NOTIFY_SOCKET", "")
        # "@" stands for the zero byte of an abstract socket; vsock and others are not supported.
        self._address = ""
        if name.startswith(("/", "@")):
            self._address = "\0" + name[1:] if name[0] == "@" else name

    def ready(self, status: str) -> None:
        """See `ports.Notifier`."""
        self._send("READY=1", status)

    def alive(self, status: str) -> None:
        """See `ports.Notifier`."""
        self._send("WATCHDOG=1", status)

    def stopping(self) -> None:
        """See `ports.Notifier`."""
        self._send("STOPPING=1", "stopping")

    def _send(self, state: str, status: str) -> None:
        if not self._address:
            return
        line = " ".join(status.split())  # a line break would begin another assignment
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        with socket.socket(socket.AF_UNIX, kind) as sender, contextlib.suppress(OSError):
            # A manager that has ended must not end the daemon.
            sender.sendto(f"{state}\nSTATUS={line}".encode(), self._address)
