"""The console's server: where it listens, and that passwords never cross a network in the clear."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from agent.core.errors import ConfigError
from agent.fleet.console.access import Serving

_CONNECTIONS = 2000
_GRACE_S = 2  # for open streams, when it ends


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """Where and how the console is served.

    Attributes:
        cert: PEM file with the certificate and its chain; "" without TLS.
        behind_proxy: Whether a proxy in front ends TLS.
        user_header: The header in which that proxy names the user; "" if users sign in here.
        proxies: Its addresses.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    cert: str = ""
    key: str = ""
    behind_proxy: bool = False
    user_header: str = ""
    proxies: tuple[str, ...] = ("127.0.0.1", "::1")

    @property
    def serving(self) -> Serving:
        """Return what the pages must know of it."""
        return Serving(
            secure=bool(self.cert) or self.behind_proxy,
            user_header=self.user_header.lower(),
            proxies=self.proxies if self.behind_proxy else (),
        )

    @property
    def url(self) -> str:
        """Return its address for a browser on this machine, or on its network."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.cert else 'http'}://{host}:{self.port}"


def listening_at(address: str, **how: str | bool | tuple[str, ...]) -> Listening:
    """Return where to listen, from HOST:PORT or PORT.

    Args:
        address: Of the command line.
        how: The other attributes of `Listening`.

    Raises:
        ConfigError: "usage" if passwords would cross a network unencrypted, or the address is none.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    if not (port.isascii() and port.isdecimal()) or not 0 < int(port) < 65_536:
        hint = "HOST:PORT or PORT, as 127.0.0.1:8765"
        raise ConfigError(f"--listen: {address[:64]!r} is no address", code="usage", hint=hint)
    found = Listening(host=host, port=int(port), **how)  # type: ignore[arg-type]  # by their names
    if bool(found.cert) != bool(found.key):
        raise ConfigError("--tls-cert and --tls-key need each other", code="usage")
    if found.user_header and not found.behind_proxy:
        hint = "without a proxy, anyone could send that header"
        raise ConfigError("--user-header needs --behind-proxy", code="usage", hint=hint)
    if not (_is_loopback(host) or found.cert or found.behind_proxy):
        raise ConfigError(
            f"--listen {host} without TLS: passwords would cross the network in the clear",
            code="usage",
            hint="give --tls-cert and --tls-key, or --behind-proxy if a proxy ends TLS, or listen "
            "on 127.0.0.1 and reach it by `ssh -L`",
        )
    return found


def bound(listening: Listening) -> socket.socket:
    """Return the listening socket.

    Raises:
        ConfigError: If the address can't be used.
    """
    family = socket.AF_INET6 if ":" in listening.host else socket.AF_INET
    try:
        return socket.create_server((listening.host, listening.port), family=family, backlog=512)
    except OSError as error:
        raise ConfigError(
            f"{listening.host}:{listening.port}: {error.strerror or error}",
            hint="choose another address with --listen",
        ) from error


async def serve(app: ASGIApp, listening: Listening, at: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        ConfigError: If the certificate or its key can't be used.
    """
    files = {"ssl_certfile": listening.cert, "ssl_keyfile": listening.key} if listening.cert else {}
    for file in files.values():
        if not Path(file).is_file():
            raise ConfigError(f"{file} is no file", hint="PEM files that this user can read")
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="off",
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=_GRACE_S,
        **files,  # type: ignore[arg-type]  # as their names
    )
    server = _Server(config)
    loop = asyncio.get_running_loop()
    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, setattr, server, "should_exit", True)
    await server.serve(sockets=[at])


class _Server(uvicorn.Server):
    """Leaves signals to its caller: uvicorn would raise them again once it has ended."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
