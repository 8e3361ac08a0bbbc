"""Messages that could not be stored: which, and why."""

from __future__ import annotations

from starlette.responses import Response

from agent.fleet.console.access import Asked
from agent.fleet.console.paging import ROWS
from agent.fleet.console.routing import Console, Route


def _quarantine(console: Console, asked: Asked) -> Response:
    device = asked.query.get("device", "").strip()[:128]
    rows = console.store.quarantine(device, limit=2 * ROWS)
    return console.rendering.html(
        asked,
        "quarantine.html.j2",
        device=device,
        rows=[(one, one.head[:240].decode("utf-8", "replace")) for one in rows],
        now_ms=console.now_ms,
    )


ROUTES = (Route(path="/quarantine", endpoint=_quarantine),)
