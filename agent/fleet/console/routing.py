"""From a request to a page: the role that it needs, its origin, and the answer otherwise."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route as Registered

from agent.core.errors import StoreError
from agent.fleet.console.access import (
    BODY_LIMIT_BYTES,
    Asked,
    Serving,
    address_of,
    body_of,
    fields,
    is_own_origin,
    user_of,
)
from agent.fleet.console.accounts import Accounts, Role
from agent.fleet.console.commands import Commands
from agent.fleet.console.remembered import Remembered
from agent.fleet.console.rendering import Rendering
from agent.fleet.console.viewers import Viewers
from agent.ports.fleet import FleetStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """What the pages are made from.

    Attributes:
        metrics_token: What a reader of metrics must give; "" without metrics.
        wake: Has the commands sent that wait for it.
        clock: Wall clock, s since 1970.
    """

    accounts: Accounts
    store: FleetStore
    commands: Commands
    wake: Callable[[], None] = lambda: None
    remembered: Remembered = field(default_factory=Remembered)
    viewers: Viewers = field(default_factory=Viewers)
    metrics_token: str = ""
    serving: Serving = field(default_factory=Serving)
    rendering: Rendering = field(default_factory=Rendering)
    clock: Callable[[], float] = time.time

    @property
    def now_ms(self) -> int:
        """Return the time, ms since 1970."""
        return int(self.clock() * 1000)


_ELSEWHERE = "The form came from another site, or from a browser that names no origin."
Endpoint = Callable[[Console, Asked], Response]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A page, or what a form is posted to.

    Attributes:
        role: Needed to get an answer; None if anyone may ask.
        passive: Whether a page asks by itself, so that it keeps no session alive.
        endpoint: Runs in a thread of its own, so it may wait for the store.
    """

    path: str
    endpoint: Endpoint
    role: Role | None = Role.VIEWER
    method: str = "GET"
    passive: bool = False

    def registered(self, console: Console) -> Registered:
        """Return the route as Starlette takes it, with everything that is checked before."""

        async def answer(request: Request) -> Response:
            return await _answer(self, console, request)

        return Registered(self.path, answer, methods=[self.method])


def message(console: Console, asked: Asked, status: int, title: str, text: str = "") -> Response:
    """Return a page with one message."""
    return console.rendering.html(asked, "message.html.j2", status, title=title, text=text)


async def _answer(route: Route, console: Console, request: Request) -> Response:
    body = await body_of(request)
    if body is None:
        return PlainTextResponse(f"more than {BODY_LIMIT_BYTES} bytes\n", 413)
    try:
        asked = _asked(request, console.serving, body)
    except ValueError:
        return PlainTextResponse("a query or a form that can't be read\n", 400)
    try:
        user = await run_in_threadpool(
            user_of, request, console.accounts, console.serving, passive=route.passive
        )
        asked = replace(asked, user=user)
        refused = _refusal(route, console, asked, request)
        if refused is not None:
            return refused
        return await run_in_threadpool(route.endpoint, console, asked)
    except StoreError as error:
        return message(console, asked, 503, "The store does not answer", str(error))


def _refusal(route: Route, console: Console, asked: Asked, request: Request) -> Response | None:
    """Return the answer to a request that is not allowed, None if it is."""
    if route.method == "POST" and not is_own_origin(request):
        return message(console, asked, 403, "Not sent from this console", _ELSEWHERE)
    if route.role is None:
        return None
    if asked.user is None:
        return _sign_in_first(route, console, asked, request)
    if not asked.user.role.includes(route.role):
        text = f"You are a {asked.user.role.value}; this is for an {route.role.value}."
        return message(console, asked, 403, "Not allowed", text)
    return None


def _sign_in_first(route: Route, console: Console, asked: Asked, request: Request) -> Response:
    if console.serving.user_header:  # signing in here would change nothing
        return message(console, asked, 401, "Not signed in", "The proxy named no user.")
    if route.method == "POST" or "text/html" not in request.headers.get("accept", ""):
        return PlainTextResponse("sign in first\n", 401)
    return RedirectResponse(f"/sign-in?next={quote(asked.url, safe='')}", 303)


def _asked(request: Request, serving: Serving, body: bytes) -> Asked:
    query = request.url.query
    return Asked(
        user=None,
        path=dict(request.path_params),
        query=fields(query),
        form=fields(body.decode()) if body else {},
        session=request.cookies.get(serving.cookie, ""),
        address=address_of(request, serving),
        url=request.url.path + (f"?{query}" if query else ""),
    )
