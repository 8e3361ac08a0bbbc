"""The change against the release before, in words.

Reports are as in report.json; keys that an earlier version did not write may be absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent.core.report.figures import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownChange:
    """One figure before and now; "" where it is unknown, with the reason."""

    name: str
    before: str
    now: str
    change: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Figure:
    name: str
    unit: str
    scale: float = 1.0
    difference: bool = False  # instead of a ratio, which means nothing for it


_FIGURES = {
    "latency_p50_ms": _Figure(name="median latency", unit="ms"),
    "latency_p99_ms": _Figure(name="p99 latency", unit="ms"),
    "throughput_fps": _Figure(name="throughput", unit="FPS"),
    "power_w": _Figure(name="power", unit="W"),
    "energy_j": _Figure(name="energy of a frame", unit="mJ", scale=1e3),
    "memory_mb": _Figure(name="memory", unit="MB"),
    "sqnr_db": _Figure(name="SQNR of the worst channels", unit="dB", difference=True),
    "agreement": _Figure(name="agreement", unit="%", scale=100.0, difference=True),
}


def change_sentence(report: Mapping[str, Any]) -> str:
    """Return what the chosen engine is compared with, and how fast it is against it.

    Empty if an earlier version did not report it.
    """
    found = report.get("against_previous")
    if not found:
        reason = report.get("against_previous_reason", "")
        return f"Not compared: {reason}." if reason else ""
    when = found["measured"][:16].replace("T", " ")
    measured = "measured in this run, too" if found["same_run"] else f"measured {when} UTC"
    engine = f" ({found['candidate']}, {measured})" if found["candidate"] else ""
    speedup = found["speedup"]
    if speedup["factor"] is None:
        speed = f"speed not compared: {speedup['reason']}"
    else:
        span = speedup["ci95"]
        noise = (
            f"95 % interval {span[0]:.3g} to {span[1]:.3g}"
            + (", so within the noise" if span[0] <= 1 <= span[1] else "")
            if span
            else f"no interval: {speedup['ci95_reason']}"
        )
        speed = f"{speedup['factor']:.3g} times as fast ({noise})"
    return f"Against release {found['release']}{engine}: {speed}."


def changes(report: Mapping[str, Any]) -> tuple[ShownChange, ...]:
    """Return the figures of the release before and of now; those known of neither are left out."""
    figures = (report.get("against_previous") or {}).get("figures") or {}
    return tuple(
        _shown(_FIGURES[key], one)
        for key, one in figures.items()
        if key in _FIGURES and (one["before"] is not None or one["now"] is not None)
    )


def _shown(figure: _Figure, one: Row) -> ShownChange:
    before, now = one["before"], one["now"]
    change = ""
    if before is not None and now is not None and (figure.difference or before):
        change = (
            f"{figure.scale * (now - before):+.3g} {'points' if figure.unit == '%' else figure.unit}"
            if figure.difference
            else f"{100 * (now / before - 1):+.0f} %"
        )
    return ShownChange(
        name=figure.name,
        before=_amount(figure, before),
        now=_amount(figure, now),
        change=change,
        reason=one["reason"],
    )


def _amount(figure: _Figure, value: float | None) -> str:
    if value is None:
        return ""
    value *= figure.scale
    return f"{value:.0f} {figure.unit}" if value >= 100 else f"{value:.3g} {figure.unit}"
