"""Telemetry of an hour, reduced."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def hour_of(samples: Iterable[Mapping[str, float | None]]) -> dict[str, list[float]]:
    """Return of each figure how many values there were, their mean, the least and the greatest.

    Args:
        samples: Figures by name; None is no value.
    """
    values: dict[str, list[float]] = {}
    for sample in samples:
        for name, value in sample.items():
            if value is not None:
                values.setdefault(name, []).append(float(value))
    return {
        name: [len(found), float(f"{sum(found) / len(found):.7g}"), min(found), max(found)]
        for name, found in values.items()
    }
