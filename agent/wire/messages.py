"""The messages of the device: one struct each, all with the same envelope.

The structs are the schema: `configs/schema/*.json` is generated from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from agent.core.control.command import Stage
from agent.core.control.link import PACKET_LIMIT_BYTES

TEXT_LIMIT = 2000
Scalar = str | int | float | bool | None


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """What every message carries.

    Attributes:
        v: Version of the schema; a consumer refuses one it doesn't know.
        id: ULID; the same message sent twice has the same one.
        dev: The device.
        ts: RFC 3339, UTC, ms, when the message was made.
        mono_ms: Monotonic clock of the device at that moment, ms since `boot`.
        boot: The kernel's boot id.
        sess: Number of the connection, +1 per connect, kept over restarts.
        seq: Number within the stream (state, meta, telemetry, event, report, result), kept
            over restarts; a hole is a message that was lost, replaced or given up.
        clock_ok: Whether the wall clock is synchronized, so that `ts` can be trusted.
    """

    v: Literal[1] = 1
    id: Annotated[str, Meta(pattern="^[0-7][0-9A-HJKMNP-TV-Z]{25}$")]
    dev: str
    ts: str
    mono_ms: int
    boot: str
    sess: Annotated[int, Meta(ge=0)]
    seq: Annotated[int, Meta(ge=0)]
    clock_ok: bool


class Outbox(msgspec.Struct, frozen=True, kw_only=True):
    """What waits on the device: number, bytes, age of the oldest, and losses ever since.

    Attributes:
        unheard: Messages since the daemon's start that the broker took without a subscriber.
    """

    n: int
    bytes: int
    oldest_s: float
    parked: int
    dropped_total: int
    unheard: int = 0


class Active(msgspec.Struct, frozen=True, kw_only=True):
    """The release in use."""

    release: str
    model: str = ""
    engine_sha256: str | None = None


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What the device works on."""

    run_id: str
    kind: str
    stage: str = ""
    pct: float | None = None


class State(Envelope, frozen=True, kw_only=True):
    """Retained. Birth, last will (`will` true) and farewell (status "shutdown").

    A consumer ignores a will whose `sess` is below that of the last birth. `subscribed` is false
    where the broker denies the device its commands, so that it is online and answers none.
    """

    status: Literal["online", "offline", "shutdown"]
    agent: str
    will: bool = False
    outbox: Outbox | None = None
    active: Active | None = None
    job: Job | None = None
    subscribed: bool | None = None


class Inventory(Envelope, frozen=True, kw_only=True):
    """Retained, on `meta`. What the device is and can do.

    Attributes:
        packet_limit_bytes: The broker drops a larger message to the device without a word.
    """

    agent: str
    labels: Mapping[str, str]
    environment: Mapping[str, Scalar]
    models: tuple[str, ...]
    commands: tuple[str, ...]
    packet_limit_bytes: int = PACKET_LIMIT_BYTES


class Telemetry(Envelope, frozen=True, kw_only=True):
    """Flat figures, the unit at the end of each name; null where it could not be measured."""

    m: Mapping[str, float | int | bool | None]


class Event(Envelope, frozen=True, kw_only=True):
    """Something happened; `kind` is a snake_case verb phrase."""

    kind: str
    severity: Literal["info", "warning", "error"]
    facts: Mapping[str, Any]


class Report(Envelope, frozen=True, kw_only=True):
    """Retained. The last report on a model; `report` is report.json (schema/report.json)."""

    model: str
    report: Mapping[str, Any]


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a run is; pct is null where the total is unknown."""

    step: str
    pct: float | None = None
    eta_s: float | None = None


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """Why: a code for programs, a sentence for people."""

    code: str
    detail: str = ""


class Result(Envelope, frozen=True, kw_only=True):
    """One stage of a command; `version` grows with each change of stage or progress."""

    cmd_id: str
    stage: Stage
    version: int
    progress: Progress | None = None
    reason: Reason | None = None
    result_ref: str | None = None


Message = State | Inventory | Telemetry | Event | Report | Result
_ENCODER = msgspec.json.Encoder(enc_hook=str)  # facts may hold anything; a text is better than none


def encode(message: Message) -> bytes:
    """Return the bytes of a message: UTF-8 JSON, NaN and infinities as null."""
    return _ENCODER.encode(message)
