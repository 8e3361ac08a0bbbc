"""Commands on their way to devices, for an operator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from agent.core.control.command import Stage
from agent.core.control.following import Followed
from agent.terminal.bars import ProgressBars
from agent.terminal.console import show, table

_LISTED = 50
_FEW = 8
_UNREACHABLE = "UNREACHABLE"
_WAITING = "no answer yet"


class FollowedCommands:
    """Progress of commands: one bar each for a few devices, one for all of many."""

    def __init__(self, bars: ProgressBars) -> None:
        self._bars = bars
        self._seen: dict[str, Followed] = {}

    def update(self, commands: Sequence[Followed]) -> None:
        """Show what is known of all commands."""
        if len(commands) > 1:
            ended = sum(one.ended for one in commands)
            self._bars.update("devices", ended, len(commands), counted(commands))
        if len(commands) > _FEW:
            return
        for one in commands:
            if self._seen.get(one.device) == one:
                continue
            self._seen[one.device] = one
            done = 100 if one.ended else round(one.percent or 0)
            known = one.ended or one.percent is not None
            words = " ".join(filter(None, (_stage(one), one.step, one.detail)))
            self._bars.update(one.device, done, 100 if known else 0, words)


def counted(commands: Sequence[Followed]) -> str:
    """Return how many commands are at each stage, in words."""
    counts = Counter(_stage(one) for one in commands)
    return ", ".join(f"{count} {stage}" for stage, count in counts.most_common())


def outcome(commands: Sequence[Followed]) -> None:
    """Print what became of the commands: each of a few, else those that did not succeed."""
    listed = [one for one in commands if one.stage is not Stage.SUCCEEDED]
    if len(commands) <= _LISTED:
        listed = list(commands)
    rows = [
        (one.device, _stage(one), one.code, one.trouble or one.detail) for one in listed[:_LISTED]
    ]
    if rows:
        table(("device", "stage", "code", "detail"), rows)
    if len(listed) > _LISTED:
        show(f"... and {len(listed) - _LISTED} more, all of them with --json")
    if len(commands) > 1:
        show(counted(commands))


def _stage(one: Followed) -> str:
    if one.trouble:
        return _UNREACHABLE
    return one.stage.value if one.stage else _WAITING
