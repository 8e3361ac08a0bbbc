"""The tables of candidates."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agent.core.report.figures import AT_RATE_FIGURES, FIGURES, Figure, shown_figures
from agent.terminal.console import safe

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

STYLE = {"chosen": "bold green", "feasible": "", "rejected": "dim"}
_ANY_WIDTH = 10_000
_DOUBTFUL = "*"
_MARKED = "measured.latency_ms.p50"  # the figure that bears it


def fitting_table(console: Console, report: Mapping[str, Any]) -> Table:
    """Return the table with as many columns as the terminal shows whole; a file shows all."""
    wide = console.options.update(width=_ANY_WIDTH)
    grid = candidates_table(report)
    if not console.is_terminal:
        console.width = max(console.width, console.measure(grid, options=wide).maximum)
    columns = shown_figures(FIGURES, "terminal", report["candidates"])
    dropped = [one.terminal for one in sorted(columns, key=lambda one: one.rank)]
    for count in range(1, len(dropped)):
        if console.measure(grid, options=wide).maximum <= console.width:
            break
        grid = candidates_table(report, without=dropped[:count])
    return grid


def candidates_table(report: Mapping[str, Any], *, without: Collection[str] = ()) -> Table:
    """Return the table of candidates with their verdicts, without some of the columns."""
    title = f"{safe(report['model']['name'])} on {safe(report['device'])}"
    notes = [f"too narrow for: {', '.join(without)}"] if without else []
    if any(one.get("flags") for one in report["candidates"]):
        notes.append(f"{_DOUBTFUL} doubtful, see the reasons")
    caption = "; ".join(notes) or None
    shown = shown_figures(FIGURES, "terminal", report["candidates"])
    columns = [figure for figure in shown if figure.terminal not in without]
    return _table(columns, report["candidates"], title=title, caption=caption, verdicts=True)


def at_rate_table(candidates: Sequence[Mapping[str, Any]]) -> Table:
    """Return the table of what was measured at the application's frame rate."""
    title = f"at {candidates[0]['measured']['at_rate']['rate_fps']:g} FPS"
    columns = shown_figures(AT_RATE_FIGURES, "terminal", candidates)
    return _table(columns, candidates, title=title)


def _table(
    columns: Sequence[Figure],
    candidates: Sequence[Mapping[str, Any]],
    *,
    title: str,
    caption: str | None = None,
    verdicts: bool = False,
) -> Table:
    from rich import box
    from rich.table import Table

    grid = Table(title=title, caption=caption, box=box.SIMPLE_HEAD, pad_edge=False)
    grid.add_column("candidate", no_wrap=True)
    for figure in columns:
        grid.add_column(figure.terminal, justify="right", no_wrap=True)
    if verdicts:
        grid.add_column("verdict", no_wrap=True)
    for one in candidates:
        cells = [one["id"], *(_cell(figure, one) for figure in columns)]
        if verdicts:
            cells.append(one["verdict"])
        grid.add_row(*map(safe, cells), style=STYLE.get(one["verdict"], ""))
    return grid


def _cell(figure: Figure, one: Mapping[str, Any]) -> str:
    text = figure.cell(one, figure.terminal).replace("\n", ", ") or "-"
    return text + _DOUBTFUL if figure.value == _MARKED and one.get("flags") else text
