"""An operator's view of the commands that were sent: the newest answer of each device."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from agent.core.control.command import CommandId, Stage

_EXIT_CODES = {Stage.ROLLED_BACK: 4}
_INFEASIBLE = "infeasible"


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """One command to one device, and what is known of it.

    Attributes:
        stage: As last answered; None before an answer.
        version: Of that answer; answers may come twice and in any order.
        step: The stage of the run that executes, with its progress in percent; "" if none does.
        trouble: Why no answer is expected: what the broker replied, or that it expired; else "".
    """

    device: str
    id: CommandId
    stage: Stage | None = None
    version: int = -1
    code: str = ""
    detail: str = ""
    step: str = ""
    percent: float | None = None
    result: str = ""
    trouble: str = ""

    @property
    def ended(self) -> bool:
        """Return whether nothing more is expected."""
        return bool(self.trouble) or (self.stage is not None and self.stage.final)

    def answered(self, answer: Followed) -> Followed:
        """Return it with an answer, if that is newer than what is known."""
        return answer if answer.version > self.version else self

    def lost(self, trouble: str) -> Followed:
        """Return it as given up, unless it has ended."""
        return self if self.ended else replace(self, trouble=trouble)


def exit_code(commands: Iterable[Followed]) -> int:
    """Return the exit code for the outcome of all: 0 only if every one succeeded.

    Returns:
        3 if all that did not succeed found no feasible candidate, 4 if all of them rolled back,
        1 for any other failure.
    """
    codes = {
        3 if one.code == _INFEASIBLE else _EXIT_CODES.get(one.stage, 1) if one.stage else 1
        for one in commands
        if one.stage is not Stage.SUCCEEDED
    }
    return codes.pop() if len(codes) == 1 else 1 if codes else 0
