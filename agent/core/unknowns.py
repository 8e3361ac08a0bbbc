"""What a report has no value of, and why: each reason once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_REASONED = (
    ("measured", "power_w", "power", "power_reason"),
    ("measured", "energy_j", "energy", "energy_reason"),
    ("measured", "memory_mb", "memory", "memory_reason"),
    ("measured", "throttled", "throttling", "throttled_reason"),
    ("fidelity", "sqnr_db", "SQNR", "sqnr_reason"),
    ("fidelity", "agreement", "agreement with FP32", "agreement_reason"),
    ("predicted", "latency_p50_ms", "predicted latency", "basis"),
)  # table, key of the value, its name for people, key of the reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """What some candidates have no value of, and why."""

    what: str
    reason: str
    candidates: tuple[str, ...]


def unknowns(candidates: Sequence[Mapping[str, Any]]) -> tuple[Unknown, ...]:
    """Return what is null in candidates for a reason, each reason once.

    Args:
        candidates: As in report.json; keys that an earlier version did not write may be absent.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for table, key, what, reason in _REASONED:
        for one in candidates:
            values = one[table]
            if values and values.get(key) is None and values.get(reason):
                found.setdefault((what, values[reason]), []).append(one["id"])
    alike: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (what, reason), ids in found.items():
        alike.setdefault((reason, tuple(ids)), []).append(what)
    return tuple(
        Unknown(what=", ".join(names), reason=reason, candidates=ids)
        for (reason, ids), names in alike.items()
    )
