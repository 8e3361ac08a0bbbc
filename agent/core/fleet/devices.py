"""What is shown of the fleet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from agent.core.fleet.messages import FIGURES

RowT = TypeVar("RowT")

ATTENTION = ("silent", "failing", "worse", "outdated", "holes", "quarantined")
"""Why a device needs attention, the most urgent first.

silent: nothing heard for 5 minutes, or the broker sent its last will.
failing: its last run failed, or an error was announced since.
worse: slower or less faithful than its own report.
outdated: a newer good release lies on it, and none is pinned.
holes: numbers of events, reports or results are missing.
quarantined: a message of the last day could not be stored.
"""
GROUPED = ("status", "model", "board", "precision", "jetpack", "agent", "release")
"""Columns that devices are counted and filtered by, beside their labels."""
SORTS = ("attention", "name", "seen_ms", "report_at_ms", "missing", *GROUPED, *FIGURES)
"""What devices can be sorted by; where figures are equal or unknown, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One row of the fleet's table.

    Times are ms since 1970, 0 for never; figures are None where there is none.

    Attributes:
        seen_ms: When it was last heard, by the clock of the fleet's machine.
        state_at_ms: When its state was made.
        status: online, offline, shutdown; "" before its first state.
        attention: Of `ATTENTION`, the most urgent first.
        trouble: Why it is failing, in words.
        job: What it works on, JSON; "" for nothing.
        figures: Its last telemetry, JSON; "" before the first.
        figures_at_ms: When that was made.
        report_at_ms: When its last report was made.
        missing: How many numbers are missing in its streams.
        quarantined: How many of its messages could not be stored, ever.
    """

    name: str
    seen_ms: int
    status: str
    state_at_ms: int
    agent: str
    release: str
    model: str
    precision: str
    board: str
    jetpack: str
    attention: tuple[str, ...]
    trouble: str
    job: str
    figures: str
    figures_at_ms: int
    report_at_ms: int
    report_model: str
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    throughput_fps: float | None
    power_w: float | None
    energy_j: float | None
    memory_mb: float | None
    sqnr_db: float | None
    agreement: float | None
    int8_macs_fraction: float | None
    missing: int
    quarantined: int
    waiting: int
    dropped: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceDetail:
    """Everything else of a device; `environment`, `models`, `commands`, `releases` are JSON."""

    device: Device
    first_ms: int
    labels: Mapping[str, str]
    environment: str
    models: str
    commands: str
    releases: str
    holes: tuple[Hole, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hole:
    """Numbers of a stream that did not come, both ends included."""

    device: str
    stream: str
    first: int
    last: int
    noticed_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceQuery:
    """Which devices, in which order.

    Attributes:
        search: Part of the name.
        where: Values that must be equal: columns of `GROUPED`, or labels.
        attention: Only devices that need it for this reason; "any" for any, "" for all.
        sort: Of `SORTS`.
    """

    search: str = ""
    where: tuple[tuple[str, str], ...] = ()
    attention: str = ""
    sort: str = "attention"
    descending: bool = True
    limit: int = 50
    offset: int = 0

    def __post_init__(self) -> None:
        """Check what chooses columns.

        Raises:
            ValueError: if one is unknown.
        """
        if self.sort not in SORTS:
            raise ValueError(f"sort: {self.sort[:40]!r} is not one of {', '.join(SORTS)}")
        if self.attention not in {"", "any", *ATTENTION}:
            raise ValueError(
                f"attention: {self.attention[:40]!r} is none of {', '.join(ATTENTION)}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[RowT]):
    """Some rows, and how many there are in all."""

    rows: tuple[RowT, ...]
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many devices: all, by value of each column of `GROUPED`, by reason of attention."""

    devices: int
    by: Mapping[str, Mapping[str, int]]
    attention: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """One event; `facts` is JSON."""

    device: str
    id: str
    at_ms: int
    kind: str
    severity: str
    facts: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRow:
    """One stage of a command."""

    device: str
    id: str
    at_ms: int
    command: str
    stage: str
    version: int
    step: str
    pct: float | None
    code: str
    detail: str
    reference: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRow:
    """What tables show of a report. The figures are those of the chosen candidate."""

    device: str
    id: str
    at_ms: int
    model: str
    model_sha256: str
    run: str
    precision: str
    runtime: str
    candidate: str
    release: str
    activation: str
    headline: str
    trouble: str
    board: str
    jetpack: str
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    throughput_fps: float | None
    power_w: float | None
    energy_j: float | None
    memory_mb: float | None
    sqnr_db: float | None
    agreement: float | None
    int8_macs_fraction: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineRow:
    """A message that could not be stored; the device is "" if none of that name is known."""

    device: str
    at_ms: int
    topic: str
    sha256: str
    size: int
    head: bytes
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Figures of a device at a moment, JSON; of an hour [n, mean, least, greatest] each.

    Attributes:
        span_ms: 0 for one message, 3,600,000 for an hour.
    """

    at_ms: int
    span_ms: int
    figures: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A process that stores messages, as it last reported; its counts are since it started."""

    name: str
    started_ms: int
    seen_ms: int
    stored: int
    duplicates: int
    quarantined: int
    retired: bool
