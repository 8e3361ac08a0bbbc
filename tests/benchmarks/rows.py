"""A figure beside its goal, and the table of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

_MET = {True: "yes", False: "no", None: "not measured"}


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
    detail: dict[str, object] = field(default_factory=dict)


def cells(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Return what stands in the table, its head first."""
    lines = [("what", "goal", "found", "met")]
    return [*lines, *((row.what, row.goal, row.found, _MET[row.met]) for row in rows)]


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Return a table for a terminal."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        + "\n"
        for line in lines
    )


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Return a table for the README."""
    head, *rest = lines
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, ["---"] * len(head), *rest))
