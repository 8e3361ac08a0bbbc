"""Values as the pages write them; what is unknown is a dash."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from math import isfinite
from types import MappingProxyType
from typing import Any

from markupsafe import Markup

UNKNOWN = "–"
_STEPS = ((86_400 * 2, 86_400, "d"), (3600 * 2, 3600, "h"), (120, 60, "min"))


def moment(seconds: float | None) -> Markup | str:
    """Return a moment as UTC to the second, for machines and people; from s since 1970."""
    if seconds is None or not isfinite(seconds):
        return UNKNOWN
    found = datetime.fromtimestamp(seconds, timezone.utc)
    return Markup('<time datetime="{}">{}</time>').format(
        found.isoformat(timespec="seconds"), _utc(seconds)
    )


def duration(seconds: float | None) -> str:
    """Return a length of time in the largest unit of which there are two: "90 s", "36 h"."""
    if seconds is None or not isfinite(seconds):
        return UNKNOWN
    for least, unit_s, unit in _STEPS:
        if seconds >= least:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{max(seconds, 0.0):.0f} s"


def figure(value: float | None, digits: int = 3) -> str:
    """Return a number with so many significant digits, without an exponent up to a million."""
    if value is None or not isfinite(value):
        return UNKNOWN
    if value and abs(value) >= 10**digits:
        return f"{value:,.0f}" if abs(value) < 1e9 else f"{value:.3g}"
    return f"{value:.{digits}g}"


def ago(then_ms: float, now_ms: float) -> Markup | str:
    """Return how long ago a moment is, which the page's script keeps up; both in ms since 1970."""
    if not then_ms:
        return "never"
    return Markup('<time data-at="{}" title="{}">{} ago</time>').format(
        int(then_ms), f"{_utc(then_ms / 1000)}", duration((now_ms - then_ms) / 1000)
    )


def parsed(text: str) -> Any:
    """Return JSON of the store as values, None for what is empty or no JSON."""
    try:
        return json.loads(text) if text else None
    except ValueError:
        return None


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


WORDS: Mapping[str, Callable[..., object]] = MappingProxyType(
    {"moment": moment, "duration": duration, "figure": figure, "ago": ago, "parsed": parsed}
)
