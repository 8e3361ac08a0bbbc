"""What `core.control.step` wants done: the loop performs these in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent.core.control.command import Stage
from agent.core.control.events import Severity, Work
from agent.core.control.requests import ResendMessages


@dataclass(frozen=True, slots=True)
class PublishState:
    """Publish state (and on a new connection meta) as it now is."""

    with_meta: bool = False


@dataclass(frozen=True, slots=True)
class PublishTelemetry:
    """Publish one set of figures of the daemon and the device."""


@dataclass(frozen=True, slots=True)
class PublishEvent:
    """Publish a lifecycle event."""

    kind: str
    severity: Severity
    facts: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class PublishReport:
    """Publish the report of a run, if it made one."""

    run_id: str


@dataclass(frozen=True, slots=True)
class Answer:
    """Persist a command's stage, then publish it."""

    command_id: str
    stage: Stage
    code: str = ""
    detail: str = ""
    step: str = ""
    percent: float | None = None
    result: str = ""


@dataclass(frozen=True, slots=True)
class Begin:
    """Persist the run and hand it to the worker."""

    work: Work


@dataclass(frozen=True, slots=True)
class Reach:
    """Persist that a run has reached a stage."""

    run_id: str
    stage: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """Cancel the work that the worker does.

    Attributes:
        final: Whether a command asked for it, so that no restart takes the run up again. Else the
            daemon stops, which costs the run no attempt.
    """

    run_id: str
    final: bool


@dataclass(frozen=True, slots=True)
class Close:
    """Persist how a run ended."""

    run_id: str
    outcome: str


@dataclass(frozen=True, slots=True)
class Resend:
    """Publish stored messages again."""

    request: ResendMessages


@dataclass(frozen=True, slots=True)
class Exit:
    """Leave the loop."""


Effect = (
    PublishState
    | PublishTelemetry
    | PublishEvent
    | PublishReport
    | Answer
    | Begin
    | Reach
    | Cancel
    | Close
    | Resend
    | Exit
)
Effects = tuple[Effect, ...]
