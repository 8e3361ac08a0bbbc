"""The page of one device: now, reports over time, releases, events, commands."""

from __future__ import annotations

import math
from typing import Any
from urllib.parse import quote

from starlette.responses import JSONResponse, Response

from agent.core.fleet.devices import DeviceDetail, Sample
from agent.fleet.console.access import Asked
from agent.fleet.console.history import History, history
from agent.fleet.console.live import Parts, stream
from agent.fleet.console.routing import Console, Route, message
from agent.fleet.console.words import parsed
from agent.fleet.figures import numbers

HOURS = (1, 6, 24, 24 * 7, 24 * 30)
_HOUR_MS = 3_600_000
_POINTS = 2000  # of a chart
_ROWS = 20
# What a release may lack that an earlier version listed.
_RELEASE: dict[str, object] = dict.fromkeys(("id", "model", "precision", "made", "good"))
_RELEASE |= {"reason": "", "pinned": False}


def _device(console: Console, asked: Asked) -> Response:
    name = asked.path["name"]
    found = console.store.device(name, console.now_ms)
    if found is None:
        return message(console, asked, 404, "No such device", "No message of it was ever stored.")
    past = console.remembered.get(
        ("history", name), 5.0, lambda: history(console.store, name, console.now_ms)
    )
    return console.rendering.html(
        asked,
        "device.html.j2",
        **_sections(console, found, past),
        detail=found,
        environment=parsed(found.environment) or {},
        past=past,
        figures=sorted(numbers(found.device.figures)),
        hours=HOURS,
        live=f"/live/devices/{quote(name)}",
    )


def _sections(console: Console, found: DeviceDetail, past: History) -> dict[str, Any]:
    """Return what the live parts of the page show."""
    return {
        "one": found.device,
        "now": numbers(found.device.figures),
        "newest": past.newest,
        "releases": [_RELEASE | one for one in parsed(found.releases) or []],
        "events": console.store.events(found.device.name, limit=_ROWS),
        "results": console.store.results(found.device.name, limit=_ROWS),
        "now_ms": console.now_ms,
    }


def _live(console: Console, asked: Asked) -> Response:
    name = asked.path["name"]

    def look() -> Parts:
        found = console.store.device(name, console.now_ms)
        if found is None:
            return {}
        past = console.remembered.get(
            ("history", name), 5.0, lambda: history(console.store, name, console.now_ms)
        )
        values = _sections(console, found, past)

        def html(part: str) -> str:
            return console.rendering.text(f"device_{part}.html.j2", asked=asked, **values)

        return {
            "now": ((found.device, past.newest), lambda: html("now")),
            "releases": ((found.releases, found.device.release), lambda: html("releases")),
            "events": (tuple(values["events"]), lambda: html("events")),
            "results": (tuple(values["results"]), lambda: html("results")),
        }

    return stream(console, look)


def _telemetry(console: Console, asked: Asked) -> Response:
    """Return one figure over time: times in s, values, and the ends of hours."""
    figure, hours = asked.query.get("figure", ""), asked.query.get("hours", "24")
    span_h = int(hours) if hours in {str(one) for one in HOURS} else 24
    now_ms = console.now_ms
    found = console.store.telemetry(asked.path["name"], now_ms - span_h * _HOUR_MS, now_ms + 1)
    points = [one for one in (_point(sample, figure) for sample in found) if one]
    step = max(1, math.ceil(len(points) / _POINTS))
    columns = list(zip(*points[::step], strict=True)) or [(), (), (), ()]
    return JSONResponse({"figure": figure, "data": columns})


def _point(sample: Sample, figure: str) -> tuple[float, float, float, float] | None:
    """Return time in s, mean, least and greatest; None where the figure is not in it."""
    value = (parsed(sample.figures) or {}).get(figure)
    if isinstance(value, list) and len(value) == 4 and value[0]:
        n, total, least, greatest = value
        return (sample.at_ms / 1000, total / n, least, greatest)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return (sample.at_ms / 1000, value, value, value)


ROUTES = (
    Route(path="/devices/{name}", endpoint=_device),
    Route(path="/devices/{name}/telemetry", endpoint=_telemetry),
    Route(path="/live/devices/{name}", endpoint=_live, passive=True),
)
