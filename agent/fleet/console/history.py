"""A device's reports over time, as charts and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from agent.core.fleet.devices import ReportRow
from agent.core.report.figures import at
from agent.core.report.metrics import reported_row
from agent.fleet.reading import document
from agent.page.chart import Axis, Chart, marker
from agent.ports.fleet import FleetStore

_REPORTS = 20
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """A candidate's latency as predicted, with its 90 % interval, and as measured; ms."""

    candidate: str
    predicted_ms: float
    interval_ms: tuple[float, float] | None
    measured_ms: float | None
    inside: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A chart with its title."""

    title: str
    svg: Markup


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What is known of a device's reports, newest first.

    Attributes:
        newest: The newest one's row; None if there is none.
        predicted: Of the newest one's candidates.
    """

    rows: tuple[ReportRow, ...]
    newest: ReportRow | None
    predicted: tuple[Predicted, ...]
    charts: tuple[Drawn, ...]


_CHARTS = (
    ("p50 latency, ms", "measured.latency_ms.p50", "measured.latency_ms.ci95_p50"),
    ("energy per inference, J", "load.energy_j", "load.energy_j_ci95"),
    ("agreement with FP32", "fidelity.agreement", "fidelity.agreement_ci95"),
)
_COLUMNS = ("latency_p50_ms", "energy_j", "agreement")  # of `_CHARTS`, without a report.json


def history(store: FleetStore, device: str, now_ms: int) -> History:
    """Return the last 20 reports of a device."""
    rows = tuple(store.reports(device, limit=_REPORTS))
    chosen = [reported_row(document(store, device, one.id) or {}, one.candidate) for one in rows]
    newest = document(store, device, rows[0].id) if rows else None
    return History(
        rows=rows,
        newest=rows[0] if rows else None,
        predicted=tuple(_predicted(newest or {})),
        charts=tuple(_charts(rows, chosen, now_ms)),
    )


def _predicted(report: Mapping[str, Any]) -> list[Predicted]:
    rows = at(report, "candidates")
    found = []
    for one in rows if isinstance(rows, list) else ():
        expected, measured = at(one, "predicted.latency_p50_ms"), at(one, "measured.latency_ms.p50")
        inside = at(one, "predicted.inside")
        if _is_number(expected):
            found.append(
                Predicted(
                    candidate=str(at(one, "id")),
                    predicted_ms=expected,
                    interval_ms=_interval(at(one, "predicted.latency_p50_ms_ci90")),
                    measured_ms=measured if _is_number(measured) else None,
                    inside=inside if isinstance(inside, bool) else None,
                )
            )
    return found


def _charts(
    rows: Sequence[ReportRow], chosen: Sequence[Mapping[str, Any]], now_ms: int
) -> list[Drawn]:
    drawn = []
    for (title, _, interval), column in zip(_CHARTS, _COLUMNS, strict=True):
        points = [
            ((one.at_ms - now_ms) / _DAY_MS, value, _interval(at(its, interval)))
            for one, its in zip(rows, chosen, strict=True)
            if (value := getattr(one, column)) is not None
        ]
        if len(points) > 1:
            drawn.append(Drawn(title=title, svg=_chart(title, points)))
    return drawn


def _chart(title: str, points: Sequence[tuple[float, float, tuple[float, float] | None]]) -> Markup:
    """Return a chart of values with their intervals, over days before now."""
    ends = [end for _, value, span in points for end in (value, *(span or ()))]
    low, high = min(ends), max(ends)
    pad = 0.15 * (high - low) or 0.1 * abs(high) or 1.0
    first = min(day for day, _, _ in points)
    chart = Chart(
        Axis(low=min(first * 1.05, -1.0), high=0.0, title="days ago"),
        Axis(low=max(low - pad, 0.0) if low >= 0 else low - pad, high=high + pad, title=title),
        height_px=170,
    )
    ordered = sorted(points)
    chart.line([(day, value) for day, value, _ in ordered], "c0")
    for day, value, span in ordered:
        chart.point((day, value), (None, span), marker(0), "c0")
    return chart.drawn(f"{title} of {len(points)} reports, over days before now")


def _interval(value: object) -> tuple[float, float] | None:
    if isinstance(value, list) and len(value) == 2 and all(map(_is_number, value)):
        return (value[0], value[1])
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
