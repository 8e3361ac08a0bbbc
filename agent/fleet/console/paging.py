"""Pages of 50 rows, by their numbers in the query."""

from __future__ import annotations

from agent.fleet.console.access import Asked

ROWS = 50
_LAST = 10_000


def page_number(asked: Asked, name: str = "page") -> int:
    """Return the number of the page that is asked for, from 1; 1 for what is no number."""
    text = asked.query.get(name, "1")
    return (
        min(max(int(text), 1), _LAST) if text.isascii() and text.isdigit() and len(text) < 9 else 1
    )
