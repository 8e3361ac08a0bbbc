"""An operator's view of the commands that were sent: the newest answer of each device."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from agent.core.control.command import CommandId, Stage

_EXIT_CODES = {Stage.ROLLED_BACK: 4}
_INFEASIBLE = "infeasible"
_LATE_S = 10.0  # after its expiry, an answer may still be on its way
_AGAIN_S = 2.0
_ABSENT_S = 20.0  # a device connects again within seconds of a broker's restart, most of them

Key = tuple[str, CommandId]
"""Device and command."""
ABSENT = "absent"
"""Code of a command that the broker has no subscriber for, so that it was not stored there."""


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


class Following:
    """Commands that were published, and what is known of each. Times are s, of one clock each.

    Args:
        expiry_s: When each expires, s since 1970.
        patient: Whether a device that has not subscribed yet is given time.

    Attributes:
        waiting: Those that have not ended.
    """

    def __init__(self, expiry_s: Mapping[Key, float], *, patient: bool = True) -> None:
        self.waiting = dict(expiry_s)
        self._patient = patient
        self._known = {key: Followed(device=key[0], id=key[1]) for key in expiry_s}
        self._absent: dict[Key, tuple[float, float]] = {}  # since when, when to publish again

    @property
    def found(self) -> Sequence[Followed]:
        """Return what is known of all, in their order."""
        return list(self._known.values())

    def take(self, found: Followed, now_s: float) -> None:
        """Take an answer of a device, or the trouble that the broker has with a command."""
        key = found.device, found.id
        if key not in self._known:
            return
        if found.code == ABSENT and found.trouble and self._patient:
            since_s, _ = self._absent.get(key, (now_s, 0.0))
            self._absent[key] = since_s, now_s + _AGAIN_S
            if now_s - since_s < _ABSENT_S:
                return
        before = self._known[key]
        after = before.lost(found.trouble) if found.trouble else before.answered(found)
        self._known[key] = after
        if after.ended:
            self.waiting.pop(key, None)

    def due(self, now_s: float) -> Sequence[Key]:
        """Return the commands to publish again: the device had not subscribed."""
        due = [key for key, (_, at_s) in self._absent.items() if at_s <= now_s]
        for key in due:
            self._absent[key] = self._absent[key][0], now_s + _AGAIN_S
        return [key for key in due if key in self.waiting]

    def expire(self, utc_s: float, late_s: float = _LATE_S) -> None:
        """Give up the commands that expired without an answer, `late_s` ago."""
        for key, expiry_s in list(self.waiting.items()):
            if self._known[key].stage is None and utc_s > expiry_s + late_s:
                self._known[key] = self._known[key].lost("it expired without an answer")
                del self.waiting[key]


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
