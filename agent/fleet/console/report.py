"""A report as quantd's own page shows it, from report.json: a device's HTML is never served."""

from __future__ import annotations

import logging

from starlette.responses import HTMLResponse, Response

from agent.fleet.console.access import Asked
from agent.fleet.console.routing import Console, Route, message
from agent.fleet.reading import UnreadableError, typed
from agent.page.render import render

_LOG = logging.getLogger(__name__)
# What right types with impossible values lead to.
_UNDRAWABLE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
# The page has its style and its pictures inside, and no script.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)


def _report(console: Console, asked: Asked) -> Response:
    device, report = asked.path["name"], asked.path["report"]
    body = _body(console, asked)
    if body is None:
        return message(console, asked, 404, "No such report", "It was never stored, or removed.")
    try:
        page = render(typed(body))
    except UnreadableError as error:
        return message(console, asked, 422, "This report can't be shown", str(error))
    except _UNDRAWABLE:
        _LOG.exception("report_not_rendered device=%s report=%s", device, report)
        return message(console, asked, 422, "This report can't be shown", "See the log.")
    return HTMLResponse(page, headers={"content-security-policy": _POLICY})


def _json(console: Console, asked: Asked) -> Response:
    body = _body(console, asked)
    if body is None:
        return message(console, asked, 404, "No such report", "It was never stored, or removed.")
    return Response(
        body,
        media_type="application/json",
        headers={"content-disposition": 'attachment; filename="report.json"'},
    )


def _body(console: Console, asked: Asked) -> bytes | None:
    try:
        return console.store.report(asked.path["name"], asked.path["report"])
    except (OverflowError, ValueError):  # no id
        return None


ROUTES = (
    Route(path="/devices/{name}/reports/{report}", endpoint=_report),
    Route(path="/devices/{name}/reports/{report}/report.json", endpoint=_json),
)
