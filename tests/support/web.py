"""Requests to an ASGI application in this process, as a browser would send them."""

from __future__ import annotations

import asyncio
import functools
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import unquote, urlencode, urlsplit

import uvicorn

from agent.fleet.console.app import app
from agent.fleet.console.rendering import Rendering
from agent.fleet.console.routing import Console

rendering = functools.cache(Rendering)  # compiled once for all tests
HOST = "fleet.example"


@dataclass(kw_only=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """Return the body as text."""
        return self.body.decode()


@dataclass(kw_only=True)
class Visitor:
    """A browser without pictures: it keeps cookies and names its own origin in forms.

    Attributes:
        leaves: Whether it closes the connection at the first part of an answer that continues.
    """

    app: Any
    leaves: bool = False
    cookies: dict[str, str] = field(default_factory=dict)
    set_cookie: str = ""
    peer: str = "192.0.2.7"

    def get(self, url: str, **headers: str) -> Answer:
        """Load a page; headers by their names with _ for -."""
        return self._ask("GET", url, b"", {"accept": "text/html", **headers})

    def post(self, url: str, form: dict[str, str] | None = None, **headers: str) -> Answer:
        """Post a form."""
        usual = {
            "accept": "text/html",
            "content-type": "application/x-www-form-urlencoded",
            "origin": f"http://{HOST}",
            "sec_fetch_site": "same-origin",
        }
        merged = {name: value for name, value in {**usual, **headers}.items() if value}
        return self._ask("POST", url, urlencode(form or {}).encode(), merged)

    def _ask(self, method: str, url: str, body: bytes, headers: dict[str, str]) -> Answer:
        parts = urlsplit(url)
        sent = {"host": HOST} | {name.replace("_", "-"): value for name, value in headers.items()}
        if self.cookies:
            sent["cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method,
            "scheme": "http", "path": unquote(parts.path), "raw_path": parts.path.encode(),
            "query_string": parts.query.encode(), "root_path": "", "client": (self.peer, 40000),
            "server": (HOST, 80),
            "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
        }  # fmt: skip
        answer = asyncio.run(_call(self.app, scope, body, leaves=self.leaves))
        if "set-cookie" in answer.headers:
            self.set_cookie = answer.headers["set-cookie"]
            for name, one in SimpleCookie(self.set_cookie).items():
                self.cookies[name] = one.value
                if one["max-age"] == "0":
                    del self.cookies[name]
        return answer


async def _call(app: Any, scope: dict[str, Any], body: bytes, *, leaves: bool) -> Answer:
    sent: list[dict[str, Any]] = []
    left = asyncio.Event()  # never set by a visitor who stays until the answer has ended
    parts = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if parts:
            return parts.pop(0)
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)
        if leaves and message.get("body") and message.get("more_body"):
            left.set()

    await app(scope, receive, send)
    start = next(one for one in sent if one["type"] == "http.response.start")
    headers = {name.decode().lower(): value.decode() for name, value in start["headers"]}
    found = b"".join(one.get("body", b"") for one in sent if one["type"] == "http.response.body")
    return Answer(status=start["status"], headers=headers, body=found)


@contextmanager
def served(console: Console) -> Iterator[str]:
    """Serve on a free port of this machine, in a thread."""
    listener = socket.create_server(("127.0.0.1", 0))
    options: dict[str, Any] = {
        "log_config": None,
        "lifespan": "off",
        "timeout_graceful_shutdown": 1,
    }
    server = uvicorn.Server(uvicorn.Config(app(console), **options))
    server.install_signal_handlers = lambda: None
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
