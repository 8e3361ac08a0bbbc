"""What people see in a terminal: bars, tables, the answer. All on stderr; stdout is for results.

rich is loaded where something is shown: the daemon shares the command line and shows nothing.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.core.legible import legible
from agent.core.unknowns import unknowns

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID
    from rich.table import Table

_STYLE = {"chosen": "bold green", "feasible": "", "rejected": "dim"}
_WIDTH = 120  # of a log file
_LINE_EVERY_S = 5.0  # without a terminal: at most one line per stage in this time
_COLUMNS = (
    ("candidate", "left"), ("INT8", "right"), ("p50 ms", "right"), ("predicted", "right"),
    ("p99 ms", "right"), ("FPS", "right"), ("power", "right"), ("MB", "right"),
    ("SQNR dB", "right"), ("task", "right"), ("verdict", "left"),
)  # fmt: skip
_EXPENDABLE = ("predicted", "task", "MB", "INT8", "FPS", "power", "p99 ms", "SQNR dB")
"""Columns that go, in this order, from a terminal too narrow for all."""
_ANY_WIDTH = 10_000


def _console() -> Console:
    from rich.console import Console

    width = None if sys.stderr.isatty() else _WIDTH
    return Console(stderr=True, highlight=False, emoji=False, width=width)


def _safe(text: str) -> str:
    """Keep a text from outside from being obeyed, by the terminal or as markup."""
    from rich.markup import escape

    return escape(legible(text))


def show(text: str) -> None:
    """Print one line for a person."""
    _console().print(legible(text), markup=False, soft_wrap=True)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a plain table."""
    from rich.table import Table

    grid = Table(*columns, box=None, show_header=any(columns), pad_edge=False)
    for row in rows:
        grid.add_row(*map(_safe, row))
    _console().print(grid)


