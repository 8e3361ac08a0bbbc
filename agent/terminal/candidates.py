"""The tables of candidates."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agent.terminal.console import safe

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

STYLE = {"chosen": "bold green", "feasible": "", "rejected": "dim"}
_COLUMNS = (
    ("candidate", "left"), ("INT8", "right"), ("p50 ms", "right"), ("predicted", "right"),
    ("p99 ms", "right"), ("FPS", "right"), ("power", "right"), ("MB", "right"),
    ("SQNR dB", "right"), ("task", "right"), ("verdict", "left"),
)  # fmt: skip
_EXPENDABLE = ("predicted", "task", "MB", "INT8", "FPS", "power", "p99 ms", "SQNR dB")
"""Columns that go, in this order, from a terminal too narrow for all."""
_ANY_WIDTH = 10_000
_DOUBTFUL = "*"


def fitting_table(console: Console, report: Mapping[str, Any]) -> Table:
    """Return the table with as many columns as the terminal shows whole; a file shows all."""
    wide = console.options.update(width=_ANY_WIDTH)
    grid = candidates_table(report)
    if not console.is_terminal:
        console.width = max(console.width, console.measure(grid, options=wide).maximum)
    for count in range(1, len(_EXPENDABLE) + 1):
        if console.measure(grid, options=wide).maximum <= console.width:
            break
        grid = candidates_table(report, without=_EXPENDABLE[:count])
    return grid


def candidates_table(report: Mapping[str, Any], *, without: Collection[str] = ()) -> Table:
    """Return the table of candidates with their verdicts, less the columns left out."""
    from rich import box
    from rich.table import Table

    title = f"{safe(report['model']['name'])} on {safe(report['device'])}"
    notes = [f"too narrow for: {', '.join(without)}"] if without else []
    if any(one.get("flags") for one in report["candidates"]):
        notes.append(f"{_DOUBTFUL} doubtful, see the reasons")
    caption = "; ".join(notes) or None
    grid = Table(title=title, caption=caption, box=box.SIMPLE_HEAD, pad_edge=False)
    for name, side in _COLUMNS:
        if name not in without:
            grid.add_column(name, justify=side, no_wrap=True)  # type: ignore[arg-type]
    for one in report["candidates"]:
        cells = zip(_COLUMNS, _cells(one), strict=True)
        shown = [safe(cell) for (name, _), cell in cells if name not in without]
        grid.add_row(*shown, style=STYLE.get(one["verdict"], ""))
    return grid


def _cells(one: Mapping[str, Any]) -> list[str]:
    measured, fidelity = one["measured"], one["fidelity"]
    latency = measured["latency_ms"] if measured else {}
    power = measured["power_w"] if measured else None
    share = one["int8_macs_fraction"]
    return [
        one["id"],
        "-" if share is None else f"{share:.0%}",
        _number(latency.get("p50"), 2) + (_DOUBTFUL if one.get("flags") else ""),
        _expected(one["predicted"]),
        _number(latency.get("p99"), 2),
        _number(measured["throughput_fps"] if measured else None, 1),
        f"{power['mean']:.2f} W" if power else "-",
        _number(measured["memory_mb"] if measured else None, 0),
        _fidelity(fidelity),
        ", ".join(f"{name} {value:.3f}" for name, value in fidelity["task"].items()) or "-"
        if fidelity
        else "-",
        one["verdict"],
    ]


def at_rate_table(candidates: Sequence[Mapping[str, Any]]) -> Table:
    """Return the table of what was measured at the application's frame rate."""
    from rich import box
    from rich.table import Table

    rate_fps = candidates[0]["measured"]["at_rate"]["rate_fps"]
    grid = Table(title=f"at {rate_fps:g} FPS", box=box.SIMPLE_HEAD, pad_edge=False)
    grid.add_column("candidate")
    for name in ("p50 ms", "p99 ms", "FPS", "dropped", "power", "energy"):
        grid.add_column(name, justify="right", no_wrap=True)
    for one in candidates:
        told = one["measured"]["at_rate"]
        power, energy_j = told["power_w"], told["energy_j"]
        grid.add_row(
            safe(one["id"]),
            _number(told["latency_ms"]["p50"], 2),
            _number(told["latency_ms"]["p99"], 2),
            _number(told["throughput_fps"], 1),
            f"{told['dropped']:.1%}",
            f"{power['mean']:.2f} W" if power else "-",
            "-" if energy_j is None else f"{1000 * energy_j:.1f} mJ",
            style=STYLE.get(one["verdict"], ""),
        )
    return grid


def _expected(predicted: Mapping[str, Any]) -> str:
    """Return the prediction with its interval; reports of earlier versions have none."""
    span = predicted.get("latency_p50_ms_ci90")
    told = _number(predicted["latency_p50_ms"], 2)
    if not span:
        return told
    missed = "!" if predicted.get("inside") is False else ""
    return f"{told} [{span[0]:.3g}, {span[1]:.3g}]{missed}"


def _fidelity(fidelity: Mapping[str, Any] | None) -> str:
    if fidelity is None:
        return "-"
    return "exact" if fidelity["sqnr_db"] is None else f"{fidelity['sqnr_db']:.1f}"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
