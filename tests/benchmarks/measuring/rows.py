"""What every part of `make bench-measure` yields."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table.

    Attributes:
        what: What was measured, as the table says it.
        goal: The figure aimed at, in words.
        found: The figure, in words, with its unit.
        met: Whether it is within the goal; None where it could not be measured.
        detail: Everything behind it, for the JSON.
    """

    what: str
    goal: str
    found: str
    met: bool | None
    detail: dict[str, object]
