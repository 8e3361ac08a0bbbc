"""What a device can be asked to do: one type per request, with its arguments.

`wire.commands` derives from them what may arrive, by the valid values of each argument. A task is
carried out by the worker (`wiring.work`); the other requests are answered by the step itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Expect:
    """What must be true of the device when a command is carried out (compare-and-set).

    Attributes:
        release: Id of the active release; None where none is active.
    """

    release: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimize:
    """Run the whole chain again, for the configured model.

    With reuse_calibration the frames of a release serve again and the camera is not opened.

    Attributes:
        model: Must be the configured model's name; None for whichever it is.
        reuse_calibration: Whether to use the frames of a release instead of the camera.
        limits: Values that replace configured limits, by name; 0 lifts a limit.
        reason: The operator's words, for the record. So are those of the other requests.
        expect: What must be true when it arrives and when it begins. So must that of the others.
        replaces: Release that is rebuilt because it no longer fits the machine; None if none is.
            No command has it: the daemon sets it itself.
    """

    command: ClassVar[str] = "reoptimize"
    kind: ClassVar[str] = "optimize"
    model: str | None = None
    reuse_calibration: bool = False
    limits: Mapping[str, float] = field(default_factory=dict)
    reason: str | None = None
    expect: Expect | None = None
    replaces: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Activate:
    """Make an existing release current."""

    command: ClassVar[str] = "activate"
    kind: ClassVar[str] = "activate"
    release: str
    reason: str | None = None
    expect: Expect | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RollBack:
    """Make the newest good release that is not the current one current.

    Attributes:
        to: The release to roll back to, None until it begins. No command has it: it is stored once,
            before the switch, so that a run taken up again switches to the same one.
    """

    command: ClassVar[str] = "rollback"
    kind: ClassVar[str] = "rollback"
    reason: str | None = None
    expect: Expect | None = None
    to: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelWork:
    """Cancel the command or the run of an id; without a target, what is running."""

    command: ClassVar[str] = "cancel"
    target: str | None = None
    reason: str | None = None
    expect: Expect | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResendMessages:
    """Send stored messages again, by number; without a stream, reports and results.

    Attributes:
        from_seq: First number.
        to_seq: Last number; None for all that follow.
    """

    command: ClassVar[str] = "resend"
    from_seq: int = 0
    to_seq: int | None = None
    stream: Literal["event", "report", "result"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping:
    """Answer with the daemon's status."""

    command: ClassVar[str] = "ping"


Task = Optimize | Activate | RollBack
Request = Task | CancelWork | ResendMessages | Ping
