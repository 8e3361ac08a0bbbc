"""What a device can be asked to do: one type per request, with its arguments.

`wire.commands` has the arguments as they arrive, and which of them are valid. A task is carried
out by the worker (`wiring.daemon`); the other requests are answered by the step itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimize:
    """Run the whole chain.

    Attributes:
        model: Must be the configured model's name; None for whichever it is.
        reuse_calibration: Whether to use the frames of a release instead of the camera.
        limits: Values that replace configured limits, by name.
        reason: The operator's words, for the record. So are those of the other requests.
        replaces: Release that is rebuilt because it no longer fits the machine; None if none is.
    """

    command: ClassVar[str] = "reoptimize"
    kind: ClassVar[str] = "optimize"
    model: str | None = None
    reuse_calibration: bool = False
    limits: Mapping[str, float] = field(default_factory=dict)
    reason: str | None = None
    replaces: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Activate:
    """Make an existing release current."""

    command: ClassVar[str] = "activate"
    kind: ClassVar[str] = "activate"
    release: str
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RollBack:
    """Make the release before the current one current again."""

    command: ClassVar[str] = "rollback"
    kind: ClassVar[str] = "rollback"
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelWork:
    """Cancel a command or a run by its id; `target` None means what is running."""

    command: ClassVar[str] = "cancel"
    target: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResendMessages:
    """Send stored messages again, from a number on; `stream` None means reports and results."""

    command: ClassVar[str] = "resend"
    from_seq: int = 0
    stream: Literal["event", "report", "result"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping:
    """Answer with the daemon's status."""

    command: ClassVar[str] = "ping"


Task = Optimize | Activate | RollBack
Request = Task | CancelWork | ResendMessages | Ping
