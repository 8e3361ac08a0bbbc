"""Remote commands: what they are, which are refused and why, and the stages they go through.

A command that was seen is never run twice. Refusals are values: the code goes on the wire.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import NewType

from agent.core.control.requests import Expect, Request

CommandId = NewType("CommandId", str)

BODY_LIMIT_BYTES = 64 * 1024
CLOCK_SKEW_S = 30.0  # how far the issuer's clock may be ahead of ours
_FARTHEST_BEHIND_S = 100 * 365.25 * 86_400  # that an unsynchronized clock can be
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # one MQTT topic level, never a path


class Stage(Enum):
    """How far a command has come (names as in AWS IoT Jobs where it has them)."""

    RECEIVED = "RECEIVED"
    ACCEPTED = "ACCEPTED"
    REJECTED = "REJECTED"
    QUEUED = "QUEUED"
    IN_PROGRESS = "IN_PROGRESS"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    CANCELED = "CANCELED"
    ROLLED_BACK = "ROLLED_BACK"

    @property
    def final(self) -> bool:
        """Return whether nothing can follow this stage."""
        return not _NEXT[self]


_ENDS = {Stage.SUCCEEDED, Stage.FAILED, Stage.TIMED_OUT, Stage.CANCELED, Stage.ROLLED_BACK}
_NEXT: dict[Stage, set[Stage]] = {
    Stage.RECEIVED: {Stage.ACCEPTED, Stage.REJECTED},
    # REJECTED may follow ACCEPTED: "busy" is known only when the command's turn comes.
    Stage.ACCEPTED: {Stage.REJECTED, Stage.QUEUED, Stage.IN_PROGRESS, *_ENDS},
    Stage.QUEUED: {Stage.IN_PROGRESS, *_ENDS},
    # A run taken up again after a restart may have to wait, and reports progress many times.
    Stage.IN_PROGRESS: {Stage.QUEUED, Stage.IN_PROGRESS, *_ENDS},
    Stage.REJECTED: set(),
    **{end: set() for end in _ENDS},
}


def may_follow(before: Stage, after: Stage) -> bool:
    """Return whether a command may go from one stage to the other."""
    return after in _NEXT[before]


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One decoded command.

    Attributes:
        dev: The device it names, None if it names none.
        iat: When it was issued, s since 1970; None if not stated. So are nbf and exp,
            the times before and from which it is not valid.
        digest: sha256 of the bytes as they arrived, hex.
        signed: Whether a trusted key signed it.
    """

    id: CommandId
    request: Request
    dev: str | None = None
    iat: float | None = None
    nbf: float | None = None
    exp: float | None = None
    digest: str = ""
    signed: bool = False

    @property
    def type(self) -> str:
        """Return its type on the wire."""
        return self.request.command


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a command is not run.

    Attributes:
        code: bad_json, too_large, unsupported, wrong_device, expired, exp_too_far, not_yet,
            conflict, bad_signature, policy, retained, stale_precondition or
            busy.
        detail: One sentence for a person.
        cause: What only the device's own log shows, "" if there is nothing more.
    """

    code: str
    detail: str
    cause: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The circumstances in which a command arrived.

    Attributes:
        device: This device's id.
        now_s: Wall clock, s since 1970.
        clock_ok: Whether the wall clock is synchronized; if not, it may be far behind.
        retained: Whether the broker sent it from its store of retained messages.
        require_signature: Whether unsigned commands are refused.
        max_exp_s: How long a signed command may be valid at most.
    """

    device: str
    now_s: float
    clock_ok: bool
    retained: bool
    require_signature: bool
    max_exp_s: float


def is_command_id(text: str) -> bool:
    """Return whether a text can be a command's id: letters, digits, '.', '_', '-', at most 64."""
    return _ID.fullmatch(text) is not None


def judge(command: Command, receipt: Receipt) -> Rejection | None:
    """Return why a command must not run, or None if it may.

    The inbox finds out whether it was seen before. With an unsynchronized clock (a Jetson
    without a clock battery starts in the past) `iat` and `nbf` can't be judged and are not;
    `exp` still is, and the inbox still keeps a command from running twice. How long a signed
    command is valid is counted from `iat` or `nbf` too, which needs no clock.
    """
    if receipt.retained:
        return Rejection("retained", "commands must not be published with the retain flag")
    if receipt.require_signature and not command.signed:
        return Rejection("bad_signature", "this device takes signed commands only")
    if command.dev is not None and command.dev != receipt.device:
        return Rejection("wrong_device", f"for {command.dev}, this is {receipt.device}")
    if command.exp is not None and command.exp <= receipt.now_s:
        return Rejection("expired", f"expired {receipt.now_s - command.exp:.0f} s ago")
    earliest = max(command.iat or 0.0, command.nbf or 0.0)
    if receipt.clock_ok and earliest > receipt.now_s + CLOCK_SKEW_S:
        return Rejection("not_yet", f"valid in {earliest - receipt.now_s:.0f} s")
    return _too_long(command, receipt)


def judge_expectation(expect: Expect | None, active: str | None) -> Rejection | None:
    """Return why a command's `expect` is not met by the active release, or None if it is."""
    if expect is None or expect.release == active:
        return None
    seen, wanted = active or "no release", expect.release or "no release"
    return Rejection("stale_precondition", f"{seen} is active, the command expects {wanted}")


def _too_long(command: Command, receipt: Receipt) -> Rejection | None:
    """Return why a signed command is valid for too long: until then it could be sent again."""
    if command.exp is None or not command.signed:
        return None
    latest_now_s = receipt.now_s + (CLOCK_SKEW_S if receipt.clock_ok else _FARTHEST_BEHIND_S)
    begins = [begin for begin in (command.iat, command.nbf) if begin is not None]
    longest_s = command.exp - min((latest_now_s, *begins))
    if longest_s <= receipt.max_exp_s:
        return None
    return Rejection(
        "exp_too_far",
        f"valid for {longest_s:.0f} s, commands.max_exp_s = {receipt.max_exp_s:g} is the limit",
    )
