"""The figures of a device's telemetry, from the JSON of the store."""

from __future__ import annotations

import json


def numbers(figures: str) -> dict[str, float]:
    """Return the figures that are numbers; empty for what is no JSON object."""
    try:
        found = json.loads(figures) if figures else {}
    except ValueError:
        return {}
    if not isinstance(found, dict):
        return {}
    return {
        key: value
        for key, value in found.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }
