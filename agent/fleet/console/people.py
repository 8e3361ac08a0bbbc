"""The users of the console, and the audit log: for operators."""

from __future__ import annotations

from starlette.responses import RedirectResponse, Response

from agent.fleet.console.access import Asked
from agent.fleet.console.accounts import LINK_S, Role
from agent.fleet.console.paging import ROWS, page_number
from agent.fleet.console.passwords import AccessError
from agent.fleet.console.routing import Console, Route


def _people(
    console: Console, asked: Asked, status: int = 200, error: str = "", token: str = ""
) -> Response:
    return console.rendering.html(
        asked,
        "people.html.j2",
        status,
        users=console.accounts.users(),
        roles=[role.value for role in Role],
        error=error,
        token=token,
        token_for=asked.form.get("name", "") if token else "",
        hours=LINK_S // 3600,
    )


def _invite(console: Console, asked: Asked) -> Response:
    name, role = asked.form.get("name", "").strip(), asked.form.get("role", "")
    if role not in {one.value for one in Role}:
        return _people(console, asked, 400, f"{role[:20]!r} is no role")
    try:
        token = console.accounts.link(name, Role(role))
    except AccessError as error:
        return _people(console, asked, 400, error.message)
    console.accounts.record(
        asked.name, "made a sign-in link", name, detail=role, address=asked.address
    )
    return _people(console, asked, token=token)


def _remove(console: Console, asked: Asked) -> Response:
    name = asked.path["name"]
    try:
        console.accounts.remove(name)
    except AccessError as error:
        return _people(console, asked, 400, error.message)
    console.accounts.record(asked.name, "removed a user", name, address=asked.address)
    return RedirectResponse("/people", 303)


def _audit(console: Console, asked: Asked) -> Response:
    number = page_number(asked)
    entries = console.accounts.audit((number - 1) * ROWS, ROWS + 1)
    return console.rendering.html(
        asked,
        "audit.html.j2",
        entries=entries[:ROWS],
        number=number,
        more=len(entries) > ROWS,
    )


ROUTES = (
    Route(path="/people", endpoint=_people, role=Role.OPERATOR),
    Route(path="/people", endpoint=_invite, role=Role.OPERATOR, method="POST"),
    Route(path="/people/{name}/remove", endpoint=_remove, role=Role.OPERATOR, method="POST"),
    Route(path="/audit", endpoint=_audit, role=Role.OPERATOR),
)
