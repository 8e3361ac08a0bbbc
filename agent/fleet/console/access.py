"""What every request passes: its user, its origin, its size; and what every answer carries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent.fleet.console.accounts import Accounts, Role, User

BODY_LIMIT_BYTES = 8_000_000  # a file with signed commands for 10,000 devices
_FIELDS = 100
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "same-origin",  # with no-referrer, forms would have the origin "null"
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class Protected:
    """Adds the headers of every answer, errors included, where the answer has none of its own.

    Args:
        app: What answers.
        secure: Whether browsers reach it by https.
    """

    def __init__(self, app: ASGIApp, *, secure: bool) -> None:
        self._app = app
        self._headers = dict(_HEADERS)
        if secure:
            self._headers["strict-transport-security"] = "max-age=31536000"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""

        async def protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, protected if scope["type"] == "http" else send)


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """How the console is reached.

    Attributes:
        secure: Whether browsers reach it by https, here or at a proxy.
        user_header: The header in which a trusted proxy names the user; "" without one.
        proxies: Addresses of proxies that are trusted: with the user, and the client's address.
    """

    secure: bool = False
    user_header: str = ""
    proxies: tuple[str, ...] = ()

    @property
    def cookie(self) -> str:
        """Return the name of the session's cookie; __Host- requires https."""
        return "__Host-quantd" if self.secure else "quantd"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request, read and authenticated.

    Attributes:
        user: None where the page needs none.
        path: The values in the path, by name.
        query: The last value of each name.
        form: As `query`, of a posted form.
        session: The cookie's value, "" without one.
        address: Of the client, or of the proxy.
        url: Path and query, to return to.
    """

    user: User | None
    path: Mapping[str, str]
    query: Mapping[str, str]
    form: Mapping[str, str]
    session: str = ""
    address: str = ""
    url: str = "/"

    @property
    def name(self) -> str:
        """Return the user's name, "" without one."""
        return self.user.name if self.user else ""


def user_of(
    request: Request, accounts: Accounts, serving: Serving, *, passive: bool = False
) -> User | None:
    """Return the user of a request: by the proxy's header where one is trusted, else the session.

    A user that only the proxy knows is a viewer. A passive request keeps no session alive.
    """
    if serving.user_header:
        if _peer(request) not in serving.proxies:
            return None
        name = request.headers.get(serving.user_header, "").strip()[:64]
        return User(name=name, role=accounts.role(name) or Role.VIEWER) if name else None
    session = request.cookies.get(serving.cookie, "")
    return accounts.user_of(session, passive=passive) if session else None


def is_own_origin(request: Request) -> bool:
    """Return whether a POST comes from a page of this console, by what only browsers can set.

    Sec-Fetch-Site decides where it is sent (https and localhost), else Origin beside Host. A
    request with neither is not from a browser's form, and is refused as well.
    """
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    if site is not None and site != "same-origin":
        return False
    if origin is None:
        return site == "same-origin"
    host = request.headers.get("host", "")
    return bool(host) and urlsplit(origin).netloc == host


def address_of(request: Request, serving: Serving) -> str:
    """Return the client's address: of the last hop that a trusted proxy names, else of the peer."""
    hops = request.headers.get("x-forwarded-for", "")
    if hops and _peer(request) in serving.proxies:
        return hops.rpartition(",")[2].strip()
    return _peer(request)


def _peer(request: Request) -> str:
    return request.client.host if request.client else ""


async def body_of(request: Request) -> bytes | None:
    """Return the body, None if it is too large."""
    parts: list[bytes] = []
    left = BODY_LIMIT_BYTES
    async for part in request.stream():
        left -= len(part)
        if left < 0:
            return None
        parts.append(part)
    return b"".join(parts)


def fields(text: str) -> dict[str, str]:
    """Return the last value of each name in a query or an urlencoded form.

    Raises:
        ValueError: If there are too many.
    """
    return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=_FIELDS))


def local_path(text: str) -> str:
    """Return a path to return to after signing in; "/" for what leads elsewhere."""
    parts = urlsplit(text)
    elsewhere = parts.scheme or parts.netloc or not text.startswith("/") or text.startswith("//")
    odd = "\\" in text or any(ord(one) < 32 for one in text)
    return "/" if elsewhere or odd else text
