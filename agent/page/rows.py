"""The rows of the candidates' tables: cells with their intervals, bars of latency, looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.core.report.figures import Figure, Row, shown_figures
from agent.page.chart import colour, marker

_LONGEST = (
    4.0  # times the largest p50: a bar ends there, so that one slow p99 leaves the others long
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How a candidate is drawn in all places: class of its colour, path of its marker."""

    css: str
    shape: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A figure of a candidate: its text and its 95 % interval, each empty if there is none."""

    title: str
    text: str
    span: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """Latency as percent of the longest bar; what is longer ends at 100.

    Attributes:
        cut: Whether p99 is longer than the bar.
        spans: The 95 % intervals of p50 and p99.
    """

    p50: float
    p99: float
    cut: bool
    spans: tuple[tuple[float, float], ...]


def looks(rows: Sequence[Row]) -> dict[str, Look]:
    """Return how each candidate looks, by its place on the page."""
    return {
        one["id"]: Look(css=colour(number), shape=marker(number)) for number, one in enumerate(rows)
    }


def cells(rows: Sequence[Row], figures: Sequence[Figure]) -> dict[str, list[Cell]]:
    """Return the cells of a table by candidate; figures that none has are left out."""
    shown = [
        figure
        for figure in shown_figures(figures, "page", rows)
        if any(figure.cell(one, figure.page) for one in rows)
    ]
    return {
        one["id"]: [
            Cell(title=figure.page, text=figure.cell(one, figure.page), span=figure.span(one))
            for figure in shown
        ]
        for one in rows
    }


def bars(rows: Sequence[Row]) -> dict[str, Bar]:
    """Return the bar of each candidate that was measured, all to one scale."""
    latencies = {one["id"]: one["measured"]["latency_ms"] for one in rows if one["measured"]}
    if not latencies:
        return {}
    ends = [max(one["p99"], (one["ci95_p99"] or (0.0, 0.0))[1]) for one in latencies.values()]
    longest = min(max(ends), _LONGEST * max(one["p50"] for one in latencies.values())) or 1.0
    return {name: _bar(one, longest) for name, one in latencies.items()}


def _bar(latency_ms: Mapping[str, Any], longest_ms: float) -> Bar:
    def percent(value_ms: float) -> float:
        return round(min(100 * value_ms / longest_ms, 100.0), 2)

    found = (latency_ms["ci95_p50"], latency_ms["ci95_p99"])
    return Bar(
        p50=percent(latency_ms["p50"]),
        p99=percent(latency_ms["p99"]),
        cut=latency_ms["p99"] > longest_ms,
        spans=tuple((percent(one[0]), percent(one[1])) for one in found if one),
    )
