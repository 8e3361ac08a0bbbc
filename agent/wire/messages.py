"""The messages of the device: one struct each, all with the same envelope.

The structs are the schema: `configs/schema/*.json` is generated from them. Version 2 added the
model's figures, the releases and bounds; what version 1 sent fits them, so one struct reads both.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from agent.core.control.command import Stage
from agent.core.control.link import PACKET_LIMIT_BYTES

TEXT_LIMIT = 2000
SHORT_LIMIT = 128
ENTRIES_LIMIT = 64  # of a mapping
RELEASES_LIMIT = 64  # so that the longest list is below 64 KiB
_HIGHEST = 2**53 - 1  # exact in every reader of JSON, and in the integers of any database
_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")  # not one that a backslash quotes

Ulid = Annotated[str, Meta(pattern=r"^[0-7][0-9A-HJKMNP-TV-Z]{25}$(?!\n)")]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$(?!\n)")]
Word = Annotated[str, Meta(pattern=r"^[a-z0-9_]{1,64}$(?!\n)")]
METRIC_NAME = r"^[a-z0-9_]{1,40}$(?!\n)"
# The pattern is in the published schema; here it would take three times as long as all the rest.
MetricName = Annotated[
    str, Meta(min_length=1, max_length=40, extra_json_schema={"pattern": METRIC_NAME})
]
Time = Annotated[
    str,
    Meta(
        pattern=r"^(19[7-9]|20\d)\d-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
        r"T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?Z$(?!\n)"
    ),
]
Count = Annotated[int, Meta(ge=0, le=_HIGHEST)]
Short = Annotated[str, Meta(max_length=SHORT_LIMIT, pattern=r"^[^\x00]*$")]
Text = Annotated[str, Meta(max_length=TEXT_LIMIT, pattern=r"^[^\x00]*$")]
Whole = Annotated[int, Meta(ge=-_HIGHEST, le=_HIGHEST)]
Percent = Annotated[float, Meta(ge=0, le=100)]
Scalar = Text | Whole | float | bool | None
_Entries = Meta(max_length=ENTRIES_LIMIT)


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """What every message carries.

    Attributes:
        v: Version of the schema, 1 from devices of version 0.1; a consumer refuses any other.
        id: ULID; the same message sent twice has the same one.
        dev: The device.
        ts: RFC 3339, UTC, ms, when the message was made.
        mono_ms: Monotonic clock of the device at that moment, ms since `boot`.
        boot: The kernel's boot id.
        sess: Number of the connection, +1 per connect, kept over restarts.
        seq: Number within the stream (state, meta, releases, telemetry, event, report, result),
            kept over restarts; a hole is a message that was lost, replaced or given up.
        clock_ok: Whether the wall clock is synchronized, so that `ts` can be trusted.
    """

    v: Literal[1, 2] = 2
    id: Ulid
    dev: Name
    ts: Time
    mono_ms: Count
    boot: Short
    sess: Count
    seq: Count
    clock_ok: bool


class Outbox(msgspec.Struct, frozen=True, kw_only=True):
    """What waits on the device: number, bytes, age of the oldest, and losses ever since.

    Attributes:
        unheard: Messages since the daemon's start that the broker took without a subscriber.
    """

    n: Count
    bytes: Count
    oldest_s: float
    parked: Count
    dropped_total: Count
    unheard: Count = 0


class Active(msgspec.Struct, frozen=True, kw_only=True):
    """The release in use.

    Attributes:
        precision: Of its engine; null where its model.json can't be read.
        candidate: Of the report, as are precision and the figures in telemetry.
        measured: When the report that has these figures was finished; null without one.
    """

    release: Short
    model: Short = ""
    engine_sha256: Short | None = None
    precision: Short | None = None
    candidate: Short | None = None
    measured: Time | None = None


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What the device works on."""

    run_id: Short
    kind: Word
    stage: Short = ""
    pct: Percent | None = None


class State(Envelope, frozen=True, kw_only=True):
    """Retained. Birth, last will (`will` true) and farewell (status "shutdown").

    A consumer ignores a will with a `sess` below that of the last birth. `subscribed` is false
    where the broker denies the device its commands, so that it is online and answers none.
    """

    status: Literal["online", "offline", "shutdown"]
    agent: Short
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

    agent: Short
    labels: Annotated[Mapping[Short, Short], _Entries]
    environment: Annotated[Mapping[Short, Scalar], _Entries]
    models: Annotated[tuple[Name, ...], _Entries]
    commands: Annotated[tuple[Word, ...], _Entries]
    packet_limit_bytes: Count = PACKET_LIMIT_BYTES


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """A release on the device, which `activate` can name.

    Attributes:
        precision: Null where its model.json can't be read; so for model and candidate.
        made: When; null where its id does not contain a time.
        good: True if reload and health succeeded with it, false if it proved bad, null if it was
            never active to the end.
        reason: Why it is bad.
        pinned: Whether it is never removed.
    """

    id: Short
    model: Short | None = None
    candidate: Short | None = None
    precision: Short | None = None
    made: Time | None = None
    good: bool | None = None
    reason: Short = ""
    pinned: bool = False


class Releases(Envelope, frozen=True, kw_only=True):
    """Retained. The releases on the device, newest first.

    Attributes:
        active: The id of the one in use; null where none is.
        releases: The newest 64.
        total: How many there are.
    """

    active: Short | None
    releases: Annotated[tuple[Release, ...], Meta(max_length=RELEASES_LIMIT)]
    total: Count


class Telemetry(Envelope, frozen=True, kw_only=True):
    """Flat figures, the unit at the end of each name; null where it could not be measured.

    The model's figures are those of the release in use, from the report of `state.active.measured`.
    """

    m: Annotated[Mapping[MetricName, Whole | float | bool | None], _Entries]


class Event(Envelope, frozen=True, kw_only=True):
    """Something happened; `kind` is a snake_case verb phrase."""

    kind: Word
    severity: Literal["info", "warning", "error"]
    facts: Annotated[Mapping[Short, Any], _Entries]


class Report(Envelope, frozen=True, kw_only=True):
    """Retained. The last report on a model; `report` is report.json (schema/report.json)."""

    model: Name
    report: Mapping[str, Any]


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a run is; pct is null where the total is unknown."""

    step: Short
    pct: Percent | None = None
    eta_s: float | None = None


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """Why: a code for programs, a sentence for people."""

    code: Short
    detail: Text = ""


class Result(Envelope, frozen=True, kw_only=True):
    """One stage of a command; `version` grows with each change of stage or progress."""

    cmd_id: Name
    stage: Stage
    version: Count
    progress: Progress | None = None
    reason: Reason | None = None
    result_ref: Text | None = None


Message = State | Inventory | Releases | Telemetry | Event | Report | Result
_ENCODER = msgspec.json.Encoder(enc_hook=str)  # facts may hold anything; a text is better than none


def encode(message: Message) -> bytes:
    """Return the bytes of a message: UTF-8 JSON, NaN and infinities as null, no NUL in texts."""
    body = _ENCODER.encode(message)
    return _NUL.sub(rb"\1", body) if b"\\u0000" in body else body


def has_nul(body: bytes) -> bool:
    """Return whether a text in JSON contains NUL, which PostgreSQL can't store."""
    return b"\\u0000" in body and _NUL.search(body) is not None
