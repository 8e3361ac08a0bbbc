"""The models of the fleet: each by board and precision, with the devices that stand out."""

from __future__ import annotations

from starlette.responses import Response

from agent.core.fleet.comparison import Comparison, compare_devices
from agent.fleet.console.access import Asked
from agent.fleet.console.paging import ROWS, page_number
from agent.fleet.console.routing import Console, Route, message

_AGE_S = 10.0


def _models(console: Console, asked: Asked) -> Response:
    found = console.remembered.get("models", _AGE_S, console.store.models)
    return console.rendering.html(asked, "models.html.j2", models=found)


def _model(console: Console, asked: Asked) -> Response:
    name = asked.path["model"]

    def ask() -> tuple[Comparison, int]:
        rows = console.store.newest_reports(name)
        return compare_devices(rows), len(rows)

    found, devices = console.remembered.get(("model", name), _AGE_S, ask)
    if not devices:
        return message(console, asked, 404, "No such model", "There is no report on it.")
    number = page_number(asked)
    return console.rendering.html(
        asked,
        "model.html.j2",
        model=name,
        devices=devices,
        groups=found.groups,
        slowest_ms=max((one.latency_p50_ms or 0.0 for one in found.groups), default=0.0),
        outliers=found.outliers[(number - 1) * ROWS : number * ROWS],
        standing_out=len(found.outliers),
        number=number,
        more=number * ROWS < len(found.outliers),
    )


ROUTES = (
    Route(path="/models", endpoint=_models),
    Route(path="/models/{model}", endpoint=_model),
)
