"""The first page: what needs attention, counts, and the table of devices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response

from agent.core.fleet.devices import ATTENTION, GROUPED, SORTS, Counts, Device, DeviceQuery, Page
from agent.fleet.console.access import Asked
from agent.fleet.console.paging import ROWS, page_number
from agent.fleet.console.routing import Console, Route

COUNTS_AGE_S = 2.0
FILTERS = {
    "status": "State",
    "model": "Model",
    "precision": "Precision",
    "board": "Board",
    "jetpack": "JetPack",
    "agent": "quantd",
}
"""Columns with a list to filter by; one can also be given for the others of `GROUPED`."""
COLUMNS = {
    "name": "Device",
    "attention": "Needs attention",
    "status": "State",
    "model": "Model",
    "precision": "Precision",
    "board": "Board",
    "latency_p50_ms": "p50 ms",
    "power_w": "power W",
    "agreement": "agreement",
    "seen_ms": "Heard",
}
_ASCENDING = {"name", "status", "model", "precision", "board", "seen_ms"}  # at first


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Which devices a visitor looks at, as the query of the page has it."""

    query: DeviceQuery
    number: int = 1

    def url(self, **changes: Any) -> str:
        """Return the path of the same view with other values; page 1 unless it is among them."""
        query = replace(self.query, **{k: v for k, v in changes.items() if k != "page"})
        where = dict(query.where)
        usual = query.descending == (query.sort not in _ASCENDING)
        labels = ", ".join(f"{key}={value}" for key, value in where.items() if key not in GROUPED)
        values = {
            "q": query.search,
            "attention": query.attention,
            **{key: where.get(key, "") for key in GROUPED},
            "label": labels,
            "sort": "" if query.sort == "attention" and usual else query.sort,
            "order": "" if usual else ("desc" if query.descending else "asc"),
            "page": changes.get("page", ""),
        }
        asked = urlencode({key: value for key, value in values.items() if value})
        return f"/?{asked}" if asked else "/"

    def only(self, key: str, value: str) -> str:
        """Return the path of the devices that also have this value, or any one if it is empty."""
        kept = tuple((one, its) for one, its in self.query.where if one != key)
        return self.url(where=kept + (((key, value),) if value else ()))

    def sorted_by(self, column: str) -> str:
        """Return the path with this order, turned round if it is this one already."""
        again = column == self.query.sort
        descending = not self.query.descending if again else column not in _ASCENDING
        return self.url(sort=column, descending=descending)

    def direction(self, column: str) -> str:
        """Return the column's value of aria-sort."""
        if column != self.query.sort:
            return "none"
        return "descending" if self.query.descending else "ascending"


def view(asked: Mapping[str, str], number: int = 1) -> View:
    """Return what a query asks for; what it can't mean is left out."""
    sort, attention = asked.get("sort", ""), asked.get("attention", "")
    sort = sort if sort in SORTS else "attention"
    order = asked.get("order", "")
    labels = [one.partition("=") for one in asked.get("label", "").split(",")][:8]
    where = [(key, asked[key][:128]) for key in GROUPED if asked.get(key)]
    where += [(k.strip()[:128], v.strip()[:128]) for k, equals, v in labels if equals and k.strip()]
    return View(
        query=DeviceQuery(
            search=asked.get("q", "").strip()[:64],
            where=tuple(where),
            attention=attention if attention in {"any", *ATTENTION} else "",
            sort=sort,
            descending=order == "desc" if order in {"asc", "desc"} else sort not in _ASCENDING,
            limit=ROWS,
            offset=(number - 1) * ROWS,
        ),
        number=number,
    )


def counted(console: Console) -> tuple[Counts, int]:
    """Return the counts of the fleet, and how many devices need attention."""
    now_ms = console.now_ms

    def ask() -> tuple[Counts, int]:
        needed = console.store.devices(DeviceQuery(attention="any", limit=0), now_ms).total
        return console.store.counts(now_ms), needed

    return console.remembered.get("counts", COUNTS_AGE_S, ask)


def _fleet(console: Console, asked: Asked) -> Response:
    shown = view(asked.query, page_number(asked))
    page: Page[Device] = console.store.devices(shown.query, console.now_ms)
    counts, needed = counted(console)
    labels = console.remembered.get("labels", 10.0, console.store.labels)
    return console.rendering.html(
        asked,
        "fleet.html.j2",
        view=shown,
        page=page,
        more=shown.number * ROWS < page.total,
        counts=counts,
        needed=needed,
        labels=labels[:200],
        columns=COLUMNS,
        filters=tuple(FILTERS),
        titles=FILTERS,
        reasons=ATTENTION,
        chosen=dict(shown.query.where),
        now_ms=console.now_ms,
        live=f"/live/rows?{urlencode({'names': ','.join(one.name for one in page.rows)})}",
    )


ROUTES = (Route(path="/", endpoint=_fleet),)
