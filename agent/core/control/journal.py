"""The records of the journal: what waits to be sent, what was received, what ran."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from agent.core.control.command import Stage


class MessageClass(Enum):
    """Classes of messages, in the order in which they are given up when space runs out."""

    TELEMETRY = "telemetry"
    INFO = "info"
    WARNING = "warning"
    STATE = "state"
    RESULT = "result"
    REPORT = "report"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One message to be sent.

    Attributes:
        stream: What `number` counts: state, meta, telemetry, event, report or result.
        number: The message's `seq` within its stream.
        expiry_s: Seconds after which it is worthless; 0 means never.
        replaces: Whether it makes unsent earlier messages of its topic pointless.
    """

    topic: str
    body: bytes
    message_class: MessageClass
    stream: str
    number: int
    qos: int = 1
    retain: bool = False
    expiry_s: int = 0
    replaces: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A message in the outbox; `key` is its place, `age_s` how long it has waited, s."""

    key: int
    message: Outgoing
    age_s: float


@dataclass(frozen=True, slots=True)
class Evicted:
    """Messages of one stream that were given up: how many, and which numbers they lie between."""

    stream: str
    message_class: str
    count: int
    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxLimits:
    """How much may wait.

    Attributes:
        total_bytes: Above this, the least valuable class loses its oldest messages first.
        keep_s: Results and reports are not given up before this age.
        most_bytes: Above this, they are.
        sent_bytes: How much of what was sent is kept for `resend`.
    """

    total_bytes: int = 16 * 1024 * 1024
    keep_s: float = 30 * 86_400.0
    most_bytes: int = 64 * 1024 * 1024
    sent_bytes: int = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class OutboxCounts:
    """What waits, and what was lost since the journal began."""

    waiting: int
    waiting_bytes: int
    oldest_s: float
    parked: int
    evicted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A command in the inbox, with the last thing that was answered.

    Attributes:
        args: The decoded arguments as JSON.
        version: +1 with every answer.
    """

    command_id: str
    sha256: str
    type: str
    args: str
    stage: Stage
    version: int
    code: str
    detail: str
    result: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What is answered to a command: a stage, and why or what came of it."""

    stage: Stage
    code: str = ""
    detail: str = ""
    result: str = ""


class Arrival(Enum):
    """Whether the inbox knows a command that has arrived."""

    NEW = "new"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """An unfinished run as the journal knows it; the spec is JSON.

    Attributes:
        attempts: How often it has begun since it last reached a new stage.
        canceled: Whether a command cancelled it.
    """

    run_id: str
    trigger: str
    command_id: str | None
    spec: str
    attempts: int
    canceled: bool = False
