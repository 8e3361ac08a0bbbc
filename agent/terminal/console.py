"""The console on standard error; text from outside is escaped."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from agent.core.report.wording import escape_unprintable

if TYPE_CHECKING:
    from rich.console import Console


_WIDTH = 120  # of a log file


def console() -> Console:
    """Return where to print: standard error, as wide as the terminal or as a log file may be."""
    from rich.console import Console

    width = None if sys.stderr.isatty() else _WIDTH
    return Console(stderr=True, highlight=False, emoji=False, width=width)


def safe(text: str) -> str:
    """Escape a text from outside for the terminal and for markup."""
    from rich.markup import escape

    return escape(escape_unprintable(text))


def show(text: str) -> None:
    """Print one line for a person."""
    console().print(escape_unprintable(text), markup=False, soft_wrap=True)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a plain table."""
    from rich.table import Table

    grid = Table(*columns, box=None, show_header=any(columns), pad_edge=False)
    for row in rows:
        grid.add_row(*map(safe, row))
    console().print(grid)
