"""Signing in and out, and the one-time links that set a password."""

from __future__ import annotations

from starlette.responses import RedirectResponse, Response

from agent.fleet.console.access import Asked, local_path
from agent.fleet.console.passwords import LONGEST, SHORTEST, AccessError
from agent.fleet.console.routing import Console, Route, message


def _form(console: Console, asked: Asked, status: int = 200, error: str = "") -> Response:
    return console.rendering.html(
        asked,
        "sign_in.html.j2",
        status,
        error=error,
        name=asked.form.get("name", "")[:64],
        next=local_path(asked.query.get("next", "/")),
    )


def _sign_in(console: Console, asked: Asked) -> Response:
    name = asked.form.get("name", "").strip()
    console.accounts.sign_out(asked.session)
    try:
        session = console.accounts.sign_in(name, asked.form.get("password", ""))
    except AccessError as error:
        console.accounts.record(name, "sign-in refused", detail=error.code, address=asked.address)
        waiting = error.code == "wait"
        text = f"{error.message}; {error.hint}" if waiting else error.message
        return _form(console, asked, 429 if waiting else 403, text)
    console.accounts.record(name, "signed in", address=asked.address)
    return _signed_in(console, session, local_path(asked.query.get("next", "/")))


def _sign_out(console: Console, asked: Asked) -> Response:
    console.accounts.sign_out(asked.session)
    response = RedirectResponse("/sign-in", 303)
    response.delete_cookie(
        console.serving.cookie, secure=console.serving.secure, httponly=True, samesite="strict"
    )
    return response


def _link(console: Console, asked: Asked, status: int = 200, error: str = "") -> Response:
    name = console.accounts.link_name(asked.path["token"])
    if name is None:
        text = "It was used, replaced or is too old. An operator can make another one."
        return message(console, asked, 404, "This link is not valid", text)
    return console.rendering.html(
        asked, "link.html.j2", status, name=name, error=error, shortest=SHORTEST, longest=LONGEST
    )


def _use_link(console: Console, asked: Asked) -> Response:
    password = asked.form.get("password", "")
    if password != asked.form.get("again", ""):
        return _link(console, asked, 400, "the two passwords differ")
    try:
        name, session = console.accounts.use_link(asked.path["token"], password)
    except AccessError as error:
        return _link(console, asked, 400, error.message)
    console.accounts.record(name, "set a password by a link", address=asked.address)
    return _signed_in(console, session, "/")


def _signed_in(console: Console, session: str, target: str) -> Response:
    """Return the redirection with the cookie, which other sites can't send and scripts can't read."""
    response = RedirectResponse(target, 303)
    response.set_cookie(
        console.serving.cookie,
        session,
        path="/",
        secure=console.serving.secure,
        httponly=True,
        samesite="strict",
    )
    return response


ROUTES = (
    Route(path="/sign-in", endpoint=_form, role=None),
    Route(path="/sign-in", endpoint=_sign_in, role=None, method="POST"),
    Route(path="/sign-out", endpoint=_sign_out, role=None, method="POST"),
    Route(path="/link/{token}", endpoint=_link, role=None),
    Route(path="/link/{token}", endpoint=_use_link, role=None, method="POST"),
)
