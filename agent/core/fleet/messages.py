"""Messages of devices as they are stored: checked, bounded, one tuple each.

Named tuples, not dataclasses: one is made for each message and bound to SQL as it is, in a third of
the time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

Order = tuple[int, int, int]
"""Of a device's states: session, 1 for its last will, number. The greatest is the newest."""


class State(NamedTuple):
    """How a device is; `job` is JSON, "" while it works on nothing."""

    status: str
    agent: str
    release: str
    model: str
    precision: str
    job: str
    waiting: int
    dropped: int


class Inventory(NamedTuple):
    """What a device is; labels, environment, models and commands are JSON."""

    board: str
    jetpack: str
    labels: tuple[tuple[str, str], ...]
    environment: str
    models: str
    commands: str


class Releases(NamedTuple):
    """The releases of a device as JSON, the newest good one, and whether one is pinned."""

    listed: str
    newest: str
    pinned: bool


class Telemetry(NamedTuple):
    """Figures as JSON, and as they are by name."""

    figures: str
    values: Mapping[str, float | None]

    @property
    def known(self) -> tuple[float | None, ...]:
        """Return those of `FIGURES`, in its order, None where it has none."""
        found = map(self.values.get, FIGURES)
        return tuple([None if value is None else float(value) for value in found])


class Event(NamedTuple):
    """Something happened; `facts` is JSON."""

    kind: str
    severity: str
    facts: str


class Result(NamedTuple):
    """One stage of a command; `final` is whether none can follow."""

    command: str
    stage: str
    version: int
    step: str
    pct: float | None
    code: str
    detail: str
    reference: str


class Report(NamedTuple):
    """A report: report.json compressed by zlib, and what tables show of it.

    Attributes:
        known: Those of `FIGURES` that the chosen candidate has, in its order.
        trouble: Why the run did not end well; "" if it did.
    """

    model: str
    model_sha256: str
    run: str
    precision: str
    runtime: str
    candidate: str
    release: str
    activation: str
    headline: str
    known: tuple[float | None, ...]
    trouble: str
    size: int
    body: bytes


Body = State | Inventory | Releases | Telemetry | Event | Result | Report

STORED_ONCE = frozenset({Telemetry, Event, Result, Report})
"""Each of these is kept; of the others the newest of a device."""


class Received(NamedTuple):
    """One message of a device.

    Attributes:
        device: That of the topic, which the broker binds to the certificate.
        id: The ULID as 16 bytes; a message that comes twice has the same one.
        order: Of its session and number.
        at_ms: When it was made, ms since 1970; by our clock if the device's isn't synchronized.
        received_ms: When it came here.
    """

    device: str
    id: bytes
    order: Order
    at_ms: int
    received_ms: int
    body: Body


class Quarantined(NamedTuple):
    """A message that can't be stored.

    Attributes:
        head: Its first bytes.
        size: Of all of it, in bytes.
        why: What is wrong with it, for a person.
    """

    device: str
    topic: str
    sha256: str
    head: bytes
    size: int
    why: str
    received_ms: int


FIGURES = (
    "latency_p50_ms",
    "latency_p99_ms",
    "throughput_fps",
    "power_w",
    "energy_j",
    "memory_mb",
    "sqnr_db",
    "agreement",
    "int8_macs_fraction",
)
"""Figures of a model that have columns of their own, to sort and compare by: those of telemetry.

Another one needs a step of the schema.
"""
