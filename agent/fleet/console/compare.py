"""Two devices, or two reports, condition by condition and figure by figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from agent.core.fleet.devices import ReportRow
from agent.core.report.figures import at
from agent.core.report.metrics import MODEL_METRICS, number, reported_row
from agent.fleet.console.access import Asked
from agent.fleet.console.routing import Console, Route
from agent.fleet.console.words import figure
from agent.fleet.reading import document

_INTERVALS = {
    "latency_p50_ms": "measured.latency_ms.ci95_p50",
    "latency_p99_ms": "measured.latency_ms.ci95_p99",
    "power_w": "load.power_w.ci95",
    "energy_j": "load.energy_j_ci95",
    "sqnr_db": "fidelity.sqnr_db_ci95",
    "agreement": "fidelity.agreement_ci95",
}
_CONDITIONS = {
    "runtime": "runtime",
    "power mode": "power_mode",
    "batch": "batch",
    "rate, FPS": "measured.at_rate.rate_fps",
    "steady": "measured.steady",
    "throttled": "measured.throttled",
}
_HIDDEN = {"measured", "quantd"}  # of the environment: no conditions of a measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of both: a report and where it is."""

    row: ReportRow
    report: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One condition or figure on both sides, as text.

    Attributes:
        change: Of the second against the first; "" where it makes no sense.
        differs: Whether both are known and differ, figures beyond their intervals.
    """

    title: str
    a: str
    b: str
    change: str = ""
    differs: bool = False


def _compare(console: Console, asked: Asked) -> Response:
    a, b = (asked.query.get(name, "").strip()[:200] for name in ("a", "b"))
    sides = [_side(console, text) for text in (a, b)]
    missing = [text for text, side in zip((a, b), sides, strict=True) if text and side is None]
    left, right = sides
    tables: list[tuple[str, list[Line]]] = []
    conditions: list[Line] = []
    if left is not None and right is not None:
        tables = _tables(left, right)
        conditions = _environment(left.report, right.report)
    return console.rendering.html(
        asked,
        "compare.html.j2",
        a=a,
        b=b,
        left=left,
        right=right,
        missing=missing,
        conditions=conditions,
        tables=tables,
    )


def _side(console: Console, text: str) -> Side | None:
    """Return a side from DEVICE, for its newest report, or DEVICE/REPORT."""
    device, _, wanted = text.partition("/")
    if not device:
        return None
    rows = console.store.reports(device, limit=20)
    row = next((one for one in rows if wanted in {"", one.id}), None)
    report = document(console.store, device, row.id) if row else None
    return Side(row=row, report=report) if row is not None and report is not None else None


def _tables(left: Side, right: Side) -> list[tuple[str, list[Line]]]:
    """Return the chosen candidates, then each candidate that both have measured."""
    chosen = [reported_row(one.report, one.row.candidate) for one in (left, right)]
    tables = [
        (f"Chosen: {left.row.candidate} and {right.row.candidate}", _figures(*chosen)),
    ]
    both = [name for name in _candidates(left.report) if name in _candidates(right.report)]
    for name in both[:20]:
        rows = [reported_row(one.report, name) for one in (left, right)]
        if any(at(one, "measured") for one in rows):
            tables.append((name, _figures(*rows)))
    return tables


def _environment(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Line]:
    """Return the conditions of both runs."""
    places = {"model": "model.sha256", "calibration": "calibration.digest"}
    lines = [Line(title=title, a=_short(at(a, place)), b=_short(at(b, place)), differs=at(a, place) != at(b, place)) for title, place in places.items()]  # fmt: skip
    first, second = (found if isinstance(found := at(one, "environment"), dict) else {} for one in (a, b))  # fmt: skip
    for key in list(dict.fromkeys([*first, *second]))[:64]:
        if key not in _HIDDEN and not key.endswith("_reason"):
            mine, its = first.get(key), second.get(key)
            lines.append(Line(title=key, a=_short(mine), b=_short(its), differs=mine != its))
    return lines


def _figures(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Line]:
    lines = [
        Line(title=title, a=_short(at(a, place)), b=_short(at(b, place)), differs=at(a, place) != at(b, place))
        for title, place in _CONDITIONS.items()
        if at(a, place) is not None or at(b, place) is not None
    ]  # fmt: skip
    for name, metric in MODEL_METRICS.items():
        values = [number(one, metric.place) for one in (a, b)]
        if values == [None, None]:
            continue
        spans = [_span(at(one, _INTERVALS.get(name, ""))) for one in (a, b)]
        title = f"{metric.title}, {metric.unit}" if metric.unit else metric.title
        lines.append(
            Line(
                title=title,
                a=_text(values[0], spans[0]),
                b=_text(values[1], spans[1]),
                change=_change(*values),
                differs=_apart(*spans),
            )
        )
    return lines


def _candidates(report: Mapping[str, Any]) -> list[str]:
    rows = at(report, "candidates")
    return [str(at(one, "id")) for one in rows] if isinstance(rows, list) else []


def _span(value: object) -> tuple[float, float] | None:
    if (
        isinstance(value, list)
        and len(value) == 2
        and all(isinstance(v, (int, float)) for v in value)
    ):
        return (value[0], value[1])
    return None


def _apart(a: tuple[float, float] | None, b: tuple[float, float] | None) -> bool:
    return a is not None and b is not None and (a[1] < b[0] or b[1] < a[0])


def _text(value: float | None, span: Sequence[float] | None) -> str:
    interval = f" ({figure(span[0])}–{figure(span[1])})" if span else ""
    return f"{figure(value)}{interval}"


def _change(a: float | None, b: float | None) -> str:
    if a is None or b is None or a <= 0 or b <= 0:
        return ""
    return f"{100 * (b / a - 1):+.1f} %"


def _short(value: object) -> str:
    """Return a value as text, of digests and lists the beginning."""
    text = "–" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:37]}…"


ROUTES = (Route(path="/compare", endpoint=_compare),)
