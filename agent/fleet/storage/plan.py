"""What a batch of messages changes in the database: rows to add, and the newest of each device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.core.fleet.messages import (
    Body,
    Event,
    Inventory,
    Order,
    Received,
    Releases,
    Report,
    Result,
    State,
    Telemetry,
)
from agent.fleet.storage.schema import STREAMS

Row = tuple[object, ...]


@dataclass(slots=True)
class Plan:
    """The changes of one batch; devices are by their numbers in the database.

    Attributes:
        seen_ms: When each device was last heard; a last will is the broker's word, not its own.
        online: The newest state of a running daemon.
        ended: The newest last will or farewell, which does not know what was active.
        figures: Id, time and figures of the newest telemetry.
        answers: The last stage of each command on each device: version, id, stage.
        trouble: Id and trouble of the newest message that shows how the last run ended.
        came: Ids and numbers of each stream's messages, by device and kind.
    """

    seen_ms: dict[int, int] = field(default_factory=dict)
    online: dict[int, tuple[Order, int, State]] = field(default_factory=dict)
    ended: dict[int, tuple[Order, int, State]] = field(default_factory=dict)
    inventories: dict[int, tuple[Order, Inventory]] = field(default_factory=dict)
    releases: dict[int, tuple[Order, Releases]] = field(default_factory=dict)
    figures: dict[int, tuple[bytes, int, Telemetry]] = field(default_factory=dict)
    newest_reports: dict[int, tuple[bytes, int, Report]] = field(default_factory=dict)
    answers: dict[tuple[str, int], tuple[int, bytes, str]] = field(default_factory=dict)
    trouble: dict[int, tuple[bytes, str]] = field(default_factory=dict)
    came: dict[tuple[int, int], list[tuple[bytes, int]]] = field(default_factory=dict)
    telemetry: list[Row] = field(default_factory=list)
    events: list[Row] = field(default_factory=list)
    results: list[Row] = field(default_factory=list)
    reports: list[Row] = field(default_factory=list)

    @property
    def devices(self) -> list[int]:
        """Return the devices of all messages, in order."""
        return sorted({*self.seen_ms, *self.ended})


_FAILED = {"FAILED", "TIMED_OUT", "ROLLED_BACK"}


def plan(messages: Sequence[Received], numbers: Mapping[str, int]) -> Plan:
    """Return what a batch changes.

    Args:
        messages: In any order.
        numbers: Of the devices, by name.
    """
    made = Plan()
    seen_ms = made.seen_ms
    for one in messages:
        dev = numbers[one.device]
        _TAKE[type(one.body)](made, dev, one, one.body)
        if seen_ms.get(dev, 0) < one.received_ms and not one.order[1]:
            seen_ms[dev] = one.received_ms
    return made


def _telemetry(made: Plan, dev: int, one: Received, body: Telemetry) -> None:
    made.telemetry.append((dev, one.id, one.at_ms, body.figures))
    known = made.figures.get(dev)
    if known is None or one.id > known[0]:
        made.figures[dev] = (one.id, one.at_ms, body)


def _state(made: Plan, dev: int, one: Received, body: State) -> None:
    states = made.online if body.status == "online" else made.ended
    if dev not in states or one.order > states[dev][0]:
        states[dev] = (one.order, one.at_ms, body)


def _inventory(made: Plan, dev: int, one: Received, body: Inventory) -> None:
    if dev not in made.inventories or one.order > made.inventories[dev][0]:
        made.inventories[dev] = (one.order, body)


def _releases(made: Plan, dev: int, one: Received, body: Releases) -> None:
    if dev not in made.releases or one.order > made.releases[dev][0]:
        made.releases[dev] = (one.order, body)


def _event(made: Plan, dev: int, one: Received, body: Event) -> None:
    made.events.append((dev, one.id, one.at_ms, *body))
    made.came.setdefault((dev, STREAMS["event"]), []).append((one.id, one.order[2]))
    if body.severity == "error":
        _ended(made, dev, one.id, body.kind)


def _result(made: Plan, dev: int, one: Received, body: Result) -> None:
    made.results.append((dev, one.id, one.at_ms, *body))
    made.came.setdefault((dev, STREAMS["result"]), []).append((one.id, one.order[2]))
    last = (body.version, one.id, body.stage)
    key = (body.command, dev)
    if key not in made.answers or last > made.answers[key]:
        made.answers[key] = last
    if body.stage in _FAILED:
        _ended(made, dev, one.id, body.detail or body.code or body.stage)


def _report(made: Plan, dev: int, one: Received, body: Report) -> None:
    *shown, known, trouble, size, content = body
    made.reports.append((dev, one.id, one.at_ms, *shown, trouble, size, content, *known))
    made.came.setdefault((dev, STREAMS["report"]), []).append((one.id, one.order[2]))
    if dev not in made.newest_reports or one.id > made.newest_reports[dev][0]:
        made.newest_reports[dev] = (one.id, one.at_ms, body)
    _ended(made, dev, one.id, trouble)


def _ended(made: Plan, dev: int, message: bytes, trouble: str) -> None:
    if dev not in made.trouble or message > made.trouble[dev][0]:
        made.trouble[dev] = (message, trouble)


_TAKE: dict[type[Body], Callable[[Plan, int, Received, Any], None]] = {
    Telemetry: _telemetry,
    State: _state,
    Inventory: _inventory,
    Releases: _releases,
    Event: _event,
    Result: _result,
    Report: _report,
}
