"""What happens to the daemon, and the work it does: the input of `core.control.step`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from agent.core.control.command import Command, Stage
from agent.core.control.requests import Task

Severity = Literal["info", "warning", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One task for the worker."""

    task: Task
    run_id: str
    trigger: str
    command_id: str | None = None
    attempt: int = 1

    @property
    def kind(self) -> str:
        """Return the kind of task, as events and the state name it."""
        return self.task.kind


@dataclass(frozen=True, slots=True)
class Online:
    """The broker accepted the connection."""


@dataclass(frozen=True, slots=True)
class Offline:
    """The connection was lost or refused."""

    reason: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A command was judged acceptable and is safely stored.

    Attributes:
        run_id: For the work that it asks for; empty where it asks for none.
        active: The active release, None where none is.
        accepted: Whether it was accepted before a restart, so that it can't be refused any more.
    """

    command: Command
    run_id: str
    now_ns: int
    active: str | None = None
    accepted: bool = False


@dataclass(frozen=True, slots=True)
class Resume:
    """Work that a restart found unfinished."""

    work: Work


@dataclass(frozen=True, slots=True)
class Progressed:
    """The worker got on."""

    run_id: str
    stage: str
    done: int
    total: int
    note: str
    now_ns: int


@dataclass(frozen=True, slots=True)
class Doubted:
    """The worker found the input of a model doubtful, before a search begins."""

    run_id: str
    detail: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The worker is free again."""

    run_id: str
    stage: Stage
    code: str = ""
    detail: str = ""
    result: str = ""


@dataclass(frozen=True, slots=True)
class Due:
    """A scheduled run should begin."""

    run_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outdated:
    """The active release no longer fits or loads; `works` mend it, in this order."""

    kind: str
    severity: Severity
    facts: Mapping[str, object]
    works: tuple[Work, ...] = ()


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed."""

    now_ns: int


@dataclass(frozen=True, slots=True)
class Stop:
    """The service manager or a person wants the daemon to end."""


Event = (
    Online | Offline | Asked | Resume | Due | Outdated | Progressed | Doubted | Ended | Tick | Stop
)