class ProgressBars:
    """One bar per stage; without a terminal one line per stage and every few seconds."""

    def __init__(self) -> None:
        from rich.progress import (
            BarColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
        )

        self._console = _console()
        self._live = self._console.is_terminal
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<11}"),
            BarColumn(bar_width=28),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=self._console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._told: dict[str, float] = {}

    def __enter__(self) -> ProgressBars:
        if self._live:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._bars.stop()

    def update(self, stage: str, done: int, total: int, note: str) -> None:
        """Show how far a stage is; total 0 means unknown."""
        note = legible(note)
        if not self._live:
            self._tell(stage, done, total, note)
            return
        if stage not in self._tasks:
            for earlier in self._tasks.values():
                self._bars.stop_task(earlier)
            self._tasks[stage] = self._bars.add_task(stage, total=None, note="")
        self._bars.update(self._tasks[stage], completed=done, total=total or None, note=note[:60])

    def _tell(self, stage: str, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        last = self._told.get(stage)
        finished = bool(total) and done >= total
        if last is not None and now - last < _LINE_EVERY_S and not finished:
            return
        self._told[stage] = now
        share = f"{100 * done / total:3.0f} %" if total else "     "
        self._console.print(f"{stage:<11} {share} {note}".rstrip(), markup=False, soft_wrap=True)


def summary(report: Mapping[str, Any], *, directory: Path, release: Path) -> None:
    """Print the answer of a run: the table, the choice and why, where everything lies."""
    console = _console()
    console.print()
    console.print(_fitting(console, report))
    at_rate = [one for one in report["candidates"] if (one["measured"] or {}).get("at_rate")]
    if at_rate:
        console.print(_at_rate_table(at_rate))
    for one in report["candidates"]:
        console.print(f"  [bold]{_safe(one['id'])}[/bold]: {_safe('; '.join(one['reasons']))}")
    for null in unknowns(report["candidates"]):
        text = f"{null.what}: {null.reason} ({', '.join(null.candidates)})"
        console.print(f"  no value of {_safe(text)}", style="dim")
    choice = report["choice"]
    calibration = report["calibration"]
    turned = ", ".join(f"{n} {why}" for why, n in calibration["rejected"].items() if n) or "none"
    console.print()
    for label, text in (
        ("frames", f"{calibration['frames']} to calibrate, {calibration['holdout']} held out, of "
                   f"{calibration['seen']} seen; turned away: {turned}"
                   + (" (SYNTHETIC)" if calibration["synthetic"] else "")
                   + _taken_over(calibration)),
        ("for INT8", "; ".join(report.get("conditioning", [])) or "nothing was tried"),
        ("choice", choice["why"]),
        ("activation", _activation(report["activation"])),
    ):  # fmt: skip
        console.print(f"[bold]{label:<11}[/bold]{_safe(text)}")
    places = [("report", f"{directory / 'report.html'}, {directory / 'report.json'}")]
    if report["activation"]["release"]:
        places.insert(0, ("release", f"{release} (what an application loads)"))
    for label, text in places:  # a path is copied, so no line end may come into it
        console.print(f"[bold]{label:<11}[/bold]{_safe(text)}", soft_wrap=True)


def next_steps(config: Path) -> None:
    """Print how to go on with one's own model and camera."""
    quantd = "quantd" if shutil.which("quantd") else _nearer(Path(sys.argv[0]))
    where = _nearer(config)
    console = _console()
    console.print("\nnext, with your own model and camera", style="bold")
    for line in (
        f"{quantd} check-config -c {where}   # what a configuration holds",
        f"{quantd} optimize -c {where} --model yours.onnx --camera v4l2:///dev/video0",
        f"{quantd} doctor -c {where}   # what this machine has and lacks",
    ):
        console.print(f"  {line}", markup=False, soft_wrap=True)


def _nearer(path: Path) -> str:
    """Return a path as one would type it here."""
    path = path.absolute()
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _fitting(console: Console, report: Mapping[str, Any]) -> Table:
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

    title = f"{_safe(report['model']['name'])} on {_safe(report['device'])}"
    caption = f"too narrow for: {', '.join(without)}" if without else None
    grid = Table(title=title, caption=caption, box=box.SIMPLE_HEAD, pad_edge=False)
    for name, side in _COLUMNS:
        if name not in without:
            grid.add_column(name, justify=side, no_wrap=True)  # type: ignore[arg-type]
    for one in report["candidates"]:
        cells = zip(_COLUMNS, _cells(one), strict=True)
        shown = [_safe(cell) for (name, _), cell in cells if name not in without]
        grid.add_row(*shown, style=_STYLE.get(one["verdict"], ""))
    return grid


def _cells(one: Mapping[str, Any]) -> list[str]:
    measured, fidelity = one["measured"], one["fidelity"]
    latency = measured["latency_ms"] if measured else {}
    power = measured["power_w"] if measured else None
    share = one["int8_macs_fraction"]
    return [
        one["id"],
        "-" if share is None else f"{share:.0%}",
        _number(latency.get("p50"), 2),
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


def _at_rate_table(candidates: Sequence[Mapping[str, Any]]) -> Table:
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
            _safe(one["id"]),
            _number(told["latency_ms"]["p50"], 2),
            _number(told["latency_ms"]["p99"], 2),
            _number(told["throughput_fps"], 1),
            f"{told['dropped']:.1%}",
            f"{power['mean']:.2f} W" if power else "-",
            "-" if energy_j is None else f"{1000 * energy_j:.1f} mJ",
            style=_STYLE.get(one["verdict"], ""),
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


def _taken_over(calibration: Mapping[str, Any]) -> str:
    """Say what the run did not capture itself; reports of earlier versions say nothing of it."""
    told = ""
    if calibration.get("reused"):
        when = calibration["captured"]
        told += "; of an earlier run" + (f", captured {when}" if when else "")
    if calibration.get("scale_captures", 0) > 1:
        told += (
            f"; INT8 scales from {calibration['scale_frames']} frames of "
            f"{calibration['scale_captures']} captures"
        )
    if calibration.get("not_extended"):
        told += f"; earlier statistics not added to: {calibration['not_extended']}"
    return told


def _activation(activation: Mapping[str, Any]) -> str:
    detail = f" ({activation['detail']})" if activation.get("detail") else ""
    release = f", release {activation['release']}" if activation["release"] else ""
    return f"{activation['state'].replace('_', ' ')}{release}{detail}"
