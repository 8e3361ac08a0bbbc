"""Server-sent events: once a second, what changed of what a visitor looks at."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from agent.core.errors import StoreError
from agent.core.fleet.devices import Device
from agent.fleet.console.access import Asked
from agent.fleet.console.paging import ROWS
from agent.fleet.console.routing import Console, Route

EVERY_S = 1.0
_STREAM_S = 60  # then the browser connects again, and its session is checked again


Parts = Mapping[str, tuple[object, Callable[[], str]]]
"""What is shown, by the ids of elements: what it depends on, and its HTML."""


def stream(console: Console, look: Callable[[], Parts]) -> Response:
    """Return the events of one visitor: JSON objects of HTML by element id.

    Args:
        console: Of the visitor.
        look: Returns the parts as they are now; called in a thread, once a second.
    """
    if not console.viewers.enter():
        return PlainTextResponse("too many viewers\n", 503)

    async def events() -> AsyncIterator[str]:
        known: dict[str, object] = {}
        try:
            yield "retry: 2000\n\n"
            for second in range(_STREAM_S):
                changed, known = await run_in_threadpool(_changes, look, known)
                if changed and second:  # the first look is what the page has
                    yield f"data: {json.dumps(changed)}\n\n"
                elif second % 15 == 0:
                    yield ": still here\n\n"
                await asyncio.sleep(EVERY_S)
        except StoreError:
            yield "event: lost\ndata: the store does not answer\n\n"
        finally:
            console.viewers.leave()

    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(events(), media_type="text/event-stream", headers=headers)


def _changes(
    look: Callable[[], Parts], known: dict[str, object]
) -> tuple[dict[str, str], dict[str, object]]:
    parts = look()
    changed = {
        name: html() for name, (value, html) in parts.items() if known.get(name, parts) != value
    }
    return changed, {name: value for name, (value, _) in parts.items()}


def _rows(console: Console, asked: Asked) -> Response:
    names = tuple(asked.query.get("names", "").split(","))[:ROWS]

    def look() -> Parts:
        return {f"d-{one.name}": (one, _row(console, one)) for one in _devices(console, names)}

    return stream(console, look)


def _devices(console: Console, names: Sequence[str]) -> Sequence[Device]:
    """Return devices as they are; visitors of the same page share the answer of a second."""
    return console.remembered.get(
        ("rows", names), EVERY_S / 2, lambda: console.store.named(names, console.now_ms)
    )


def _row(console: Console, device: Device) -> Callable[[], str]:
    return lambda: console.rendering.text("device_row.html.j2", one=device, now_ms=console.now_ms)


ROUTES = (Route(path="/live/rows", endpoint=_rows, passive=True),)
