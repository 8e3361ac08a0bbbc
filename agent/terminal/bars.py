"""Progress bars; without a terminal, a line now and then."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from agent.core.prediction.time_left import TimeLeft
from agent.core.report.wording import escape_unprintable
from agent.terminal.console import console

if TYPE_CHECKING:
    from rich.progress import TaskID

    from agent.core.prediction.run_time import RunTime

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
        self._left: TimeLeft | None = None
        self._whole: TaskID | None = None

    def __enter__(self) -> ProgressBars:
        if self._live:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._bars.stop()

    def announce(self, expected: RunTime) -> None:
        """Print what the run is expected to take; show what is left of it from now on."""
        self._left = TimeLeft(expected=expected, began_s=time.monotonic())
        lines = (f"expected    {expected.total}", *(" " * 12 + one for one in expected.details))
        for line in lines:
            self._console.print(line, markup=False, soft_wrap=True)
        if self._live:
            self._whole = self._bars.add_task("whole run", total=None, note="")

    def update(self, stage: str, done: int, total: int, note: str) -> None:
        """Show how far a stage is; total 0 means unknown."""
        note = escape_unprintable(note)
        if self._left is not None:
            self._left.observe(stage, done, total, time.monotonic())
        if not self._live:
            self._print_line(stage, done, total, note)
            return
        if stage not in self._tasks:
            for earlier in self._tasks.values():
                self._bars.stop_task(earlier)
            self._tasks[stage] = self._bars.add_task(stage, total=None, note="")
        self._bars.update(self._tasks[stage], completed=done, total=total or None, note=note[:60])
        if self._left is not None and self._whole is not None:
            spent_s = self._left.spent_s
            self._bars.update(
                self._whole,
                completed=spent_s,
                total=spent_s + self._left.left_s or None,
                note=self._left.words,
            )

    def warn(self, words: str) -> None:
        """Show what is doubtful, above the bars."""
        text = f"warning: {escape_unprintable(words)}"
        self._console.print(text, markup=False, soft_wrap=True, style="bold yellow")

    def _print_line(self, stage: str, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        last = self._printed_s.get(stage)
        finished = bool(total) and done >= total
        if last is not None and now - last < _LINE_EVERY_S and not finished:
            return
        self._printed_s[stage] = now
        share = f"{100 * done / total:3.0f} %" if total else "     "
        left = f"   {self._left.words}" if self._left and not finished else ""
        line = f"{stage:<11} {share} {note}".rstrip() + left
        self._console.print(line, markup=False, soft_wrap=True)
