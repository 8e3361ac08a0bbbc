"""Progress bars; without a terminal, a line now and then."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from agent.core.report.wording import escape_unprintable
from agent.terminal.console import console

if TYPE_CHECKING:
    from rich.progress import TaskID

_LINE_EVERY_S = 5.0  # without a terminal: at most one line per stage in this time


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

        self._console = console()
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
        self._printed_s: dict[str, float] = {}

    def __enter__(self) -> ProgressBars:
        if self._live:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._bars.stop()

    def update(self, stage: str, done: int, total: int, note: str) -> None:
        """Show how far a stage is; total 0 means unknown."""
        note = escape_unprintable(note)
        if not self._live:
            self._print_line(stage, done, total, note)
            return
        if stage not in self._tasks:
            for earlier in self._tasks.values():
                self._bars.stop_task(earlier)
            self._tasks[stage] = self._bars.add_task(stage, total=None, note="")
        self._bars.update(self._tasks[stage], completed=done, total=total or None, note=note[:60])

    def _print_line(self, stage: str, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        last = self._printed_s.get(stage)
        finished = bool(total) and done >= total
        if last is not None and now - last < _LINE_EVERY_S and not finished:
            return
        self._printed_s[stage] = now
        share = f"{100 * done / total:3.0f} %" if total else "     "
        self._console.print(f"{stage:<11} {share} {note}".rstrip(), markup=False, soft_wrap=True)
